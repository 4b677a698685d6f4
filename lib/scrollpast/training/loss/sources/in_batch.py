"""In-batch negatives: the positives of other anchors, of this rank or of all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.distributed as dist

from scrollpast.config.training_options import InBatch
from scrollpast.training.loss.gather import gather
from scrollpast.training.loss.sampled_softmax import Own, Shared
from scrollpast.training.loss.sources import masks
from scrollpast.training.loss.sources.log_q import draw_correction, softened_log_q
from scrollpast.training.loss.sources.source import NegativeSource, RankStep


class InBatchSource(NegativeSource[InBatch]):
    """Source of the positives of other anchors, which the step embeds already."""

    name = "in_batch"

    def candidates(
        self, row_M: torch.Tensor, embedding_MD: torch.Tensor, step: RankStep, log_weight: float
    ) -> Shared:
        del row_M, embedding_MD  # only the positives, which the step has
        anchors, options = step.anchors, self.options
        numbers = torch.stack([anchors.user_id, anchors.ad_row, anchors.request_hash], dim=1)
        column_ND, first_own = step.positive_BD, 0
        if options.across_ranks and dist.get_world_size(step.group) > 1:
            numbers, column_ND = gather(numbers, step.group), gather(step.positive_BD, step.group)
            first_own = dist.get_rank(step.group) * len(step.positive_BD)
        user_N, row_N, request_N = numbers.T.contiguous().unbind(0)
        columns = InBatchColumns(
            row_B=anchors.ad_row,
            known_rows=anchors.known_rows,
            known_lengths=anchors.known_lengths,
            user_N=user_N,
            row_N=row_N,
            request_N=request_N,
            log_q_N=softened_log_q(step.log_q_R, options.log_q_strength)[row_N] if options.log_q else None,
            first_own=first_own,
            log_weight=log_weight,
            is_same_user_masked=options.is_same_user_masked,
            is_same_request_masked=options.is_same_request_masked,
            mask_known_positives=options.mask_known_positives,
        )
        return Shared(self.name, column_ND, columns)

    def positive_correction(self, candidates: Shared | Own) -> torch.Tensor:
        assert isinstance(candidates, Shared) and isinstance(candidates.columns, InBatchColumns)
        return candidates.columns.positive_correction()


@dataclass(frozen=True)
class InBatchColumns:
    """N positives as candidates of B anchors; N = B, or the concatenated B of every rank.

    `add_offsets` works on a part of the anchors, so that no B × N tensor is allocated.
    """

    row_B: torch.Tensor
    """int64 [B]: rows of the anchors' own positives"""
    known_rows: torch.Tensor
    """int64 [ΣP]"""
    known_lengths: torch.Tensor
    """int64 [B]"""
    user_N: torch.Tensor
    """int64 [N]: user ids"""
    row_N: torch.Tensor
    """int64 [N]"""
    request_N: torch.Tensor
    """int64 [N]; 0 = none"""
    log_q_N: torch.Tensor | None
    """float [N]; None = no correction"""
    first_own: int
    """Column of the first anchor's own positive: rank · B, or 0 without the other ranks."""
    log_weight: float
    is_same_user_masked: bool = True
    is_same_request_masked: bool = True
    mask_known_positives: bool = True

    def add_offsets(self, logits_NB: torch.Tensor, start: int, stop: int) -> None:
        """Add the offsets of these anchors to the logits [N, stop − start]; `masks.FAR` less where masked."""
        is_no_draw = self._is_no_draw(start, stop)
        if self.log_q_N is None:
            logits_NB += self.log_weight
        else:
            num_draws = len(self.row_N) - is_no_draw.sum(0)
            logits_NB += self.log_weight + draw_correction(self.log_q_N, 1)[:, None]
            logits_NB -= num_draws.clamp_(min=1).log_()
        logits_NB.sub_(is_no_draw, alpha=masks.FAR)
        if self.mask_known_positives:
            self._known.mask_out(logits_NB, start, stop)  # the positive's own ad is among them
        else:
            logits_NB.sub_(masks.equal(self.row_N, self.row_B[start:stop]), alpha=masks.FAR)

    def positive_correction(self) -> torch.Tensor:
        """Float [B]: the correction of the positives as if they were draws themselves (RecSys 2019)."""
        assert self.log_q_N is not None
        size = len(self.row_B)
        num_draws = len(self.row_N) - self._is_no_draw(0, size).sum(0)
        return draw_correction(self.log_q_N[self.first_own : self.first_own + size], num_draws)

    def _is_no_draw(self, start: int, stop: int) -> torch.Tensor:
        """Float [N, b], 1 for the anchor's own column and those of its user and its request, else 0."""
        found: torch.Tensor | None = None
        own = slice(self.first_own + start, self.first_own + stop)
        if self.is_same_user_masked:
            found = masks.equal(self._user_code_N, self._user_code_N[own])
        if self.is_same_request_masked:
            # Hash 0 means no request: no candidate has the code −1, which its anchor is given here.
            code_B = self._request_code_N[own]
            same = masks.equal(self._request_code_N, torch.where(self.request_N[own] == 0, -1.0, code_B))
            found = same if found is None else torch.maximum(found, same, out=found)
        if found is None:
            found = torch.zeros((len(self.row_N), stop - start), device=self.row_N.device)
        anchor = torch.arange(stop - start, device=found.device)
        found[anchor + (start + self.first_own), anchor] = 1.0
        return found

    @cached_property
    def _user_code_N(self) -> torch.Tensor:  # noqa: N802 - its shape
        return masks.codes(self.user_N)

    @cached_property
    def _request_code_N(self) -> torch.Tensor:  # noqa: N802 - its shape
        return masks.codes(self.request_N)

    @cached_property
    def _known(self) -> masks.KnownColumns:
        return masks.KnownColumns(self.known_rows, self.known_lengths, self.row_N)
