"""Term of exposure: a softmax of the positive against what the users of the whole batch were served and passed over.

B anchors, K draws an anchor, N = B · K candidates that all anchors share.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist

from scrollpast.config.training_options import ExposureTermOptions, Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.loss.gather import gather
from scrollpast.training.loss.sampled_softmax import Shared, sampled_softmax
from scrollpast.training.loss.sources import masks
from scrollpast.training.loss.sources.source import NegativeSource, RankStep
from scrollpast.training.loss.terms.term import LossTerm, TermInput, TermLoss

_NAME = "exposure"


class ExposureTerm(LossTerm[ExposureTermOptions]):
    """Softmax of the positive against the served negatives of all anchors, without a correction of their frequency.

    The score of a softmax against draws from a distribution Q is log(P(positive) / Q) at its optimum. Draws of
    positives (logQ strength 0) divide by popularity, and so by quality as well. Served negatives are drawn as often as
    ads are shown: what remains is the engagement for each exposure, quality included.
    """

    name = _NAME
    options_type = ExposureTermOptions

    def __init__(self, options: ExposureTermOptions, training: Training, vocabulary: Vocabulary) -> None:
        super().__init__(options, training, vocabulary)
        self.sources = (_Draws(options, vocabulary),)

    @classmethod
    def source_names(cls) -> tuple[str, ...]:
        return (_NAME,)

    def loss(self, given: TermInput) -> TermLoss:
        row_N, embedding_ND = given.ads[_NAME]
        anchors, draws = given.step.anchors, given.step.anchors.hard.first(self.options.count)
        weight_N = draws.weight.reshape(-1)
        if dist.get_world_size(group := given.step.group) > 1:
            row_N, weight_N = gather(row_N, group), gather(weight_N, group)
            embedding_ND = gather(embedding_ND, group)
        columns = _Columns(anchors, row_N, weight_N)
        scale = given.scale_of(self.options.temperature)
        loss, mass = sampled_softmax(
            given.user_BD,
            given.step.positive_BD,
            scale,
            anchors.weight,
            [Shared(_NAME, embedding_ND, columns)],
            products=given.products,
        )
        return TermLoss.of_one(_NAME, loss, mass, scale / given.scale)


@dataclass(frozen=True)
class _Columns:
    """Served negatives of all anchors as candidates of each."""

    anchors: AnchorBatch
    row_N: torch.Tensor
    """int64 [N]: draws of all ranks"""
    weight_N: torch.Tensor
    """float32 [N]; 0 = absent"""

    def add_offsets(self, logits_NB: torch.Tensor, start: int, stop: int) -> None:
        """Add the offsets of these anchors to the logits [N, stop − start]; `masks.FAR` less where masked."""
        is_present_N = self.weight_N > 0
        offset_N = torch.where(is_present_N, self.weight_N, 1.0).log()
        logits_NB += torch.where(is_present_N, offset_N, -masks.FAR)[:, None]
        logits_NB.sub_(masks.equal(self.row_N, self.anchors.ad_row[start:stop]), alpha=masks.FAR)
        self._known.mask_out(logits_NB, start, stop)

    @cached_property
    def _known(self) -> masks.KnownColumns:
        return masks.KnownColumns(self.anchors.known_rows, self.anchors.known_lengths, self.row_N)


class _Draws(NegativeSource[Any]):
    """The first draws of the anchors' hard negatives."""

    name = _NAME

    def rows(self, anchors: AnchorBatch, step: int) -> torch.Tensor:
        del step
        return anchors.hard.first(self.options.count).row.reshape(-1)

    def candidates(
        self, row_M: torch.Tensor, embedding_MD: torch.Tensor, step: RankStep, log_weight: float
    ) -> None:
        del row_M, embedding_MD, step, log_weight  # the term makes columns of them
