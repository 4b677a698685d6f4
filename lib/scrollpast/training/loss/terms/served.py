"""Term of the user's own served negatives: a softmax of the positive against these alone."""

from __future__ import annotations

from typing import Any

import torch

from scrollpast.config.training_options import ServedTermOptions, Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.loss.sampled_softmax import Own, sampled_softmax
from scrollpast.training.loss.sources.hard import draw_offsets
from scrollpast.training.loss.sources.source import NegativeSource, RankStep
from scrollpast.training.loss.terms.term import LossTerm, TermInput, TermLoss

_NAME = "served"


class ServedTerm(LossTerm[ServedTermOptions]):
    """Softmax of the positive against ads that the anchor's user was served and scrolled past.

    Served ads are close to the positive, and few beside the catalogue: in one softmax with easy negatives they
    either count for nothing or displace the easy ones (hard and easy negatives in one loss conflict: HAP, arXiv
    2603.03770). A term of their own, with a larger temperature, leaves the softmax over easy negatives as it is.
    """

    name = _NAME
    options_type = ServedTermOptions

    def __init__(self, options: ServedTermOptions, training: Training, vocabulary: Vocabulary) -> None:
        super().__init__(options, training, vocabulary)
        self.sources = (_Served(options, vocabulary),)

    @classmethod
    def source_names(cls) -> tuple[str, ...]:
        return (_NAME,)

    def loss(self, given: TermInput) -> TermLoss:
        (source,) = self.sources
        candidates = source.candidates(*given.ads[_NAME], given.step, 0.0)
        assert isinstance(candidates, Own)
        scale = torch.full_like(given.scale, 1 / self.options.temperature)
        loss, mass = sampled_softmax(
            given.user_BD, given.step.positive_BD, scale, given.step.anchors.weight, [candidates]
        )
        # The gradient of a score is its share times the scale: in units of the shared softmax.
        return TermLoss(loss, {_NAME: mass[0] * (scale / given.scale).detach()})


class _Served(NegativeSource[Any]):
    """The first draws of the anchor's hard negatives, each once."""

    name = _NAME

    def rows(self, anchors: AnchorBatch, step: int) -> torch.Tensor:
        del step
        return anchors.hard.first(self.options.count).row.reshape(-1)

    def candidates(
        self, row_M: torch.Tensor, embedding_MD: torch.Tensor, step: RankStep, log_weight: float
    ) -> Own:
        del row_M  # the same as those of the draws
        anchors, draws = step.anchors, step.anchors.hard.first(self.options.count)
        offset_BK = draw_offsets(
            anchors.ad_row,
            anchors.request_hash,
            anchors.known_rows,
            anchors.known_lengths,
            draws.row,
            draws.weight,
            draws.request,
            num_rows=self.vocabulary.num_rows,
            log_weight=log_weight,
            is_weighted=self.options.is_weighted,
            mask_known_positives=self.options.mask_known_positives,
        )
        return Own(self.name, embedding_MD.view(*draws.row.shape, -1), offset_BK)
