"""Random ads of the catalogue, uniform, by popularity^alpha, or a mixture: the same draws for all anchors of a step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen
from scrollpast.config.training_options import Random
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.loss.sampled_softmax import Shared
from scrollpast.training.loss.sources import masks
from scrollpast.training.loss.sources.log_q import draw_correction
from scrollpast.training.loss.sources.source import NegativeSource, RankStep


class AliasTable:
    """Draw numbers 0 … n − 1 by given weights, each draw in constant time (Walker, ACM TOMS 3, 1977; Vose 1991).

    Args:
        weights: float64 [n], at least 0 and not all 0.
    """

    def __init__(self, weights: NDArray[np.float64]) -> None:
        if not len(weights) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.sum() > 0:
            raise ValueError(f"weights must be finite, at least 0 and not all 0, got {weights}")
        self._accept = np.empty(len(weights), np.float64)
        self._alias = np.empty(len(weights), np.int64)
        _fill(frozen(weights * (len(weights) / weights.sum()), np.float64), self._accept, self._alias)

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """int64 [count], independent draws."""
        slot = generator.integers(0, len(self._accept), count)
        return np.where(generator.random(count) < self._accept[slot], slot, self._alias[slot])

    def probabilities(self) -> NDArray[np.float64]:
        """float64 [n]: probability of each number in the table."""
        size = len(self._accept)
        return (self._accept + np.bincount(self._alias, 1.0 - self._accept, size)) / size


def catalogue_log_q(vocabulary: Vocabulary, options: Random) -> NDArray[np.float32]:
    """Log probability of each row in a draw: float32 [num_rows].

    A share ``tail_floor`` of the draws is uniform and the rest is proportional to popularity^alpha, so that the
    probability of every ad is at least ``tail_floor`` / ads, for any popularity.
    """
    log_q = vocabulary.log_q(options.alpha)
    if not 0 < options.tail_floor < 1:
        return vocabulary.log_q(0.0) if options.tail_floor else log_q
    by_popularity = np.log1p(-options.tail_floor) + log_q.astype(np.float64)
    uniform = np.log(options.tail_floor) - np.log(max(1, vocabulary.num_rows - 1))
    return np.logaddexp(by_popularity, uniform).astype(np.float32)


@dataclass(frozen=True)
class Catalogue:
    """Draws from the rows 1 … of a vocabulary.

    Args:
        log_q: float32 [num_rows] of `catalogue_log_q`: log Q of each row; row 0 is never drawn.
        seed: seed and step decide the draws, which are the same on every rank and for any number of ranks.
    """

    log_q: NDArray[np.float32]
    seed: int

    def draw(self, step: int, count: int) -> torch.Tensor:
        """int64 [count]: rows, independent draws with replacement."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed % 2**64, step]))
        return torch.from_numpy(1 + self._table.draw(generator, count))

    @cached_property
    def _table(self) -> AliasTable:
        return AliasTable(np.exp(self.log_q[1:].astype(np.float64)))


class RandomSource(NegativeSource[Random]):
    """Draws from the catalogue, the same for all anchors of a step."""

    name = "random"

    def __init__(self, options: Random, vocabulary: Vocabulary, seed: int = 0) -> None:
        super().__init__(options, vocabulary, seed)
        self._catalogue = Catalogue(catalogue_log_q(vocabulary, options), seed)
        self._log_q_R: torch.Tensor | None = None

    def rows(self, anchors: AnchorBatch, step: int) -> torch.Tensor:
        del anchors
        return self._catalogue.draw(step, self.options.count if self.options.enabled else 0)

    def place(self, device: torch.device) -> None:
        self._log_q_R = torch.from_numpy(self._catalogue.log_q).to(device)

    def candidates(
        self, row_M: torch.Tensor, embedding_MD: torch.Tensor, step: RankStep, log_weight: float
    ) -> Shared:
        assert self._log_q_R is not None, "place was not called"
        columns = RandomColumns(
            row_B=step.anchors.ad_row,
            known_rows=step.anchors.known_rows,
            known_lengths=step.anchors.known_lengths,
            row_N=row_M,
            log_q_N=self._log_q_R[row_M] if self.options.log_q else None,
            log_weight=log_weight,
            mask_known_positives=self.options.mask_known_positives,
        )
        return Shared(self.name, embedding_MD, columns)


@dataclass(frozen=True)
class RandomColumns:
    """N draws from the catalogue as candidates of B anchors."""

    row_B: torch.Tensor
    """int64 [B]: rows of the positives"""
    known_rows: torch.Tensor
    """int64 [ΣP]"""
    known_lengths: torch.Tensor
    """int64 [B]"""
    row_N: torch.Tensor
    """int64 [N]"""
    log_q_N: torch.Tensor | None
    """float [N]; None = no correction"""
    log_weight: float
    mask_known_positives: bool = True

    def add_offsets(self, logits_NB: torch.Tensor, start: int, stop: int) -> None:
        """Add the offsets of these anchors to the logits [N, stop − start]; `masks.FAR` less where masked."""
        if self.log_q_N is None:
            logits_NB += self.log_weight
        else:
            logits_NB += (self.log_weight + draw_correction(self.log_q_N, len(self.row_N)))[:, None]
        if self.mask_known_positives:
            self._known.mask_out(logits_NB, start, stop)  # the positive's own ad is among them
        else:
            logits_NB.sub_(masks.equal(self.row_N, self.row_B[start:stop]), alpha=masks.FAR)

    @cached_property
    def _known(self) -> masks.KnownColumns:
        return masks.KnownColumns(self.known_rows, self.known_lengths, self.row_N)


@compiled
def _fill(scaled: NDArray[np.float64], accept: NDArray[np.float64], alias: NDArray[np.int64]) -> None:
    """Pair every underfull slot with an overfull slot (weights scaled to a mean of 1)."""
    size = len(scaled)
    left = scaled.copy()
    small, large = np.empty(size, np.int64), np.empty(size, np.int64)
    num_small, num_large = 0, 0
    for slot in range(size):
        accept[slot], alias[slot] = 1.0, slot
        if scaled[slot] < 1.0:
            small[num_small] = slot
            num_small += 1
        else:
            large[num_large] = slot
            num_large += 1
    while num_small and num_large:
        num_small -= 1
        poor, rich = small[num_small], large[num_large - 1]
        accept[poor], alias[poor] = left[poor], rich
        left[rich] -= 1.0 - left[poor]
        if left[rich] < 1.0:
            num_large -= 1
            small[num_small] = rich
            num_small += 1
    # Remaining slots are full up to rounding, and are not paired. A slot of weight 0 cannot remain: its deficit
    # is exact, so that an overfull slot is left for it.
