"""Result of one run: a small file with the metrics of every user, named by a digest of all inputs.

    OUT/runs/arm=weighted/ratio=2/seed=0/inputs=<digest>/   the run: checkpoints, curve.jsonl, tensorboard/
        result-<digest>.parquet                             user_id and one column for every metric

The first digest is over the days, the vocabulary and the options that change what is learned, the second over the
evaluation's inputs. An existing result therefore equals a new computation, a changed input gives another file, and
nothing has to be deleted. The version of this library is in neither digest: results of older versions are kept, and
their facts name the version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrollpast import __version__
from scrollpast.config import ComparisonOptions, Training
from scrollpast.errors import CorruptShardError
from scrollpast.record_schema import USER_ID
from scrollpast.shards import filesystem as files
from scrollpast.training.comparison.arms import Cell
from scrollpast.training.comparison.day_sets import content_of, digest

_FACTS = b"scrollpast"
_NOT_LEARNED_BY = ("days", "vocabulary", "path", "log_every_steps", "checkpoints")
"""Options of training without effect on the result: places and logging. Days and vocabulary count by content."""
_DATA_NOT_LEARNED_BY = ("cache_bytes", "num_workers", "prefetch_batches", "verify")


@dataclass(frozen=True, eq=False)
class Result:
    """Metrics of the users after one run."""

    facts: Mapping[str, Any]
    """arm, ratio, seed, steps, checkpoint, version (of this library), num_new_users, num_ads"""
    user_id: NDArray[np.int64]
    """int64 [U], ascending"""
    numbers: Mapping[str, NDArray[np.float64]]
    """float64 [U] by metric; NaN where a user lacks the metric"""

    def write(self, uri: str) -> None:
        """Write the file atomically."""
        table = pa.table({USER_ID: self.user_id, **self.numbers})
        metadata = {_FACTS: json.dumps({**self.facts, "version": __version__})}
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
        filesystem, path = files.resolve(uri)
        files.write_atomically(filesystem, path, sink.getvalue())

    @staticmethod
    def read(uri: str) -> Result:
        """Read a file of `write`.

        Raises:
            CorruptShardError: the file is not a result.
        """
        filesystem, path = files.resolve(uri)
        try:
            table = pq.read_table(pa.BufferReader(files.read_all(filesystem, path)))
            facts = json.loads(table.schema.metadata[_FACTS])
            columns = {name: table.column(name).to_numpy() for name in table.column_names}
            return Result(facts, columns.pop(USER_ID), columns)
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise CorruptShardError(
                uri,
                expected="the result of a run",
                found=str(error).splitlines()[0] if str(error) else type(error).__name__,
                remedy="move the file away and run again to compute it",
            ) from error


def is_there(uri: str) -> bool:
    """True if the result exists."""
    filesystem, path = files.resolve(uri)
    return files.exists(filesystem, path)


def run_folder(
    out: str,
    cell: Cell,
    options: Training,
    days: tuple[str, ...],
    vocabulary_version: str,
    *,
    num_ranks: int,
) -> str:
    """Place of a run of these inputs."""
    learned = options.model_dump(mode="json", exclude=set(_NOT_LEARNED_BY))
    for name in _DATA_NOT_LEARNED_BY:
        del learned["data"][name]
    # Two ranks with 512 anchors each train as one rank with 1024.
    learned["data"]["batch_size"] *= num_ranks
    # These options choose the measured checkpoint.
    learned["evaluation"]["days"] = content_of(options.evaluation.days)
    inputs = digest({"days": content_of(days), "vocabulary": vocabulary_version, "training": learned})
    return files.join(
        out, "runs", f"arm={cell.arm}", f"ratio={cell.ratio}", f"seed={options.seed}", f"inputs={inputs}"
    )


def result_name(
    options: ComparisonOptions, exposure_clip: float, evaluation: tuple[str, ...], history: tuple[str, ...]
) -> str:
    """File name of a result that is measured on these days."""
    measured = {
        "days": content_of(evaluation),
        "history": content_of(history),
        "max_users": options.max_users,
        "exposure_clip": exposure_clip,
    }
    return f"result-{digest(measured)}.parquet"
