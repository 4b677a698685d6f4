"""Examination table: the probability that a position of a surface is examined."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrollpast.errors import UserError
from scrollpast.mining.io.contracts import POSITION, SURFACE
from scrollpast.shards import filesystem

PROBABILITY = "probability"
Floats = NDArray[np.float64]
_COLUMNS = (SURFACE, POSITION, PROBABILITY)


def read_examination(uri: str | None) -> dict[str, NDArray[np.float64]]:
    """Read probabilities float64 [positions] by surface; empty without a table, which means 1 everywhere.

    A position that the table leaves out takes the probability of the position before it.

    Raises:
        UserError: no Parquet with surface, position and probability, or a probability outside [0, 1].
    """
    if uri is None:
        return {}
    store, path = filesystem.resolve(uri)
    try:
        table = pq.read_table(path, filesystem=store)
    except (OSError, pa.ArrowException) as error:
        raise _bad(uri, "a readable Parquet table", str(error).splitlines()[0]) from error
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise _bad(uri, f"the columns {', '.join(_COLUMNS)}", f"only {', '.join(table.column_names)}")
    curves: dict[str, NDArray[np.float64]] = {}
    rows = zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True)
    for surface, position, probability in sorted(rows, key=lambda row: (row[0], row[1])):
        if probability is None or not 0 <= probability <= 1:
            raise _bad(uri, "probabilities in [0, 1]", f"{probability} at {surface}, position {position}")
        curve = curves.get(surface, np.zeros(0))
        before = curve[-1] if len(curve) else probability
        gap = np.full(max(0, position - len(curve)), before)
        curves[surface] = np.concatenate([curve, gap, [probability]])
    return curves


def _bad(uri: str, expected: str, found: str) -> UserError:
    return UserError(
        f"mining.examined.table ({uri})",
        expected=expected,
        found=found,
        remedy="make the table with estimate_examination, or leave the option out",
    )


def write_examination(uri: str, table: pa.Table) -> None:
    """Write a table of surface, position, probability and further columns, for `read_examination`."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    store, path = filesystem.resolve(uri)
    filesystem.write_atomically(store, path, sink.getvalue())
