"""Term of the loss: the interface that the objective calls, and one step as a term sees it.

B anchors of this rank, M ads of a source, D dimensions of an embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch

from scrollpast.config.training_options import TermOptions, Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.loss.sources.source import NegativeSource, RankStep

Options = TypeVar("Options", bound=TermOptions)


@dataclass(frozen=True)
class TermInput:
    """One step on one rank, embedded."""

    user_BD: torch.Tensor
    """float32 [B, D]"""
    step: RankStep
    """Anchors, the embeddings of their ads, and the ranks"""
    ads: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    """By source: rows int64 [M] and embeddings float32 [M, D]"""
    scale: torch.Tensor
    """float32 []: inverse of the model's temperature; has a gradient where the temperature is learned"""
    number: int
    """Steps before this step"""
    products: torch.dtype | None = None
    """Precision of products with shared candidates; None = that of the embeddings"""

    def scale_of(self, temperature: float | None) -> torch.Tensor:
        """float32 []: inverse of a term's own temperature; None = the model's."""
        return self.scale if temperature is None else torch.full_like(self.scale, 1 / temperature)


@dataclass(frozen=True)
class TermLoss:
    """Result of a term on one rank."""

    loss: torch.Tensor
    """float32 []: Σ over the anchors of weight · loss, to differentiate"""
    masses: Mapping[str, torch.Tensor]
    """float32 [] by source, without gradient: Σ over the anchors of weight · the source's share in the softmax"""

    @staticmethod
    def of_one(source: str, loss: torch.Tensor, mass_1: torch.Tensor, scale: torch.Tensor) -> TermLoss:
        """Result of a term with one source and a temperature of its own.

        Args:
            mass_1: float32 [1]: what the softmax returned for the source.
            scale: float32 []: scale of the term over that of the model. The gradient of a score is its share times the
                scale, and masses are compared in units of the shared softmax.
        """
        return TermLoss(loss, {source: mass_1[0] * scale.detach()})


class LossTerm(ABC, Generic[Options]):
    """One term of the loss; the loss is the sum of the terms, each times its weight.

    A term is constructed twice: where inputs are prepared, which reads `sources`, and where the loss is computed, which
    calls `place` and `loss`.

    Args:
        options: of this term.
        training: all options of the run.
        vocabulary: rows and counts of ads.
    """

    name: ClassVar[str]
    """Key in ``training.loss``"""
    options_type: ClassVar[type[TermOptions]] = TermOptions
    """Model of the options that ``training.loss.others.NAME`` has"""

    def __init__(self, options: Options, training: Training, vocabulary: Vocabulary) -> None:
        del training, vocabulary
        self.options = options
        self.sources: Sequence[NegativeSource[Any]] = ()

    @classmethod
    def source_names(cls) -> tuple[str, ...]:
        """Names of the sources that this term may have; no two terms have the same."""
        return ()

    def place(self, device: torch.device) -> None:
        """Copy tensors that `loss` reads to the device of the steps."""
        for source in self.sources:
            source.place(device)

    @abstractmethod
    def loss(self, given: TermInput) -> TermLoss | None:
        """Loss of one step; None where this step has none, on every rank alike."""
