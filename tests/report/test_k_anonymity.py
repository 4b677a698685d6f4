"""Figures of few users or ads are merged or left out, and cannot be computed from the remaining figures."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.documents.exposure import ExposureDocument
from scrollpast.errors import UserError
from scrollpast.report.cli import write_report
from scrollpast.report.comparison import comparison
from scrollpast.report.exposure import exposure
from scrollpast.report.inputs import Inputs
from scrollpast.report.k_anonymity import held_back, joined
from scrollpast.report.page import compose, render
from scrollpast.report.per_user import per_user
from scrollpast.report.sections import Missing
from scrollpast.report.training import training
from tests.report.published import CONFIG, EXPOSURE, Output
from tests.report.shown import plots_of, row, table_of, text_of

FEW = "fewer than 10"


@given(st.dictionaries(st.text(max_size=2), st.integers(0, 40), max_size=6), st.integers(1, 30))
def test_neither_what_is_told_nor_the_rest_of_the_whole_is_of_few(sizes: dict[str, int], floor: int) -> None:
    held = held_back(sizes, floor)
    assert all(size >= floor for name, size in sizes.items() if size and name not in held)
    rest = sum(sizes[name] for name in held)
    assert rest == 0 or rest >= floor or held == {name for name, size in sizes.items() if size}
    # No more than it takes: without the largest of them, the rest would be few.
    largest = max((sizes[name] for name in held), default=0)
    assert largest < floor or rest - largest < floor


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 30))
def test_neighbours_are_joined_until_none_is_of_few_and_none_is_lost(sizes: list[int], floor: int) -> None:
    stretches = joined(np.array(sizes), floor)
    assert [stretches[0][0], stretches[-1][1]] == [0, len(sizes) - 1]
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(stretches))
    totals = [sum(sizes[first : last + 1]) for first, last in stretches]
    assert sum(totals) == sum(sizes)
    assert len(totals) == 1 or all(total == 0 or total >= floor for total in totals)


def test_with_a_floor_of_one_every_group_stands_alone() -> None:
    assert joined(np.array([3, 0, 1, 0, 7]), 1) == [(place, place) for place in range(5)]
    assert held_back({"a": 1, "b": 0, "c": 3}, 1) == frozenset()


def with_slices(output: Output, num_ads: int = 2_000, **sizes: int) -> Inputs:
    """The day with an exposure of slices of so many ads."""
    part = {"num_negatives": 70, "num_positives": 30, "share_of_ads_with_negatives": 0.5}
    slices = {name: {"num_ads": size, **part} for name, size in sizes.items()}
    found = ExposureDocument.model_validate({**EXPOSURE, "num_ads": num_ads, "slices": slices})
    inputs = output.inputs()
    return replace(inputs, day=replace(inputs.day, exposure=found))


def test_a_slice_of_few_ads_is_left_out_with_the_one_that_would_give_it_away(output: Output) -> None:
    section = exposure(with_slices(output, head=3, tail=300, without_positives=1_697, old=1_900, new=100))
    assert [cells[0] for cells in table_of(section).rows] == ["without positives", "not new", "new"]
    assert f"so that no figure rests on {FEW} ads: head and tail" in text_of(section)
    for picture in (plot := plots_of(section)[0]).wide, plot.narrow:
        assert "tail" not in picture and "without positives" in picture


def test_points_of_the_lorenz_curve_are_many_ads_apart(output: Output) -> None:
    wanted = {2_000: 11, 50: 6, 15: 2}  # by tenths; every 10 ads; both ends
    for num_ads, num_rows in wanted.items():
        (plot,) = plots_of(exposure(with_slices(output, num_ads, head=num_ads)))
        assert len(plot.numbers.rows) == num_rows
        assert ("top 1%" in plot.description) == (num_ads >= 1_000)
        assert [plot.numbers.rows[0], plot.numbers.rows[-1]] == [("0%", "0.00%"), ("100%", "100.00%")]


def test_a_catalogue_of_few_ads_has_no_curve(output: Output) -> None:
    section = exposure(with_slices(output, 9, head=9))
    assert not plots_of(section)
    assert f"The catalogue has {FEW} ads" in text_of(section)


def test_users_by_number_of_negatives_are_never_few(output: Output) -> None:
    def users(floor: int) -> list[int]:
        (plot,) = plots_of(per_user(replace(output.inputs(), floor=floor)))
        return [int(cells[1]) for cells in plot.numbers.rows]

    assert min(filter(None, users(1))) < 10, "there is something to join"
    assert min(users(10)) >= 10
    assert sum(users(10)) == sum(users(1)) == 120


def test_a_quantile_of_few_users_is_not_told(output: Output) -> None:
    def told(floor: int) -> list[str]:
        return list(row(table_of(per_user(replace(output.inputs(), floor=floor))), "negatives")[1:])

    assert "–" not in told(1)
    assert set(told(100)) == {"–"}
    assert all(cell in ("–", wanted) for cell, wanted in zip(told(20), told(1), strict=True))


def test_a_day_of_few_users_has_no_distribution(output: Output) -> None:
    (missing,) = per_user(replace(output.inputs(), floor=121)).blocks
    assert isinstance(missing, Missing)
    assert "fewer than 121 users" in missing.reason
    assert missing.command.endswith("--floor 1")


@pytest.mark.slow
def test_metrics_of_few_users_are_not_told(output: Output) -> None:
    assert row(table_of(training(replace(output.inputs(), floor=1_908))), "recall@100")[1:] == (
        "–", "–", "fewer than 1,908",
    )  # fmt: skip
    for floor, is_told in ((1_907, True), (1_908, False)):
        tiles = compose(replace(output.inputs(), floor=floor)).tiles.tiles
        assert any(tile.label == "recall@100" for tile in tiles) == is_told


def test_a_comparison_of_few_users_is_not_told(output: Output) -> None:
    (missing,) = comparison(replace(output.inputs(), floor=257)).blocks
    assert isinstance(missing, Missing)
    assert "fewer than 257 users" in missing.reason
    assert plots_of(comparison(replace(output.inputs(), floor=256)))


def test_the_floor_is_that_of_the_day_unless_one_is_given(output: Output) -> None:
    assert output.inputs().floor == 10
    output.change(config={**CONFIG, "privacy": {"report_floor": 25}})
    assert output.inputs().floor == 25
    assert output.inputs(floor=3).floor == 3
    with pytest.raises(
        UserError, match=r"--floor: expected 1 or more, found 0; pass --floor 1 to show every figure"
    ):
        output.inputs(floor=0)


@pytest.mark.slow
def test_the_command_line_gives_a_floor(output: Output) -> None:
    arguments = output.arguments(floor=121)
    assert isinstance(arguments, Namespace)
    assert write_report(arguments) == 0
    html = (output.root / "report.html").read_text(encoding="utf-8")
    assert html == render(compose(output.inputs(floor=121)))
    assert "fewer than 121 users" in html
