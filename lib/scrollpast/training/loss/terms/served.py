"""Term of the user's own served negatives: a softmax of the positive against these alone."""

from __future__ import annotations

from typing import Any

import torch

from scrollpast.config.training_options import ServedTermOptions, Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch, Draws
from scrollpast.training.loss.sampled_softmax import Own, sampled_softmax
from scrollpast.training.loss.sources.hard import OwnSource
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
        scale = given.scale_of(self.options.temperature)
        loss, mass = sampled_softmax(
            given.user_BD, given.step.positive_BD, scale, given.step.anchors.weight, [candidates]
        )
        return TermLoss.of_one(_NAME, loss, mass, scale / given.scale)


class _Served(OwnSource[Any]):
    """The first draws of the anchor's hard negatives, each once."""

    name = _NAME

    def draws(self, anchors: AnchorBatch) -> Draws:
        return anchors.hard.first(self.options.count)

    @property
    def is_same_request_masked(self) -> bool:
        return False  # the slate's other ads are what this term is about

    def correction(self, draws: Draws, log_q_R: torch.Tensor) -> None:
        del draws, log_q_R
