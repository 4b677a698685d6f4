"""Nobody can work out of what a report tells the figures that it holds back.

An attacker knows how groups make up a whole. Every number of users or ads that is told is then one linear equation in
the sizes of the smallest groups, and a held-back size is known as soon as it is a sum of such equations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from numpy.typing import NDArray

from scrollpast.documents.comparison import ComparisonDocument
from scrollpast.documents.exposure import ExposureDocument
from scrollpast.report import per_user as per_user_section
from scrollpast.report import plotting
from scrollpast.report.comparison import comparison
from scrollpast.report.exposure import exposure
from scrollpast.report.inputs import Inputs
from scrollpast.report.page import compose
from scrollpast.report.per_user import NegativesByUser, per_user
from scrollpast.report.sections import Missing, Plot, ReportSection, ReportTable
from scrollpast.report.training import training
from tests.report.published import COMPARISON, EXPOSURE, RECALL, Output, make_output
from tests.report.shown import plots_of, table_of, text_of

FLOOR = 10
BY_POSITIVES = {"head": "head: half of the positives", "tail": "tail: the other half", "without_positives":
                "without positives"}  # fmt: skip
BY_AGE = {"old": "not new", "new": "new", "not_listed": "not in the table of ads"}
Cells = NDArray[np.int64]


@dataclass
class Attacker:
    """Collects sums of cells that are told; ``cells`` holds the true sizes, to judge what came out."""

    cells: Cells
    equations: list[Cells] = field(default_factory=list)

    def learns(self, group: Cells, told: str | float) -> None:
        """Add a shown figure of the group (0/1 for each cell), which must be true."""
        number = float(told.replace(",", "")) if isinstance(told, str) else told
        assert number == pytest.approx((group * self.cells).sum(), abs=0.51), "what is told is true"
        self.equations.append(group)

    def knows(self, group: Cells) -> bool:
        """True if the group's size follows from the shown figures."""
        if not self.equations:
            return False
        known = np.stack(self.equations).reshape(len(self.equations), -1)
        with_group = np.vstack([known, group.reshape(1, -1)])
        return bool(np.linalg.matrix_rank(with_group) == np.linalg.matrix_rank(known))

    def finds_few(self, groups: Sequence[Cells]) -> list[int]:
        """Places of the groups that are below the floor and whose size is known."""
        sizes = [int((group * self.cells).sum()) for group in groups]
        return [
            place
            for place, (group, size) in enumerate(zip(groups, sizes, strict=True))
            if 0 < size < FLOOR and self.knows(group)
        ]


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Pictures show what their tables say, and take long to draw."""

    def plot(title: str, heading: str, description: str, numbers: ReportTable, *_: object) -> Plot:
        return Plot(heading, description, Markup(), Markup(), numbers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plotting, "plot", plot)
        yield


sizes = st.one_of(st.integers(0, 14), st.integers(0, 400))


# Ads


def exposure_of(cells: Cells) -> ExposureDocument:
    """By positives, by age, without and with a negative: int64 [3, 3, 2]."""

    def part(of: Cells) -> dict[str, object]:
        number = int(of.sum())
        share = float(of[..., 1].sum() / number) if number else None
        return {
            "num_ads": number,
            "num_negatives": 70,
            "num_positives": 30,
            "share_of_ads_with_negatives": share,
        }

    slices = {name: part(cells[place]) for place, name in enumerate(BY_POSITIVES)}
    slices |= {name: part(cells[:, place]) for place, name in enumerate(BY_AGE)}
    return ExposureDocument.model_validate(
        {**EXPOSURE, **part(cells), "num_negatives": 210, "slices": slices}
    )


def group_of(shape: tuple[int, ...], *index: object) -> Cells:
    group = np.zeros(shape, np.int64)
    group[index] = 1
    return group


def read_exposure(section: ReportSection, cells: Cells) -> Attacker:
    attacker, everything = Attacker(cells), np.ones_like(cells)
    text = text_of(section)
    if total := re.search(r": ([\d,]+) ads", text):
        attacker.learns(everything, total[1])
    if share := re.search(r"of which ([\d.]+)% have a negative", text):
        with_negative = group_of(cells.shape, ..., 1)
        attacker.learns(with_negative, float(share[1]) / 100 * cells.sum())
    places = {label: (place,) for place, label in enumerate(BY_POSITIVES.values())}
    places |= {label: (slice(None), place) for place, label in enumerate(BY_AGE.values())}
    for label, number, _, _, _, share_with in table_of(section).rows:
        attacker.learns(group_of(cells.shape, *places[label]), number)
        if share_with.endswith("%"):
            having = group_of(cells.shape, *places[label], ..., 1)
            attacker.learns(having, float(share_with[:-1]) / 100 * float(number.replace(",", "")))
    return attacker


@settings(max_examples=300)
@given(st.lists(sizes, min_size=18, max_size=18))
def test_ads_of_no_small_slice_can_be_counted(day: Inputs, numbers: list[int]) -> None:
    cells = np.array(numbers).reshape(3, 3, 2)
    section = exposure(replace(day, day=replace(day.day, exposure=exposure_of(cells))))
    slices = [*((place,) for place in range(3)), *((slice(None), place) for place in range(3))]
    groups = [group_of(cells.shape, *index) for index in slices]
    groups += [group_of(cells.shape, *index, ..., side) for index in slices for side in (0, 1)]
    groups += [group_of(cells.shape, ..., side) for side in (0, 1)] + [np.ones_like(cells)]
    assert not read_exposure(section, cells).finds_few(groups)


# Users


def read_parts(all_users: str, rows: Sequence[Sequence[str]], users_at: int, cells: Cells) -> Attacker:
    attacker = Attacker(cells)
    groups = {"new users": np.array([1, 0]), "known users": np.array([0, 1])}
    if re.fullmatch(r"[\d,]+", all_users):
        attacker.learns(np.array([1, 1]), all_users)
    for row in rows:
        number = row[users_at]
        if re.fullmatch(r"[\d,]+", number):
            attacker.learns(groups.get(row[0].rpartition(", ")[2], np.array([1, 1])), number)
    return attacker


PARTS = [np.array([1, 0]), np.array([0, 1]), np.array([1, 1])]


@settings(max_examples=200)
@given(sizes, sizes)
def test_new_users_of_an_evaluation_cannot_be_counted_by_subtraction(
    day: Inputs, num_new: int, num_known: int
) -> None:
    metrics = {
        name: {**RECALL, "num_users": number} if number else None
        for name, number in (
            ("recall@100", num_new + num_known),
            ("slices/recall@100, new users", num_new),
            ("slices/recall@100, known users", num_known),
        )
    }
    (run,) = day.runs
    assert run.metrics is not None
    found = type(run.metrics).model_validate(
        run.metrics.model_dump() | {"num_users": num_new + num_known, "metrics": metrics}
    )
    of_new = {"evaluation/slices/recall@100, new users": 0.3} if num_new else {}
    points = [*run.points, {"step": 3, **of_new}]
    section = training(replace(day, runs=[replace(run, metrics=found, points=points)]))
    table = table_of(section)
    all_users = table.caption.rpartition("users: ")[2]
    assert not read_parts(all_users, table.rows, 3, np.array([num_new, num_known])).finds_few(PARTS)
    # A value of few users is told neither in the table nor in a curve.
    values = {row[0]: row[1] for row in table.rows}
    few = 0 < num_new < FLOOR or 0 < num_known < FLOOR
    if few:
        assert values["recall@100, new users"] == values["recall@100, known users"] == "–"
    drawn = [plot.title for plot in plots_of(section)]
    assert ("slices/recall@100, new users while training" in drawn) == (num_new > 0 and not few)


@settings(max_examples=200)
@given(sizes, sizes)
def test_new_users_of_a_comparison_cannot_be_counted_by_subtraction(
    day: Inputs, num_new: int, num_known: int
) -> None:
    names = ("recall@100", "slices/recall@100, new users", "slices/recall@100, known users")
    numbers = (num_new + num_known, num_new, num_known)
    rows = [
        {**row, "metric": name, "num_users": number}
        for name, number in zip(names, numbers, strict=True)
        for row in COMPARISON["rows"][:2]
    ]
    found = ComparisonDocument.model_validate(
        {**COMPARISON, "num_users": numbers[0], "num_new_users": num_new, "rows": rows,
         "metrics": {name: {"better": "higher"} for name in names}}
    )  # fmt: skip
    section = comparison(replace(day, comparison=found))
    if isinstance(section.blocks[0], Missing):
        assert numbers[0] < FLOOR
        return
    text = text_of(section)
    attacker = Attacker(np.array([num_new, num_known]))
    (total,) = re.findall(r"on ([\d,]+) users", text)
    attacker.learns(np.array([1, 1]), total)
    for number in re.findall(r"([\d,]+) of them new", text):
        attacker.learns(np.array([1, 0]), number)
    assert not attacker.finds_few(PARTS)
    told = {row[0] for row in table_of(section).rows}
    is_either_few = 0 < num_new < FLOOR or 0 < num_known < FLOOR
    assert told == set(names[:1] if is_either_few else names)


@settings(max_examples=300)
@given(st.lists(sizes, min_size=1, max_size=60).filter(lambda numbers: sum(numbers) > 0 and numbers[-1] > 0))
def test_users_with_a_number_of_negatives_cannot_be_counted_where_they_are_few(
    day: Inputs, numbers: list[int]
) -> None:
    cells = np.array(numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(per_user_section, "count_by_user", lambda _: NegativesByUser(cells, 1, 1))
        section = per_user(day)
    attacker = Attacker(cells)
    for plot in plots_of(section):
        for span, users, _ in plot.numbers.rows:
            low, high = _ends(span, len(cells))
            attacker.learns(group_of(cells.shape, slice(low, high + 1)), users)
    text = text_of(section)
    for number in re.findall(r"^([\d,]+) users? with", text):
        attacker.learns(np.ones_like(cells), number)
    for share in re.findall(r"([\d.]+)% have none", text):
        attacker.learns(group_of(cells.shape, 0), round(float(share) / 100 * cells.sum()))
    somebody = np.ones_like(cells) - group_of(cells.shape, 0)
    each = [group_of(cells.shape, place) for place in range(len(cells))]
    assert not attacker.finds_few([*each, somebody, np.ones_like(cells)])
    # The largest number of negatives is that of few users: it is told nowhere.
    if cells[-1] < FLOOR and (plots := plots_of(section)):
        assert plots[0].numbers.rows[-1][0].endswith(" or more")
        assert table_of(section).rows[0][-1] == "–"


def _ends(span: str, num_cells: int) -> tuple[int, int]:
    if span.endswith(" or more"):
        return int(span.split(maxsplit=1)[0]), num_cells - 1
    low, _, high = span.partition(" to ")
    return int(low), int(high or low)


def test_a_day_of_few_users_does_not_say_how_few(output: Output) -> None:
    for floor, told in ((120, "120"), (121, "fewer than 121")):
        tiles = compose(output.inputs(floor=floor)).tiles.tiles
        assert told in [tile.value for tile in tiles if tile.label == "users"]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Inputs of everything, whose parts the tests replace."""
    return make_output(tmp_path_factory.mktemp("output")).inputs()
