"""The file ``metrics.json`` that an evaluation leaves inside a checkpoint's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from scrollpast.errors import ScrollpastError
from scrollpast.job_commands import job_command
from scrollpast.shards import filesystem as files
from scrollpast.training.engine.checkpoint import Checkpoint

METRICS_NAME = "metrics.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Evaluated:
    """Means over the users of an evaluation; None where no user has the metric."""

    metrics: dict[str, float | None]
    evaluated_on: list[str]
    """Folders of the days."""


def read_evaluated(checkpoint: Checkpoint) -> Evaluated | None:
    """The evaluation of a checkpoint; None where the folder of the checkpoint holds no ``metrics.json``.

    Raises:
        ScrollpastError: the file is not the evaluation of this checkpoint.
    """
    filesystem, path = files.resolve(files.join(checkpoint.uri, METRICS_NAME))
    if not files.exists(filesystem, path):
        return None
    expected = f"schema_version {SCHEMA_VERSION} and step {checkpoint.step}"
    try:
        content = json.loads(files.read_all(filesystem, path).to_pybytes())
        _check(content, expected)
        means = {
            str(name): None if value is None else float(value["mean"])
            for name, value in content["metrics"].items()
        }
        return Evaluated(means, [str(day) for day in content["evaluated_on"]])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScrollpastError(
            files.join(checkpoint.uri, METRICS_NAME),
            expected=f"an evaluation of {expected}",
            found=f"{type(error).__name__}: {error}",
            remedy="remove the file, or evaluate the checkpoint again: "
            + job_command("evaluate_two_tower", checkpoint.uri, "DAY"),
        ) from error


def _check(content: dict[str, Any], expected: str) -> None:
    found = f"schema_version {content['schema_version']} and step {content['step']}"
    if found != expected:
        raise ValueError(found)
