"""Numeric options and days of every job: a value outside the range is refused by name, with exit code 2."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast import argument_types
from scrollpast.argument_types import number, whole_number
from tests.jobs.job_runs import ROOT, parser_of, run_job

JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if action.type is not None and action.type is not Path:
            yield action


@pytest.mark.parametrize("job", JOBS)
def test_every_number_and_day_has_a_checked_type(job: str) -> None:
    for action in options_of(parser_of(job)):
        assert getattr(action.type, "__module__", "") == argument_types.__name__, action.option_strings


@pytest.mark.parametrize("job", JOBS)
def test_a_value_out_of_range_ends_with_exit_code_2_and_names_option_and_range(job: str) -> None:
    for action in options_of(parser_of(job)):
        name = action.option_strings[-1]
        is_day = action.type is argument_types.day
        values = ["2026-11-31", "0"] if is_day else ["-1", "nan", "inf", "1.5", "many", "", str(2**64)]
        for value in values:
            done = run_job(job, f"{name}={value}")
            assert done.exit_code == 2, (name, value)
            kind = "a day" if is_day else "a number from" if name == "--largest-loss" else "a whole number"
            assert f"error: argument {name}: expected {kind}" in done.stderr, (name, value, done.stderr)
            assert done.stderr.endswith(f", found {value!r}\n")
            assert done.is_calm()


COUNTS = [
    ("evaluate_two_tower", "--max-users"),
    ("publish_model", "--max-users"),
    ("mine_neighbours", "--sample"),
    ("mine_negatives", "--days"),
    ("estimate_examination", "--days"),
    ("write_report", "--floor"),
    ("build_vocabulary", "--num-user-rows"),
    ("build_vocabulary", "--max-codes"),
    ("simulate_logs", "--rows"),
    ("simulate_logs", "--days"),
    ("simulate_logs", "--processes"),
]


@pytest.mark.parametrize(("job", "name"), COUNTS)
def test_a_count_of_nothing_is_refused(job: str, name: str) -> None:
    done = run_job(job, name, "0")
    assert done.exit_code == 2
    assert f"argument {name}: expected a whole number" in done.stderr
    assert done.stderr.endswith("found '0'\n")


@given(
    least=st.integers(-10, 10), span=st.integers(0, 20), value=st.integers(-50, 50), is_float=st.booleans()
)
def test_a_whole_number_is_taken_inside_its_bounds_alone(
    least: int, span: int, value: int, is_float: bool
) -> None:
    parse, text = whole_number(least, least + span), f"{float(value):e}" if is_float else str(value)
    if least <= value <= least + span:
        assert parse(text) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match=f"from {least} to {least + span}, found "):
            parse(text)


@given(value=st.floats())
def test_a_number_is_taken_inside_its_bounds_alone(value: float) -> None:
    if 0 <= value <= 1 and not math.isnan(value):
        assert number(0, 1)(repr(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="expected a number from 0 to 1, found "):
            number(0, 1)(repr(value))
