"""Evaluation during training: a sample of users of later days, between two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist

from scrollpast.config.training_options import Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.step_model import StepModel
from scrollpast.training.evaluation.held_out import HeldOut, read_held_out
from scrollpast.training.evaluation.metric_registry import Metric, maximised
from scrollpast.training.evaluation.ranking import Embeddings
from scrollpast.training.evaluation.report import measure
from scrollpast.training.model.embedding import embed_ads, embed_users


class HeldOutEvaluator:
    """Evaluator of held-out users. All ranks compute embeddings; the first rank ranks and broadcasts the metrics."""

    def __init__(
        self, held_out: HeldOut, vocabulary: Vocabulary, device: torch.device, metric: Metric
    ) -> None:
        self._held_out, self._vocabulary, self._device = held_out, vocabulary, device
        self._metric = metric

    def __call__(self, model: StepModel) -> Mapping[str, float | None]:
        """Metrics by the names of `measure`, without slices except the chosen metric; None if undefined."""
        ads = embed_ads(model.towers, self._vocabulary, self._device)
        users = embed_users(model.towers, self._held_out, self._vocabulary, self._device)
        found: list[dict[str, float | None]] = [{}]
        if dist.get_rank() == 0:
            values = measure(Embeddings(users, ads), self._held_out, self._vocabulary)
            found[0] = {
                name: None if np.isnan(numbers).all() else float(np.nanmean(numbers))
                for name, numbers in values.items()
                if "/" not in name or name == self._metric.name
            }
        if dist.get_world_size() > 1:
            dist.broadcast_object_list(found)
        return found[0]


def evaluator_of(
    options: Training, days: Sequence[str], vocabulary: Vocabulary, device: torch.device
) -> HeldOutEvaluator | None:
    """Evaluator of a run; None where the configuration names no evaluation days.

    Raises:
        UserError, CorruptShardError: as `read_held_out`.
    """
    evaluation = options.evaluation
    metric = maximised(evaluation.metric, "training.evaluation.metric")
    if not evaluation.days:
        return None
    held_out = read_held_out(
        days,
        evaluation.days,
        vocabulary,
        data=options.data,
        max_users=evaluation.max_users,
        exposure_clip=evaluation.exposure_clip,
        seed=options.seed,
    )
    return HeldOutEvaluator(held_out, vocabulary, device, metric)
