"""Source of negatives: the interface that the trainer calls, and one step as a source sees it.

B anchors of this rank, M ads of a source, R rows of the vocabulary, D dimensions of an embedding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
import torch.distributed as dist

from scrollpast.config.training_options import SourceOptions
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.engine.schedule import Ramp
from scrollpast.training.loss.sampled_softmax import Own, Shared

Options = TypeVar("Options", bound=SourceOptions)


@dataclass(frozen=True)
class RankStep:
    """One step on one rank."""

    anchors: AnchorBatch
    positive_BD: torch.Tensor
    """float32 [B, D]: embeddings of the anchors' own ads"""
    log_q_R: torch.Tensor
    """float32 [R]: log of each ad's share of all positives"""
    group: dist.ProcessGroup
    """The ranks that train together"""


class NegativeSource(ABC, Generic[Options]):
    """One source of negatives in the softmax.

    A source is constructed twice: where inputs are prepared, which calls `rows`, and where the loss is computed, which
    calls `place` and `candidates`.

    Args:
        options: of this source.
        vocabulary: rows and counts of ads.
        seed: of random draws; the same on all ranks.
    """

    name: ClassVar[str]
    """Key in ``training.negatives``, in the log and in TensorBoard."""
    options_type: ClassVar[type[SourceOptions]] = SourceOptions
    """Model of the options that ``training.negatives.others.NAME`` has."""

    def __init__(self, options: Options, vocabulary: Vocabulary, seed: int = 0) -> None:
        self.options, self.vocabulary, self.seed = options, vocabulary, seed

    def rows(self, anchors: AnchorBatch, step: int) -> torch.Tensor:
        """Rows of the ads that the towers embed for this source: int64 [M], on the processor; none by default."""
        del anchors, step
        return torch.zeros(0, dtype=torch.int64)

    def place(self, device: torch.device) -> None:
        """Copy tensors that `candidates` reads to the device of the steps."""

    @abstractmethod
    def candidates(
        self, row_M: torch.Tensor, embedding_MD: torch.Tensor, step: RankStep, log_weight: float
    ) -> Shared | Own | None:
        """Candidates of this step with their masks and corrections; None where the step has none.

        Args:
            row_M: int64 [M], what `rows` returned.
            embedding_MD: float32 [M, D], their embeddings.
            log_weight: logarithm of the source's weight in this step.
        """

    def positive_correction(self, candidates: Shared | Own) -> torch.Tensor | None:
        """Float [B]: correction of the positives as if this source had drawn them; None where it draws no positives.

        Args:
            candidates: what `candidates` returned.
        """
        del candidates
        return None

    def log_weight(self, step: int) -> float | None:
        """Logarithm of the source's weight in a step; None where the source takes no part."""
        schedule = self.options.schedule
        factor = Ramp(schedule.initial, schedule.start_step, schedule.ramp_steps).at(step)
        return math.log(self.options.weight * factor) if self.options.enabled and factor > 0 else None
