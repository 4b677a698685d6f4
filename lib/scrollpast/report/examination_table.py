"""Table of examination that days are mined with, for days whose estimation is not available."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from scrollpast.documents.document import checked
from scrollpast.documents.examination import EstimateDocument
from scrollpast.errors import UserError
from scrollpast.shards import filesystem as files

_REMEDY = "name the folder that estimate_examination wrote"


def read_examination_table(uri: str) -> dict[str, EstimateDocument]:
    """Read the curve of every surface; intervals missing from the table have width 0.

    Raises:
        UserError: the table is missing, or lacks surface, position or probability.
    """
    filesystem, path = files.resolve(uri)
    try:
        table = pq.read_table(path, filesystem=filesystem)
    except (OSError, pa.ArrowException) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise UserError(uri, expected="a table of examination", found=found, remedy=_REMEDY) from error
    missing = [name for name in ("surface", "position", "probability") if name not in table.column_names]
    if missing:
        raise UserError(uri, expected=f"columns {', '.join(missing)}", found="none", remedy=_REMEDY)
    curves: dict[str, EstimateDocument] = {}
    for surface in sorted(set(table["surface"].to_pylist())):
        rows = sorted(
            (row for row in table.to_pylist() if row["surface"] == surface), key=lambda row: row["position"]
        )
        content = {
            "positions": [row["position"] for row in rows],
            "probability": [row["probability"] for row in rows],
            **{end: [row.get(end, row["probability"]) for row in rows] for end in ("low", "high")},
        }
        curves[surface] = checked(EstimateDocument, content, f"{uri}, {surface}", _REMEDY)
    return curves
