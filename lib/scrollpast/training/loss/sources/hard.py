"""Negatives of the anchor's own user: served and scrolled past (hard), or near the positive (neighbour)."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TypeVar

import torch

from scrollpast.config.training_options import Hard, Neighbour
from scrollpast.training.data.batch import AnchorBatch, Draws
from scrollpast.training.loss.sampled_softmax import Own
from scrollpast.training.loss.sources import masks
from scrollpast.training.loss.sources.log_q import catalogue_correction, pool_correction
from scrollpast.training.loss.sources.source import NegativeSource, RankStep

OwnOptions = TypeVar("OwnOptions", Hard, Neighbour)


class OwnSource(NegativeSource[OwnOptions]):
    """Source of draws from a pool of the anchor's user."""

    @abstractmethod
    def draws(self, anchors: AnchorBatch) -> Draws:
        """Draws of a batch."""

    @property
    @abstractmethod
    def is_same_request_masked(self) -> bool:
        """True if ads of the positive's request are left out."""

    def rows(self, anchors: AnchorBatch, step: int) -> torch.Tensor:
        del step
        return self.draws(anchors).row.view(-1)

    def candidates(
        self, row_M: torch.Tensor, embedding_MD: torch.Tensor, step: RankStep, log_weight: float
    ) -> Own | None:
        del row_M  # the same as those of the draws
        anchors, draws = step.anchors, self.draws(step.anchors)
        if not draws.count:
            return None
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
            correction_BK=self.correction(draws, step.log_q_R),
            is_weighted=self.options.is_weighted,
            is_same_request_masked=self.is_same_request_masked,
            mask_known_positives=self.options.mask_known_positives,
        )
        return Own(self.name, embedding_MD.view(*draws.row.shape, -1), offset_BK)

    def correction(self, draws: Draws, log_q_R: torch.Tensor) -> torch.Tensor | None:
        """Correction of the draws' probability, float [B, K]; None = each draw counts once."""
        kind, is_present_BK = self.options.log_q, draws.weight > 0
        if kind == "pool":
            return pool_correction(draws.log_q, is_present_BK)
        if kind == "uniform":
            of_each = torch.full_like(draws.weight, -math.log(max(1, self.vocabulary.num_rows - 1)))
            return catalogue_correction(of_each, is_present_BK)
        return catalogue_correction(log_q_R[draws.row], is_present_BK) if kind == "popularity" else None


class HardSource(OwnSource[Hard]):
    """Ads that the anchor's user was served and scrolled past."""

    name = "hard"

    def draws(self, anchors: AnchorBatch) -> Draws:
        return anchors.hard.first(self.options.count) if self.options.enabled else anchors.hard.first(0)

    @property
    def is_same_request_masked(self) -> bool:
        return self.options.is_same_request_masked


class NeighbourSource(OwnSource[Neighbour]):
    """Ads near the user, as they were mined into the records."""

    name = "neighbour"

    def draws(self, anchors: AnchorBatch) -> Draws:
        return anchors.neighbour

    @property
    def is_same_request_masked(self) -> bool:
        return False  # a neighbour has no request


def draw_offsets(
    row_B: torch.Tensor,
    request_B: torch.Tensor,
    known_rows: torch.Tensor,
    known_lengths: torch.Tensor,
    row_BK: torch.Tensor,
    weight_BK: torch.Tensor,
    request_BK: torch.Tensor | None,
    *,
    num_rows: int,
    log_weight: float,
    correction_BK: torch.Tensor | None = None,
    is_weighted: bool = True,
    is_same_request_masked: bool = False,
    mask_known_positives: bool = True,
) -> torch.Tensor:
    """Offsets of the logits of K draws from each user's pool: float32 [B, K], −inf where masked or absent.

    Args:
        row_B, request_B: int64 [B], the anchors' positives.
        known_rows, known_lengths: int64 [ΣP], [B].
        row_BK, request_BK: int64 [B, K]; request 0 = none, and None where no draw has one.
        weight_BK: float32 [B, K] in (0, 1], certainty of the negative; 0 = absent.
        num_rows: rows of the vocabulary.
        log_weight: of the source.
        correction_BK: float [B, K], correction of the probability of each draw (`pool_correction`,
            `catalogue_correction`); None = each draw counts once.
        is_weighted: multiply the candidate's logit weight by weight_BK. Draws already follow the weights: this
            separates users with certain negatives from users whose only negatives are doubtful.
        is_same_request_masked: leave out ads served in the positive's request.
        mask_known_positives: leave out known positives of the user.
    """
    is_present_BK = weight_BK > 0
    offset_BK = torch.full_like(weight_BK, log_weight)
    if is_weighted:
        offset_BK = offset_BK + torch.where(is_present_BK, weight_BK, 1.0).log()
    if correction_BK is not None:
        offset_BK = offset_BK + correction_BK
    is_masked_BK = ~is_present_BK | masks.same_row(row_B, row_BK)
    if is_same_request_masked and request_BK is not None:
        is_masked_BK |= masks.same_request(request_B, request_BK)
    if mask_known_positives:
        is_masked_BK |= masks.known_draws(known_rows, known_lengths, row_BK, num_rows)
    return offset_BK.masked_fill(is_masked_BK, -torch.inf)
