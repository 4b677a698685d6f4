"""Types of command-line options: numbers with checked bounds, and days. A mistake ends a job with exit code 2."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import date

from scrollpast.dates import parse_date

LARGEST = 2**63 - 1
"""Largest number of a 64-bit column, and of a seed."""


def whole_number(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """A type for whole numbers in [least, most], also written as 2e6 or 2_000_000."""
    expected = f"a whole number from {least:,} to {most:,}"
    if most == LARGEST:
        expected = f"a whole number, {least:,} or more"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = _whole(text, expected)
        if not least <= number <= most:
            raise _mistake(expected, text)
        return number

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """A type for finite numbers in [least, most]."""
    expected = f"a number from {least:g} to {most:g}"

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            raise _mistake(expected, text) from None
        if not least <= found <= most:  # false for nan
            raise _mistake(expected, text)
        return found

    return parse


def day(text: str) -> date:
    """A type for days, as 2026-11-21."""
    try:
        return parse_date(text)
    except ValueError as error:
        raise _mistake(str(error), text) from None


def _whole(text: str, expected: str) -> int:
    try:
        found = float(text)
    except ValueError:
        raise _mistake(expected, text) from None
    if not math.isfinite(found) or not found.is_integer():
        raise _mistake(expected, text)
    return int(found)


def _mistake(expected: str, text: str) -> ArgumentTypeError:
    return ArgumentTypeError(f"expected {expected}, found {text!r}")
