"""Table of a comparison: as text, as JSON and as Parquet.

    OUT/comparison.json       everything; written last
    OUT/comparison.parquet    its rows alone
    OUT/comparison.txt        the text, at most 100 columns

``comparison.json``, whose bytes depend on the results only, not on the time or the number of interruptions:

| field | |
| --- | --- |
| ``schema_version`` | 1 |
| ``baseline`` | ``arm`` and ``ratio`` of the line that all others are compared with |
| ``level`` | 0.95 |
| ``num_verdicts`` | differences of arms that the joint intervals hold for at once; baselines have their own |
| ``seeds`` | those of every line |
| ``num_users``, ``num_new_users``, ``num_ads`` | evaluated on; new: without a positive in the days trained on |
| ``days`` | days trained on, by set: ``filtered``, ``naive``, ``neighbours`` |
| ``evaluated_on`` | days, all later |
| ``vocabulary`` | its version |
| ``metrics`` | by name: ``better``, which is ``higher`` or ``lower`` |
| ``skipped`` | list of ``arm`` and ``reason``: what was asked for and is not in the table |
| ``notes`` | list of texts: what a reader has to know besides |
| ``baselines`` | names of the lines that are baselines: rankings without training, the same for every seed |
| ``rows`` | list, metric by metric, arms in the table's order |

A row, in JSON and in Parquet (dotted names are one word there, with ``_`` for the dot):

| field | type | |
| --- | --- | --- |
| ``metric``, ``arm``, ``ratio`` | string, string, int | one row each; ratio 0: no draws of the user's own negatives |
| ``value``, ``low``, ``high`` | float | mean over users and seeds, and its 95 % interval |
| ``num_users``, ``num_seeds`` | int | users that the number is defined for |
| ``seed_deviation`` | float or null | standard deviation of the seeds' means; null for one seed |
| ``difference`` | float or null | value less the baseline's; it and all below are null in the baseline's own rows |
| ``difference_low``, ``difference_high`` | float or null | 95 % interval of this difference alone |
| ``joint_low``, ``joint_high`` | float or null | intervals that hold for all differences at once with 95 % |
| ``verdict`` | string or null | ``better``, ``worse`` or ``no difference shown``, from the joint interval |

Where no user has the metric, ``num_users`` is 0 and the other numbers and the verdict are null. `verdicts` describes
the intervals and their coverage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scrollpast.documents.comparison import (
    CellDocument,
    ComparisonDocument,
    Direction,
    Row,
    SkippedDocument,
)
from scrollpast.shards import filesystem as files
from scrollpast.training.comparison.arms import Cell, Planned
from scrollpast.training.comparison.verdicts import LEVEL, Judged
from scrollpast.training.evaluation.bootstrap import FEWEST_USERS
from scrollpast.training.evaluation.metric_registry import METRICS, trivial_cuts

JSON_NAME, PARQUET_NAME, TEXT_NAME = "comparison.json", "comparison.parquet", "comparison.txt"

_ROW = pa.schema(
    [
        ("metric", pa.string()),
        ("arm", pa.string()),
        ("ratio", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("num_users", pa.int64()),
        ("num_seeds", pa.int64()),
        ("seed_deviation", pa.float64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("joint_low", pa.float64()),
        ("joint_high", pa.float64()),
        ("verdict", pa.string()),
    ]
)


@dataclass(frozen=True)
class About:
    """Origin of the metrics."""

    seeds: Sequence[int]
    num_users: int
    num_new_users: int
    num_ads: int
    days: Mapping[str, Sequence[str]]
    evaluated_on: Sequence[str]
    vocabulary: str
    notes: Sequence[str]
    baselines: Sequence[str] = ()
    """Names of the lines that are baselines of the evaluation"""


@dataclass(frozen=True)
class ComparisonTable:
    """Table of a finished comparison."""

    planned: Planned
    metrics: Sequence[str]
    judged: Mapping[tuple[str, str], Judged | None]
    """Judged metrics by the name of the cell and the metric"""
    about: About

    def rows(self) -> list[dict[str, Any]]:
        """Rows as described in the module's docstring; every row has every field."""
        return [self._row(cell, metric).model_dump() for metric in self.metrics for cell in self._cells]

    def to_json(self) -> dict[str, Any]:
        """JSON as described in the module's docstring."""
        planned = self.planned
        return ComparisonDocument(
            baseline=CellDocument(**asdict(planned.baseline)),
            level=LEVEL,
            num_verdicts=self._num_verdicts,
            metrics={name: Direction(better=_direction(name)) for name in self.metrics},
            **asdict(self.about),
            skipped=[SkippedDocument(**asdict(skipped)) for skipped in planned.skipped],
            rows=[self._row(cell, metric) for metric in self.metrics for cell in self._cells],
        ).model_dump(mode="json")

    def text(self) -> str:
        """Aligned text of at most 100 columns."""
        return "\n".join(self._lines()) + "\n"

    def write(self, out: str) -> None:
        """Write the three files, each atomically."""
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(self.rows(), schema=_ROW), sink)
        content = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        for name, data in (
            (PARQUET_NAME, sink.getvalue()),
            (TEXT_NAME, self.text().encode()),
            (JSON_NAME, content.encode()),
        ):
            filesystem, path = files.resolve(files.join(out, name))
            files.write_atomically(filesystem, path, data)

    @property
    def _num_verdicts(self) -> int:
        return sum(
            judged is not None and judged.difference is not None and name not in self.about.baselines
            for (name, _), judged in self.judged.items()
        )

    @property
    def _cells(self) -> list[Cell]:
        """Lines of a metric: the arms, then the baselines."""
        return [*self.planned.cells, *(Cell(name, 0) for name in self.about.baselines)]

    def _row(self, cell: Cell, metric: str) -> Row:
        judged = self.judged[cell.name, metric]
        row = Row(metric=metric, arm=cell.arm, ratio=cell.ratio)
        if judged is None:
            return row
        found: dict[str, Any] = {
            "value": judged.value,
            "low": judged.interval.low,
            "high": judged.interval.high,
            "num_users": judged.num_users,
            "num_seeds": judged.num_seeds,
            "seed_deviation": judged.seed_deviation,
        }
        if (difference := judged.difference) is not None:
            found |= {
                "difference": difference.value,
                "difference_low": difference.interval.low,
                "difference_high": difference.interval.high,
                "joint_low": difference.joint_interval.low,
                "joint_high": difference.joint_interval.high,
                "verdict": difference.verdict,
            }
        return Row(**{**row.model_dump(), **found})

    def _lines(self) -> Iterator[str]:
        about, baseline = self.about, self.planned.baseline.name
        joint = f"95 % for all {self._num_verdicts:,}"
        yield f"{'':<25}{'value':>7}  {'95 % interval':>13}  {'difference':>10}  {joint:>18}  verdict"
        for metric in self.metrics:
            yield f"{metric}, {_direction(metric)} is better; differences from {baseline}"
            for cell in self._cells:
                yield f"  {cell.name:<23}{_cells(self.judged[cell.name, metric])}".rstrip()
        yield ""
        seeds = "1 seed" if len(about.seeds) == 1 else f"{len(about.seeds)} seeds"
        yield f"{about.num_users:,} users, {about.num_new_users:,} of them new, {about.num_ads:,} ads, {seeds}"
        if about.baselines:
            count = len(about.baselines)
            yield f"Baselines (the last {count} lines) are not trained; they have joint intervals of their own."
        yield "A verdict is given where the interval that holds for all differences at once excludes 0."
        for skipped in self.planned.skipped:
            yield f"skipped: {skipped.arm}: {skipped.reason}"
        for note in about.notes:
            yield f"note: {note}"


def notes_of(judged: Mapping[tuple[str, str], Judged | None], num_seeds: int, *, num_ads: int) -> list[str]:
    """Notes on the intervals, and on lists that hold the whole catalogue."""
    notes = trivial_cuts([metric for _, metric in judged], num_ads)
    if num_seeds == 1:
        notes.append("one seed: the intervals do not cover the variation between seeds")
    few = sorted(
        {metric for (_, metric), found in judged.items() if found and found.num_users < FEWEST_USERS}
    )
    notes += [f"{metric}: fewer than {FEWEST_USERS} users have it, too few for a verdict" for metric in few]
    return notes


def lower_is_better() -> frozenset[str]:
    """Names of metrics whose smaller values are better."""
    return frozenset(metric.name for metric in METRICS if metric.is_lower_better)


def _direction(metric: str) -> str:
    return "lower" if metric in lower_is_better() else "higher"


def _cells(judged: Judged | None) -> str:
    if judged is None:
        return f"{'–':>7}"
    text = f"{judged.value:>7.4f}  {judged.interval.low:.4f}–{judged.interval.high:.4f}"
    if (difference := judged.difference) is None:
        return text
    joint = f"[{difference.joint_interval.low:+.4f}, {difference.joint_interval.high:+.4f}]"
    return f"{text}  {difference.value:>+10.4f}  {joint:>18}  {difference.verdict}"
