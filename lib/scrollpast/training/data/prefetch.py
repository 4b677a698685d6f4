"""Read ahead in a thread. The compiled loops hold no interpreter lock, so it runs beside the training step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetched(Iterator[Item], Generic[Item]):
    """The items of an iterator, produced by a thread, ``depth`` of them ahead at most.

    An error of the iterator is raised where its item would have come. `close` ends the thread; call it when the
    items are not read to their end.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._items = items
        self._depth = depth
        self._ready: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._has_ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._produce, name="scrollpast-data", daemon=True)
        self._thread.start()

    def __next__(self) -> Item:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._has_ended)
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """End the thread, and forget what it has produced; safe to call twice."""
        with self._changed:
            self._is_closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join()

    def _produce(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed or len(self._ready) < self._depth)
                    if self._is_closed:
                        return
                    self._ready.append(item)
                    self._changed.notify_all()
        except BaseException as failure:  # noqa: BLE001 - raised again by the thread that reads
            error = failure
        finally:
            with self._changed:
                self._error, self._has_ended = error, True
                self._changed.notify_all()
