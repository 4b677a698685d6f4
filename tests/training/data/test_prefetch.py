"""A thread that reads ahead: order, bounds, errors, and its end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from scrollpast.training.data.prefetch import Prefetched


def test_items_come_in_their_order() -> None:
    assert list(Prefetched(iter(range(100)), 3)) == list(range(100))


def test_no_more_is_read_ahead_than_asked_for() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    source = Prefetched(items(), 3)
    assert next(source) == 0
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        assert len(made) <= 5  # one taken, three ready, one in the hand
        time.sleep(0.01)
    source.close()
    assert len(made) <= 5


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    source = Prefetched(items(), 2)
    assert next(source) == 1
    with pytest.raises(ValueError, match="broken"):
        next(source)


def test_closing_ends_the_iterator_too() -> None:
    ended: list[bool] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append(True)

    source = Prefetched(items(), 2)
    next(source)
    source.close()
    source.close()
    del source
    assert ended == [True]
