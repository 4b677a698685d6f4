"""Ledger: counts of impressions by outcome, surface and position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen
from scrollpast.errors import ScrollpastError
from scrollpast.mining.spark.packed_columns import Columns
from scrollpast.outcomes import Outcome

SCHEMA = pa.schema(
    [
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("surface", pa.string(), nullable=False),
        pa.field("position", pa.int64()),
        pa.field("count", pa.int64(), nullable=False),
    ]
)

_DENSE_POSITIONS = 4096
"""Positions below this are counted in a table; deeper positions, which are rare, by sorting."""


def count_cells(
    outcome: NDArray[np.int8], surface: NDArray[np.int16], position: NDArray[np.int32]
) -> Columns:
    """Cells of the ledger for [N] impressions: outcome, surface code, position (−1 unknown), count."""
    num_tables = (int(surface.max(initial=0)) + 1) * len(Outcome)
    dense = np.zeros(num_tables * _DENSE_POSITIONS, np.int64)
    _count_shallow(
        frozen(outcome, np.int8), frozen(surface, np.int16), frozen(position, np.int32), len(Outcome), dense
    )
    far = np.flatnonzero(position >= _DENSE_POSITIONS - 1)
    far_outcome, far_surface = outcome[far].astype(np.int64), surface[far].astype(np.int64)
    cell = (far_outcome << 48) | (far_surface << 32) | (position[far].astype(np.int64) + 1)
    deep, deep_counts = np.unique(cell, return_counts=True)
    found = np.flatnonzero(dense)
    table, at = np.divmod(found, _DENSE_POSITIONS)
    surfaces, outcomes = np.divmod(table, len(Outcome))
    return {
        "outcome": np.concatenate([outcomes, deep >> 48]).astype(np.int8),
        "surface": np.concatenate([surfaces, (deep >> 32) & 0xFFFF]).astype(np.int16),
        "position": np.concatenate([at, deep & 0xFFFF_FFFF]).astype(np.int64) - 1,
        "count": np.concatenate([dense[found], deep_counts]).astype(np.int64),
    }


@compiled
def _count_shallow(
    outcome: NDArray[np.int8],
    surface: NDArray[np.int16],
    position: NDArray[np.int32],
    num_outcomes: int,
    dense: NDArray[np.int64],
) -> None:
    for row in range(len(outcome)):
        if position[row] < _DENSE_POSITIONS - 1:
            table = surface[row] * num_outcomes + outcome[row]
            dense[table * _DENSE_POSITIONS + position[row] + 1] += 1


@dataclass
class Ledger:
    """Counts of impressions by (outcome, surface, position); ledgers add up in any order."""

    cells: Counter[tuple[Outcome, str, int | None]] = field(default_factory=Counter)

    def add(self, cells: Mapping[str, NDArray[Any]], surfaces: Sequence[str]) -> None:
        """Add the cells of :func:`count_cells`; ``surfaces`` names their surface codes."""
        rows = zip(
            *(cells[name].tolist() for name in ("outcome", "surface", "position", "count")), strict=True
        )
        for outcome, surface, position, count in rows:
            self.cells[Outcome(outcome), surfaces[surface], None if position < 0 else position] += count

    def totals(self) -> dict[Outcome, int]:
        """Impressions by outcome, for every outcome, in the order in which outcomes are decided."""
        totals = dict.fromkeys(Outcome, 0)
        for (outcome, _, _), count in self.cells.items():
            totals[outcome] += count
        return totals

    def check(self, num_impressions: int) -> None:
        """Compare the ledger's total with the number of impressions that were read.

        Raises:
            ScrollpastError: an impression was lost or counted twice.
        """
        total = self.cells.total()
        if total != num_impressions:
            difference = total - num_impressions
            raise ScrollpastError(
                "ledger",
                expected=f"{num_impressions:,} impressions, as many as were read",
                found=f"{total:,} ({difference:+,})",
                remedy="this is a defect of the job, please report it with the log",
            )

    def table(self) -> pa.Table:
        """The ledger as rows of :data:`SCHEMA`, in a fixed order."""

        def order(cell: tuple[Outcome, str, int | None]) -> tuple[int, str, int]:
            outcome, surface, position = cell
            return outcome, surface, -1 if position is None else position

        cells = sorted((cell for cell, count in self.cells.items() if count), key=order)
        return pa.table(
            [
                [outcome.label for outcome, _, _ in cells],
                [surface for _, surface, _ in cells],
                [position for _, _, position in cells],
                [self.cells[cell] for cell in cells],
            ],
            schema=SCHEMA,
        )
