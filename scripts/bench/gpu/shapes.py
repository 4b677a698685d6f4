"""Shapes of the GPU benchmark: batches and models of a size, with the bytes and FLOPs of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
import torch.distributed as dist
from scripts.bench.plain_torch import example_day, example_vocabulary
from torchrec.distributed.model_parallel import DistributedModelParallel

from scrollpast.config import Training, load_config
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.sampling import Sampling
from scrollpast.training.data.stream import AnchorStream
from scrollpast.training.engine.step_input import Preparation, StepInput
from scrollpast.training.engine.step_model import StepModel, build
from scrollpast.training.model.optimizers import TrainingOptimizer

_BYTES = 4
"""Bytes of a number in a table."""


@dataclass(frozen=True)
class Shape:
    """One setting of the benchmark."""

    batch: int
    dim: int
    rows: int
    """Rows of each of the three tables."""
    num_hard: int = 4
    num_random: int = 1024

    def __str__(self) -> str:
        return f"batch {self.batch:,}, dim {self.dim}, 3 × {self.rows:,} rows"

    def options(self, *more: str) -> Training:
        """The configuration of a run of this shape."""
        settings = [
            f"data.batch_size={self.batch}", f"model.embedding_dim={self.dim}", f"model.output_dim={self.dim}",
            f"negatives.hard.count={self.num_hard}", f"negatives.random.count={self.num_random}", *more,
        ]  # fmt: skip
        return load_config(None, [f"training.{setting}" for setting in settings]).training


@dataclass(frozen=True)
class Work:
    """Bytes and FLOPs that a step needs, for any program."""

    table_bytes: float
    """Rows read, their sums written; gradients read; rows and optimizer state that changed, read and written."""
    tower_flops: float
    logit_flops: float
    copied_bytes: float
    """Bytes copied from the host."""

    @property
    def flops(self) -> float:
        return self.tower_flops + self.logit_flops


def inputs_of(
    shape: Shape, options: Training, folder: str, count: int
) -> tuple[Vocabulary, str, list[StepInput]]:
    """A vocabulary, a day, and inputs of steps drawn from it."""
    vocabulary = example_vocabulary(shape.rows)
    day = example_day(folder, vocabulary, max(1000, shape.batch * count // 4))
    return vocabulary, day, list(islice(inputs_from(day, vocabulary, options), count))


def inputs_from(day: str, vocabulary: Vocabulary, options: Training) -> Iterator[StepInput]:
    """Inputs of the steps of an epoch."""
    stream = AnchorStream([day], vocabulary, options.data, Sampling.of(options))
    return Preparation(vocabulary, options).steps(stream, 0)


def model_of(
    options: Training, vocabulary: Vocabulary, device: torch.device
) -> tuple[DistributedModelParallel, StepModel, TrainingOptimizer]:
    """The sharded model, the step model inside it, and its optimizer."""
    group = dist.group.WORLD
    assert group is not None
    model = build(options, vocabulary, device, group)
    unwrapped = model.module
    unwrapped = getattr(unwrapped, "module", unwrapped)
    assert isinstance(unwrapped, StepModel)
    return model, unwrapped, TrainingOptimizer(model, options.optimizer, unwrapped.contrast.soundness)


def work_of(inputs: Sequence[StepInput], options: Training) -> Work:
    """Mean bytes and FLOPs of a step over some inputs."""
    model, count = options.model, len(inputs)
    row = model.embedding_dim * _BYTES
    table_bytes = copied = 0.0
    for step in inputs:
        for features in (step.users, step.ads):
            values, lengths = features.values(), features.lengths()
            parts = features.to_dict().values()
            num_changed = sum(len(part.values().unique()) for part in parts)
            # Forward: rows read, bags written. Backward: the bags' gradients read; rows read and written, with
            # one number of state each.
            table_bytes += len(values) * row + 2 * len(lengths) * row + num_changed * 2 * (row + _BYTES)
            copied += values.nbytes + lengths.nbytes
        copied += sum(tensor.nbytes for tensor in step.anchors.tensors()) + sum(
            row.nbytes for row in step.rows.values()
        )
    first = inputs[0]
    num_anchors, num_ads = len(first.anchors), first.ads.stride()
    user_widths = [2 * model.embedding_dim, *model.user_layers, model.output_dim]
    ad_widths = [model.embedding_dim, *model.ad_layers, model.output_dim]

    def layers(widths: list[int]) -> int:
        return sum(a * b for a, b in pairwise(widths))

    # A product forward, and two backward: by the inputs and by the weights.
    towers = 6 * (num_anchors * layers(user_widths) + num_ads * layers(ad_widths))
    num_candidates = num_anchors + len(first.rows["random"]) + 1 + first.anchors.hard.count
    logits = 6 * num_anchors * num_candidates * model.output_dim
    return Work(table_bytes / count, towers, logits, copied / count)
