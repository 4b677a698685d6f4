"""Contrastive loss of one step: the sum of the terms, over all ranks."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import nn

from scrollpast.config.training_options import Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.nonfinite_guard import NonFiniteGuard
from scrollpast.training.engine.precision import precision_of
from scrollpast.training.engine.step_input import StepInput
from scrollpast.training.loss.sources.source import RankStep
from scrollpast.training.loss.terms.registry import source_names, terms_of
from scrollpast.training.loss.terms.term import TermInput

SMALLEST_TEMPERATURE = 0.01
"""Lower limit of a learned temperature: the loss of one mislabelled pair grows with the inverse temperature."""


class ContrastiveLoss(nn.Module):
    """Contrastive loss over the embeddings of a step's users and ads.

    Args:
        options: options of the run; ``loss`` and ``negatives`` name the terms and their sources.
        vocabulary: holds each ad's number of positives.
        device: device of the steps.
        group: process group of the training.
    """

    def __init__(
        self, options: Training, vocabulary: Vocabulary, *, device: torch.device, group: dist.ProcessGroup
    ) -> None:
        super().__init__()
        self.is_stop_requested = False
        """Flag that this rank received SIGTERM; the next step's result carries the flag to all ranks."""
        self.soundness = NonFiniteGuard(device)
        model = options.model
        precision = precision_of(model.logits_precision, device)
        self._products = None if precision == torch.float32 else precision
        self._group, self._num_ranks = group, dist.get_world_size(group)
        log_scale = torch.tensor(-math.log(model.temperature), device=device)
        if model.is_temperature_learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)
        # No buffers: the values follow from the vocabulary and are no state.
        self._log_q = torch.from_numpy(vocabulary.log_q(1.0)).to(device)
        self._terms = terms_of(options, vocabulary)
        for term in self._terms:
            term.place(device)

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
        ads = {
            name: (row_M, embedding_MD)
            for (name, row_M), embedding_MD in zip(batch.rows.items(), embeddings, strict=True)
        }
        scale = self.log_scale.clamp(max=-math.log(SMALLEST_TEMPERATURE)).exp()
        step = RankStep(anchors, positive_BD, self._log_q, self._group)
        given = TermInput(user_BD, step, ads, scale, batch.step, self._products)
        losses: list[torch.Tensor] = []
        masses: dict[str, torch.Tensor] = {}
        for term in self._terms:
            if (found := term.loss(given)) is not None:
                weight = term.options.weight
                losses.append(found.loss * weight)
                masses |= {name: mass * weight for name, mass in found.masses.items()}
        if not losses:
            # The schedules may leave a step without any source: the step then learns nothing, on any rank.
            losses = [(user_BD.sum() + ad_MD.sum() + scale) * 0.0]
        return self._over_ranks(torch.stack(losses).sum(), masses, anchors.weight)

    def _over_ranks(
        self, loss: torch.Tensor, masses: dict[str, torch.Tensor], weight_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
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
