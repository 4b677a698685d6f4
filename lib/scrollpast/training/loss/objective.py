"""Contrastive loss of one step: all enabled sources of negatives in one softmax, over all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from scrollpast.config.training_options import Model, Negatives
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.nonfinite_guard import NonFiniteGuard
from scrollpast.training.engine.precision import precision_of
from scrollpast.training.engine.step_input import StepInput
from scrollpast.training.loss.sampled_softmax import Own, Shared, sampled_softmax
from scrollpast.training.loss.sources.in_batch import InBatchColumns, InBatchSource
from scrollpast.training.loss.sources.registry import source_names, sources_of
from scrollpast.training.loss.sources.source import RankStep

SMALLEST_TEMPERATURE = 0.01
"""A learned temperature stays above it, as the loss of one mistaken pair grows with its inverse."""


@dataclass(frozen=True)
class Totals:
    """Metrics of one step or several: sums over the anchors of all ranks."""

    loss: float
    """Σ weight · loss"""
    weight: float
    """Σ weight"""
    num_stopping: float
    """Ranks that were asked to stop before the step"""
    masses: tuple[float, ...]
    """By source, as in `source_names`: Σ weight · the source's share in the softmax"""

    @staticmethod
    def of(numbers: Sequence[float]) -> Totals:
        """From what `numbers` gives, or the tensor of a step as a list."""
        return Totals(numbers[0], numbers[1], numbers[2], tuple(numbers[3:]))

    @staticmethod
    def zero() -> Totals:
        """Of no step."""
        return Totals.of([0.0] * (3 + len(source_names())))

    @property
    def numbers(self) -> list[float]:
        return [self.loss, self.weight, self.num_stopping, *self.masses]

    def __add__(self, other: Totals) -> Totals:
        return Totals.of([a + b for a, b in zip(self.numbers, other.numbers, strict=True)])

    @property
    def mean_loss(self) -> float:
        """Over the weights of the anchors; 0 where all of them are 0."""
        return self.loss / self.weight if self.weight else self.loss

    @property
    def gradient_shares(self) -> dict[str, float]:
        """Share of the gradient of negatives that each source has; the shares add up to 1."""
        total = sum(self.masses)
        return {
            name: mass / total if total else 0.0
            for name, mass in zip(source_names(), self.masses, strict=True)
        }


class ContrastiveLoss(nn.Module):
    """The loss over the embeddings of a step's users and ads.

    Args:
        vocabulary: says how often each ad is a positive.
        device: where the steps are computed.
        group: the ranks that train together.
    """

    def __init__(
        self,
        options: Negatives,
        model: Model,
        vocabulary: Vocabulary,
        *,
        device: torch.device,
        group: dist.ProcessGroup,
    ) -> None:
        super().__init__()
        self.is_stop_requested = False
        """Set it to tell all ranks, with the next step's result, that this one was asked to stop."""
        self.soundness = NonFiniteGuard(device)
        self._options = options
        precision = precision_of(model.logits_precision, device)
        self._products = None if precision == torch.float32 else precision
        self._group, self._num_ranks = group, dist.get_world_size(group)
        log_scale = torch.tensor(-math.log(model.temperature), device=device)
        if model.is_temperature_learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)
        # No buffers: they are no state, but follow from the vocabulary.
        self._log_q = torch.from_numpy(vocabulary.log_q(1.0)).to(device)
        self._sources = sources_of(options, vocabulary)
        for source in self._sources:
            source.place(device)

    def forward(
        self, user_BD: torch.Tensor, ad_MD: torch.Tensor, batch: StepInput
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss to differentiate on this rank; and float64 [3 + sources], the same on all ranks: `Totals`.

        The mean of this loss over the ranks is Σ weight · loss / Σ weight over all anchors of all ranks: what
        one rank with the whole batch would compute.

        Args:
            user_BD: float32 [B, D].
            ad_MD: float32 [M, D], in the order of ``batch.ads``.
        """
        anchors = batch.anchors
        row_counts = [len(row_M) for row_M in batch.rows.values()]
        positive_BD, *embeddings = ad_MD.split([len(anchors), *row_counts])
        step = RankStep(anchors, positive_BD, self._log_q, self._group)
        sources: list[Shared | Own] = []
        positive_offset_B = None
        for source, embedding_MD in zip(self._sources, embeddings, strict=True):
            if (log_weight := source.log_weight(batch.step)) is None:
                continue
            found = source.candidates(batch.rows[source.name], embedding_MD, step, log_weight)
            if found is not None:
                sources.append(found)
            if self._options.positive_log_q == "sampled" and source.name == InBatchSource.name:
                assert isinstance(found, Shared) and isinstance(found.columns, InBatchColumns)
                positive_offset_B = found.columns.positive_correction()
        scale = self.log_scale.clamp(max=-math.log(SMALLEST_TEMPERATURE)).exp()
        if sources:
            loss, mass = sampled_softmax(
                user_BD,
                positive_BD,
                scale,
                anchors.weight,
                sources,
                positive_offset_B,
                products=self._products,
            )
        else:
            # The schedules may leave a step without any source: nothing is learned, on any rank.
            loss, mass = (user_BD.sum() + ad_MD.sum() + scale) * 0.0, ad_MD.new_zeros(0)
        return self._over_ranks(loss, mass, [source.name for source in sources], anchors.weight)

    def _over_ranks(
        self, loss: torch.Tensor, mass: torch.Tensor, names: list[str], weight_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        masses = dict(zip(names, mass.unbind(), strict=True))
        is_stopping = torch.full_like(loss, float(self.is_stop_requested))
        nothing = torch.zeros_like(loss)
        numbers = [
            loss.detach(),
            weight_B.sum(),
            is_stopping,
            *(masses.get(name, nothing) for name in source_names()),
        ]
        totals = torch.stack([number.detach().double() for number in numbers])
        if self._num_ranks > 1:
            dist.all_reduce(totals, group=self._group)
        self.soundness.note(totals[0])
        scale = self._num_ranks / totals[1].clamp(min=torch.finfo(torch.float32).tiny)
        return loss * scale.to(loss.dtype), totals
