"""Negatives of the anchor's own user: served and scrolled past (hard), or near the positive (neighbour)."""

from __future__ import annotations

import torch

from scrollpast.training.loss.sources import masks


def draw_offsets(
    row_B: torch.Tensor,
    request_B: torch.Tensor,
    known_rows: torch.Tensor,
    known_lengths: torch.Tensor,
    row_BK: torch.Tensor,
    weight_BK: torch.Tensor,
    request_BK: torch.Tensor,
    *,
    num_rows: int,
    log_weight: float,
    correction_BK: torch.Tensor | None = None,
    is_weighted: bool = True,
    is_same_request_masked: bool = False,
    mask_known_positives: bool = True,
) -> torch.Tensor:
    """What to add to the logits of K draws from each user's pool: float32 [B, K], −inf where masked or absent.

    Args:
        row_B, request_B: int64 [B], the anchors' positives.
        known_rows, known_lengths: int64 [ΣP], [B].
        row_BK, request_BK: int64 [B, K]; request 0 = none.
        weight_BK: float32 [B, K] in (0, 1], how surely it is a negative; 0 = absent.
        num_rows: rows of the vocabulary.
        log_weight: of the source.
        correction_BK: float [B, K], what the chance of each draw asks for (`pool_correction`,
            `catalogue_correction`); without it the draws count once each.
        is_weighted: a draw counts as much as it is surely a negative. Draws are made by weight already: this
            tells users with sure negatives from users whose only negatives are doubtful.
        is_same_request_masked: leave out what was served beside the positive.
        mask_known_positives: leave out known positives of the user.
    """
    is_present_BK = weight_BK > 0
    offset_BK = torch.full_like(weight_BK, log_weight)
    if is_weighted:
        offset_BK = offset_BK + torch.where(is_present_BK, weight_BK, 1.0).log()
    if correction_BK is not None:
        offset_BK = offset_BK + correction_BK
    is_masked_BK = ~is_present_BK | masks.same_row(row_B, row_BK)
    if is_same_request_masked:
        is_masked_BK |= masks.same_request(request_B, request_BK)
    if mask_known_positives:
        is_masked_BK |= masks.known_draws(known_rows, known_lengths, row_BK, num_rows)
    return offset_BK.masked_fill(is_masked_BK, -torch.inf)
