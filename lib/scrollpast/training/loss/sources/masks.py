"""Candidates that must not be contrasted with an anchor: they are its positive, or as good as one.

B anchors; N candidates that all anchors share, or K of each anchor's own. Two ads are the same where their
rows are: equal ids have equal rows, and all ads without a row share row 0, and so one embedding.
"""

from __future__ import annotations

import torch

FAR = 1e4
"""Amount that masked candidates lose in the logits: more than any two logits are apart, and still a plain number."""


def same_row(row_B: torch.Tensor, candidate_row: torch.Tensor) -> torch.Tensor:
    """Bool [B, N] for candidates int64 [N], bool [B, K] for candidates int64 [B, K]: it is the positive's ad."""
    return row_B[:, None] == candidate_row


def same_request(request_B: torch.Tensor, request_BK: torch.Tensor) -> torch.Tensor:
    """Bool [B, K]: the candidate was served by the anchor's request; hash 0 means no request."""
    return (request_B[:, None] == request_BK) & (request_BK != 0)


def codes(key_N: torch.Tensor) -> torch.Tensor:
    """Float32 [N] in [0, N): equal for equal keys and for no others (exact up to 2²⁴ keys).

    Comparing floats into floats is several times as fast as comparing int64.
    """
    ordered_N, _ = key_N.sort()
    return torch.searchsorted(ordered_N, key_N).float()


def equal(key_N: torch.Tensor, key_B: torch.Tensor) -> torch.Tensor:
    """Float [N, B]: 1 where a candidate has the anchor's key, else 0; best of `codes`."""
    found = torch.empty((len(key_N), len(key_B)), device=key_N.device)
    return torch.eq(key_N[:, None], key_B, out=found)


class KnownColumns:
    """Mask of the N shared candidates that are known positives of an anchor.

    The work that does not depend on the anchor (sorting N) is done once; `mask_out` does the rest for some anchors.
    Nothing here waits for the device.

    Args:
        known_rows: int64 [ΣP], the known positives of all anchors one after the other.
        known_lengths: int64 [B].
        row_N: int64 [N], the candidates.
    """

    def __init__(self, known_rows: torch.Tensor, known_lengths: torch.Tensor, row_N: torch.Tensor) -> None:
        self._num_columns = len(row_N)
        self._anchor_of_pair = anchors_of_pairs(known_lengths, len(known_rows))
        ordered_N, _ = row_N.sort()
        # Equal candidates stand in for each other by the first of them in sorted order.
        self._first_N = torch.searchsorted(ordered_N, row_N)
        at = torch.searchsorted(ordered_N, known_rows)
        self._column_of_pair = at.clamp_(max=max(0, self._num_columns - 1))
        self._is_hit = (
            ordered_N[self._column_of_pair] == known_rows
            if self._num_columns
            else torch.zeros_like(known_rows, dtype=torch.bool)
        )

    def mask_out(self, logits_NB: torch.Tensor, start: int, stop: int) -> None:
        """Take `FAR` from the logits [N, stop − start] of these anchors' known positives, in place."""
        size = (stop - start) * self._num_columns
        anchor = self._anchor_of_pair
        is_meant = self._is_hit & (anchor >= start) & (anchor < stop)
        cell = self._column_of_pair * (stop - start) + (anchor - start)
        # What is not meant goes to one more cell, which is dropped: no selection, hence no wait for its size.
        penalty = logits_NB.new_zeros(size + 1)
        penalty[torch.where(is_meant, cell, size)] = -FAR
        # Whole lines are copied: several times as fast as indexing, which looks at every value.
        logits_NB += penalty[:size].view(self._num_columns, stop - start).index_select(0, self._first_N)


def known_draws(
    known_rows: torch.Tensor, known_lengths: torch.Tensor, row_BK: torch.Tensor, num_rows: int
) -> torch.Tensor:
    """Bool [B, K]: which of each anchor's own candidates are among its known positives.

    Args:
        known_rows: int64 [ΣP] in [0, num_rows).
        known_lengths: int64 [B].
        row_BK: int64 [B, K] in [0, num_rows).
    """
    if not len(known_rows):
        return torch.zeros_like(row_BK, dtype=torch.bool)
    pairs, _ = (anchors_of_pairs(known_lengths, len(known_rows)) * num_rows + known_rows).sort()
    anchor_B1 = torch.arange(len(row_BK), device=row_BK.device)[:, None]
    wanted_BK = anchor_B1 * num_rows + row_BK
    at = torch.searchsorted(pairs, wanted_BK).clamp_(max=len(pairs) - 1)
    return pairs[at] == wanted_BK


def anchors_of_pairs(lengths: torch.Tensor, num_values: int) -> torch.Tensor:
    """int64 [ΣP]: the anchor that each value of a ragged list belongs to."""
    anchors = torch.arange(len(lengths), device=lengths.device)
    return torch.repeat_interleave(anchors, lengths, output_size=num_values)
