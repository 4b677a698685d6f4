"""Suppression of groups of few users or ads: k-anonymity (Sweeney, IJUFKS 10(5), 2002)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from scrollpast.report import wording

NEW_USERS, KNOWN_USERS = "new users", "known users"
"""The two parts of the users of an evaluation; names of their metrics end with these words."""


def held_back(sizes: Mapping[str, int], floor: int) -> frozenset[str]:
    """Groups of a partition that are suppressed, given the number of users or ads of each.

    Suppressed are the groups below the floor, and further groups by ascending size until the suppressed groups together
    reach the floor, or all groups are suppressed: the remainder of the total then reveals no group below the floor.
    Empty groups are not suppressed.
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
    """True if any of these groups is not empty and below the floor."""
    return any(0 < number < floor for number in numbers)


def untold_user_parts(num_new: int, num_users: int, floor: int) -> frozenset[str]:
    """Suppressed parts of the users of an evaluation: both or neither, as one part and the total reveal the other."""
    return held_back({NEW_USERS: num_new, KNOWN_USERS: num_users - num_new}, floor)


def is_of_part(metric: str, parts: Collection[str]) -> bool:
    """True if a metric, such as ``slices/recall@100, new users``, belongs to one of these parts of the users."""
    return metric.rpartition(", ")[2] in parts


def joined(sizes: NDArray[np.int64], floor: int) -> list[tuple[int, int]]:
    """Merge neighbouring groups until each merged group reaches the floor, or is empty.

    Args:
        sizes: int64 [G], users or ads of ordered groups.
        floor: the smallest number that is shown.

    Returns:
        First and last group of each merged group, in order; together they cover all groups. If all groups together are
        below the floor, they form a single merged group.
    """
    stretches: list[tuple[int, int]] = []
    total = first = 0
    for group, size in enumerate(sizes.tolist()):
        total += size
        if not 0 < total < floor:
            stretches.append((first, group))
            total, first = 0, group + 1
    if first < len(sizes):  # the rest is below the floor: add it to the last merged group
        while stretches and total < floor:
            start, stop = stretches.pop()
            total, first = total + int(sizes[start : stop + 1].sum()), start
        stretches.append((first, len(sizes) - 1))
    return stretches


def fewer_than(floor: int) -> str:
    """Text in place of a number below the floor."""
    return f"fewer than {floor:,}"


def told_number(number: int, floor: int) -> str:
    """Text of a number of users or ads; `fewer_than` below the floor."""
    return fewer_than(floor) if are_few([number], floor) else wording.count(number)
