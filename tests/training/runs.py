"""Runs of the training loop in this process, on toy days."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scrollpast.config import Training, load_config
from scrollpast.training.engine.metrics_log import read_curve
from scrollpast.training.engine.resume import checkpoint_to_resume
from scrollpast.training.engine.trainer import Evaluator, Trainer
from tests.training.data.days import records, vocabulary, write_day

SMALL = [
    "training.data.batch_size=64",
    "training.log_every_steps=1",
    "training.model.embedding_dim=4",
    "training.model.output_dim=4",
    "training.model.user_layers=[8]",
    "training.model.ad_layers=[8]",
    "training.negatives.random.count=8",
    "training.checkpoints.every_steps=4",
]


def small_day(folder: Path) -> str:
    """A published day of about 300 anchors, 5 steps of 64."""
    random = np.random.Generator(np.random.Philox(8))
    return write_day(folder, [records(random, 100 * shard, 30) for shard in range(4)])


def small_options(*overrides: str) -> Training:
    return load_config(None, [*SMALL, *(f"training.{override}" for override in overrides)]).training


def small_run(
    day: str, out: Path, *overrides: str, evaluator: Evaluator | None = None, lag: int | None = None
) -> Trainer:
    """A run that goes on from the last checkpoint in ``out``, if there is one."""
    options, known = small_options(*overrides), vocabulary()
    return Trainer(
        options,
        [day],
        known,
        str(out),
        torch.device("cpu"),
        facts={"vocabulary": {"uri": "toy", "version": known.version}, "days": [day]},
        resumed=checkpoint_to_resume(str(out), options, known.version),
        evaluator=evaluator,
        lag=lag,
    )


def losses(out: Path) -> dict[int, float]:
    """The loss of every logged step."""
    return {point["step"]: point["loss"] for point in read_curve(str(out)) if "loss" in point}


def weights_of(run: Trainer) -> Mapping[str, Any]:
    """Copies of the parts that this rank holds."""
    return {
        name: (value.local_shards()[0].tensor if hasattr(value, "local_shards") else value).clone()
        for name, value in run.model.state_dict().items()
    }
