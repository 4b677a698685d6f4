"""Groups of few users or ads are not shown: k-anonymity (Sweeney, IJUFKS 10(5), 2002)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from scrollpast.report import wording

NEW_USERS, KNOWN_USERS = "new users", "known users"
"""The two parts of the users of an evaluation; names of their metrics end with these words."""


def held_back(sizes: Mapping[str, int], floor: int) -> frozenset[str]:
    """Groups of a whole that are not told, given how many users or ads each has.

    Those are the groups below the floor, and as many of the next larger ones as it takes for the rest of the whole to
    say nothing of fewer than the floor either: what is held back is, together, at least that many, or all there is.
    Empty groups say nothing of anybody.
    """
    in_order = sorted((size, name) for name, size in sizes.items() if size)
    held: list[str] = []
    total = 0
    for size, name in in_order:
        if size >= floor and not 0 < total < floor:
            break
        held.append(name)
        total += size
    return frozenset(held)


def are_few(numbers: Iterable[float], floor: int) -> bool:
    """Whether any of these groups has somebody, and fewer than the floor."""
    return any(0 < number < floor for number in numbers)


def untold_user_parts(num_new: int, num_users: int, floor: int) -> frozenset[str]:
    """Parts of the users of an evaluation that are not told: all users less one part are the other."""
    return held_back({NEW_USERS: num_new, KNOWN_USERS: num_users - num_new}, floor)


def is_of_part(metric: str, parts: Collection[str]) -> bool:
    """Whether a metric, such as ``slices/recall@100, new users``, is one of these parts of the users."""
    return metric.rpartition(", ")[2] in parts


def joined(sizes: NDArray[np.int64], floor: int) -> list[tuple[int, int]]:
    """Neighbouring groups put together until each has so many, or nothing.

    Args:
        sizes: int64 [G], users or ads of groups that have an order.
        floor: the least number that is told.

    Returns:
        The first and the last group of each stretch, in order. Together they are all groups; where all of them have
        fewer than the floor together, one stretch has these.
    """
    stretches: list[tuple[int, int]] = []
    total = first = 0
    for group, size in enumerate(sizes.tolist()):
        total += size
        if not 0 < total < floor:
            stretches.append((first, group))
            total, first = 0, group + 1
    if first < len(sizes):  # the rest is too small to stand alone: the last one that is told takes it
        while stretches and total < floor:
            start, stop = stretches.pop()
            total, first = total + int(sizes[start : stop + 1].sum()), start
        stretches.append((first, len(sizes) - 1))
    return stretches


def fewer_than(floor: int) -> str:
    """Text in the place of a small number."""
    return f"fewer than {floor:,}"


def told_number(number: int, floor: int) -> str:
    """A number of users or ads, where those are not few."""
    return fewer_than(floor) if are_few([number], floor) else wording.count(number)
