"""Negatives for free: the positives of other anchors, of this rank or of all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from scrollpast.training.negatives import masks
from scrollpast.training.negatives.log_q import draw_correction


@dataclass(frozen=True)
class InBatchColumns:
    """N positives as candidates of B anchors; N = B, or the B of every rank one after the other.

    `offsets` gives the logits' offsets for some anchors at a time, so that B × N is never held as a whole.
    """

    user_B: torch.Tensor
    """int64 [B]: user ids of the anchors"""
    row_B: torch.Tensor
    """int64 [B]: rows of their positives"""
    request_B: torch.Tensor
    """int64 [B]; 0 = none"""
    known_rows: torch.Tensor
    """int64 [ΣP]"""
    known_lengths: torch.Tensor
    """int64 [B]"""
    user_N: torch.Tensor
    row_N: torch.Tensor
    request_N: torch.Tensor
    log_q_N: torch.Tensor | None
    """float [N]; None = no correction"""
    first_own: int
    """Column of the first anchor's own positive: rank · B, or 0 without the other ranks."""
    log_weight: float
    is_same_user_masked: bool = True
    is_same_request_masked: bool = True
    is_known_masked: bool = True

    def offsets(self, start: int, stop: int) -> torch.Tensor:
        """Float [stop − start, N]: what to add to the logits; −inf where masked."""
        is_no_draw = self._is_no_draw(start, stop)
        offset = torch.full(is_no_draw.shape, self.log_weight, device=self.row_N.device)
        if self.log_q_N is not None:
            offset = self.log_weight + draw_correction(self.log_q_N, (~is_no_draw).sum(1, keepdim=True))
        is_masked = is_no_draw | masks.same_row(self.row_B[start:stop], self.row_N)
        if self.is_known_masked:
            is_masked |= self._known.mask(start, stop)
        return offset.masked_fill_(is_masked, -torch.inf)

    def positive_correction(self) -> torch.Tensor:
        """Float [B]: the correction of the positives as if they were draws themselves (RecSys 2019)."""
        assert self.log_q_N is not None
        size = len(self.row_B)
        num_draws = (~self._is_no_draw(0, size)).sum(1)
        return draw_correction(self.log_q_N[self.first_own : self.first_own + size], num_draws)

    def _is_no_draw(self, start: int, stop: int) -> torch.Tensor:
        """Bool [b, N]: the anchor's own column, and those of its user and its request."""
        own = torch.arange(start + self.first_own, stop + self.first_own, device=self.row_N.device)
        is_no_draw = own[:, None] == torch.arange(len(self.row_N), device=self.row_N.device)
        if self.is_same_user_masked:
            is_no_draw |= masks.same_user(self.user_B[start:stop], self.user_N)
        if self.is_same_request_masked:
            is_no_draw |= masks.same_request(self.request_B[start:stop], self.request_N)
        return is_no_draw

    @cached_property
    def _known(self) -> masks.KnownColumns:
        return masks.KnownColumns(self.known_rows, self.known_lengths, self.row_N)
