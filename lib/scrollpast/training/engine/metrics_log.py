"""Metrics of a run over its steps: a file of JSON lines that resumes exactly, and TensorBoard scalars."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from scrollpast.shards import filesystem as files

CURVE_NAME = "curve.jsonl"
_SCALARS = "tensorboard"


class MetricsLogger:
    """Logger of a run's metrics, written by one rank.

    ``curve.jsonl`` has a line for every logged step and every evaluation. The whole file is rewritten with every
    checkpoint, so that file and checkpoint agree; a resumed run drops the lines after its checkpoint.

    Args:
        run_uri: the run's folder.
        first_step: steps done before; later points of an earlier attempt are dropped.
    """

    def __init__(self, run_uri: str, first_step: int, *, is_writing: bool) -> None:
        self._uri, self._is_writing = run_uri, is_writing
        self._points: list[dict[str, Any]] = []
        self._scalars: SummaryWriter | None = None
        if is_writing:
            self._points = [point for point in read_curve(run_uri) if point["step"] <= first_step]
            self._scalars = SummaryWriter(files.join(run_uri, _SCALARS), purge_step=first_step + 1)

    def __enter__(self) -> MetricsLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scalars is not None:
            self._scalars.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add values at ``step``, the number of steps done; names such as ``loss`` or ``evaluation/recall@100``."""
        if self._scalars is None:
            return
        self._points.append({"step": step, **values})
        for name, value in values.items():
            self._scalars.add_scalar(name, value, step)

    def write(self) -> None:
        """Write all points so far."""
        if self._is_writing:
            filesystem, path = files.resolve(files.join(self._uri, CURVE_NAME))
            lines = "".join(json.dumps(point) + "\n" for point in self._points)
            files.write_atomically(filesystem, path, lines.encode())


def read_curve(run_uri: str) -> list[dict[str, Any]]:
    """Read the points of a run by step; empty if the run has written no point."""
    filesystem, path = files.resolve(files.join(run_uri, CURVE_NAME))
    if not files.exists(filesystem, path):
        return []
    text = files.read_all(filesystem, path).to_pybytes().decode()
    return [json.loads(line) for line in text.splitlines()]
