"""Grouping and as-of matching: the primitives of a bucket's rules.

Rows are ordered by user (:func:`order_by_user`), so that the rows of any group are close together. Codes are found by
hashing into a table of the size of one user's rows, which stays in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen, inlined

Ints = NDArray[np.int64]

NOT_FOUND = -1

_RUN = 16
"""Length of the runs that are sorted by insertion before they are merged."""


@dataclass(frozen=True)
class ByUser:
    """Rows and events of the same users, each user's together: ``user`` [U] ids in ascending order;
    the rows of user u are ``starts[u]`` to ``starts[u + 1]``, its events ``event_starts[u]`` to
    ``event_starts[u + 1]``, int64 [U + 1] both.
    """

    user: Ints
    starts: Ints
    event_starts: Ints

    @property
    def codes(self) -> Ints:
        """Number of the user of every row, int64 [N]."""
        return np.repeat(np.arange(len(self.user)), np.diff(self.starts))

    @property
    def event_codes(self) -> Ints:
        """Number of the user of every event, int64 [M]."""
        return np.repeat(np.arange(len(self.user)), np.diff(self.event_starts))

    def pair_codes(
        self, first: Ints, second: Ints, event_first: Ints, event_second: Ints
    ) -> tuple[Ints, Ints, int]:
        """Number the distinct (user, first, second) of the rows in the order of their first appearance.

        Returns:
            Codes of the rows, int64 [N], dense from 0; codes of the events, int64 [M], ``NOT_FOUND`` where no row has
            the code; and the number of codes.
        """
        return _pair_codes(
            *(frozen(part, np.int64) for part in (self.starts, first, second)),
            *(frozen(part, np.int64) for part in (self.event_starts, event_first, event_second)),
        )


def order_by_user(user: Ints, time: Ints, second: Ints, third: Ints) -> tuple[Ints, Ints, Ints]:
    """The order of [N] rows by user, time and two more columns.

    Returns:
        The distinct users in ascending order, int64 [U]; the start of each user's rows in the order, int64
        [U + 1]; the order, int64 [N]. Rows equal in all four columns keep their input order.
    """
    codes, distinct = _number(frozen(user, np.int64))
    ascending = np.argsort(distinct)
    rank = np.empty(len(distinct), np.int64)
    rank[ascending] = np.arange(len(distinct))
    order, starts = group(rank[codes], len(distinct))
    _sort_slices(frozen(starts, np.int64), order, *(frozen(key, np.int64) for key in (time, second, third)))
    return distinct[ascending], starts, order


def group(codes: NDArray[np.signedinteger], num_codes: int) -> tuple[Ints, Ints]:
    """Order of the rows by code, int64 [N], and the start of each code's rows in it, int64 [num_codes + 1]."""
    return _group(frozen(codes, np.int64), num_codes)


def is_first_of_code(codes: Ints) -> NDArray[np.bool_]:
    """Mask of rows that are the first of their code, for codes numbered in the order of appearance: bool [N]."""
    highest_before = np.maximum.accumulate(np.append(np.int64(-1), codes[:-1])) if len(codes) else codes
    return np.asarray(codes > highest_before)


def rank_in_group(groups: Ints, *order: NDArray[np.generic]) -> Ints:
    """Rank of every row in its group, from 0, by ``order`` (most significant first): int64 [N]."""
    by_group = np.lexsort((*reversed(order), groups))
    sorted_groups = groups[by_group]
    starts = np.flatnonzero(np.r_[True, sorted_groups[1:] != sorted_groups[:-1]]) if len(groups) else by_group
    sizes = np.diff(np.r_[starts, len(groups)])
    ranks = np.empty(len(groups), np.int64)
    ranks[by_group] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return ranks


def is_among(codes: Ints, num_codes: int, wanted: Ints) -> NDArray[np.bool_]:
    """Membership of [N] codes in the wanted codes, of which some may be ``NOT_FOUND``: bool [N]."""
    is_wanted = np.zeros(num_codes, np.bool_)
    is_wanted[wanted[wanted >= 0]] = True
    return is_wanted[codes]


def last_at_or_before(row_code: Ints, row_time: Ints, num_codes: int, code: Ints, time: Ints) -> Ints:
    """Last row with the code of each query (code, time) and a time not after that of the query.

    Args:
        row_code, row_time: int64 [R]; the rows of a code are in ascending order of time.
        code, time: int64 [Q] of the queries; a code may be ``NOT_FOUND``.

    Returns:
        int64 [Q]: number of a row, or ``NOT_FOUND``.
    """
    if not len(row_code) or not len(code):
        return np.full(len(code), NOT_FOUND, np.int64)
    # Few codes are queried; only their rows are grouped.
    concerned = np.flatnonzero(is_among(row_code, num_codes, code))
    order, starts = group(row_code[concerned], num_codes)
    rows = concerned[order]
    return _last_at_or_before(*(frozen(part, np.int64) for part in (rows, starts, row_time, code, time)))


def has_between(
    event_code: Ints, event_time: Ints, num_codes: int, code: Ints, start: Ints, end: Ints
) -> NDArray[np.bool_]:
    """Mask of queries (code, start, end) with an event of the code in [start, end]: bool [Q].

    The events of a code have to be in ascending order of time.
    """
    latest = last_at_or_before(event_code, event_time, num_codes, code, end)
    if not len(event_time):
        return np.zeros(len(code), np.bool_)
    return np.asarray((latest >= 0) & (event_time[latest] >= start))


@inlined
def _slot(first: Any, second: Any, mask: Any) -> Any:
    """First slot of the search for a key in a table of mask + 1 slots: a multiplicative hash (Knuth, TAOCP 3, 6.4)."""
    mixed = np.uint64(first) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(second)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return np.int64((mixed ^ (mixed >> np.uint64(29))) & np.uint64(mask))


@compiled
def _number(values: Ints) -> tuple[Ints, Ints]:
    """Number distinct values in the order of their appearance: codes [N] and the values by code."""
    codes = np.empty(len(values), np.int64)
    distinct = np.empty(1024, np.int64)
    table = np.full(4096, -1, np.int64)
    count = 0
    for row in range(len(values)):
        value = values[row]
        if row and value == values[row - 1]:  # rows of a slate are adjacent
            codes[row] = codes[row - 1]
            continue
        mask = len(table) - 1
        at = _slot(value, 0, mask)
        while table[at] >= 0 and distinct[table[at]] != value:
            at = (at + 1) & mask
        if table[at] < 0:
            if count == len(distinct):  # the table is a quarter full: enlarge both
                distinct = np.concatenate((distinct, np.empty(count, np.int64)))
                table = np.full(2 * len(table), -1, np.int64)
                mask = len(table) - 1
                for code in range(count):
                    at = _slot(distinct[code], 0, mask)
                    while table[at] >= 0:
                        at = (at + 1) & mask
                    table[at] = code
                at = _slot(value, 0, mask)
                while table[at] >= 0:
                    at = (at + 1) & mask
            table[at] = count
            distinct[count] = value
            count += 1
        codes[row] = table[at]
    return codes, distinct[:count].copy()


@compiled
def _group(codes: Ints, num_codes: int) -> tuple[Ints, Ints]:
    starts = np.zeros(num_codes + 1, np.int64)
    for code in codes:
        starts[code + 1] += 1
    for code in range(num_codes):
        starts[code + 1] += starts[code]
    filled = starts[:-1].copy()
    order = np.empty(len(codes), np.int64)
    for row in range(len(codes)):
        order[filled[codes[row]]] = row
        filled[codes[row]] += 1
    return order, starts


@inlined
def _precedes(a: Any, b: Any, first: Any, second: Any, third: Any) -> Any:
    if first[a] != first[b]:
        return first[a] < first[b]
    if second[a] != second[b]:
        return second[a] < second[b]
    return third[a] < third[b]


@compiled
def _sort_slices(starts: Ints, order: Ints, first: Ints, second: Ints, third: Ints) -> None:
    """Sort every slice of ``order`` by the keys of its rows, stable: short runs by insertion, then merged."""
    longest = 0
    for number in range(len(starts) - 1):
        longest = max(longest, starts[number + 1] - starts[number])
    merged = np.empty(longest, np.int64)
    for number in range(len(starts) - 1):
        begin, end = starts[number], starts[number + 1]
        for low in range(begin, end, _RUN):
            for i in range(low + 1, min(low + _RUN, end)):
                row, j = order[i], i
                while j > low and _precedes(row, order[j - 1], first, second, third):
                    order[j] = order[j - 1]
                    j -= 1
                order[j] = row
        width = _RUN
        while width < end - begin:
            for low in range(begin, end - width, 2 * width):
                middle, high = low + width, min(low + 2 * width, end)
                if not _precedes(order[middle], order[middle - 1], first, second, third):
                    continue  # already in order, as in logs ordered by time
                size = middle - low
                merged[:size] = order[low:middle]
                left, right, at = 0, middle, low
                while left < size:
                    if right < high and _precedes(order[right], merged[left], first, second, third):
                        order[at] = order[right]
                        right += 1
                    else:
                        order[at] = merged[left]
                        left += 1
                    at += 1
            width *= 2


@compiled
def _pair_codes(
    starts: Ints, first: Ints, second: Ints, event_starts: Ints, event_first: Ints, event_second: Ints
) -> tuple[Ints, Ints, int]:
    codes = np.empty(len(first), np.int64)
    event_codes = np.full(len(event_first), NOT_FOUND, np.int64)
    longest = 1
    for user in range(len(starts) - 1):
        longest = max(longest, starts[user + 1] - starts[user])
    size = 2
    while size < 2 * longest:
        size *= 2
    table = np.full(size, -1, np.int64)  # the first row with a key
    count = 0
    for user in range(len(starts) - 1):
        begin, end = starts[user], starts[user + 1]
        mask = 1
        while mask < 2 * (end - begin):
            mask *= 2
        mask -= 1
        table[: mask + 1] = -1
        for row in range(begin, end):
            at = _slot(first[row], second[row], mask)
            found = table[at]
            while found >= 0 and (first[found] != first[row] or second[found] != second[row]):
                at = (at + 1) & mask
                found = table[at]
            if found < 0:
                table[at] = row
                codes[row] = count
                count += 1
            else:
                codes[row] = codes[found]
        for event in range(event_starts[user], event_starts[user + 1]):
            at = _slot(event_first[event], event_second[event], mask)
            found = table[at]
            while found >= 0 and (first[found] != event_first[event] or second[found] != event_second[event]):
                at = (at + 1) & mask
                found = table[at]
            if found >= 0:
                event_codes[event] = codes[found]
    return codes, event_codes, count


@compiled
def _last_at_or_before(rows: Ints, starts: Ints, row_time: Ints, code: Ints, time: Ints) -> Ints:
    found = np.full(len(code), NOT_FOUND, np.int64)
    for question in range(len(code)):
        if code[question] < 0:
            continue
        low, high = starts[code[question]], starts[code[question] + 1]
        begin = low
        while low < high:
            middle = (low + high) // 2
            if row_time[rows[middle]] <= time[question]:
                low = middle + 1
            else:
                high = middle
        if low > begin:
            found[question] = rows[low - 1]
    return found
