"""Part of a batch as NumPy columns: anchors of one lane, cut and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrollpast.training.data.block import Integers

NUMBERS = (
    "user_id",
    "user_row",
    "ad_row",
    "request_hash",
    "served_at_ms",
    "kind",
    "shard",
    "record",
)
"""Rows of `AnchorPiece.numbers`, in this order, before the codes of the user features."""


@dataclass(frozen=True)
class AnchorPiece:
    """n anchors of a batch; `AnchorBatch` says what the values mean."""

    numbers: Integers
    """int64 [len(NUMBERS) + number of user features, n]"""
    weights: NDArray[np.float32]
    """float32 [n]"""
    hard_numbers: Integers
    """int64 [2, n, K]: row, request"""
    hard_weights: NDArray[np.float32]
    """float32 [2, n, K]: weight, log Q"""
    neighbour_numbers: Integers
    """int64 [1, n, J]: row"""
    neighbour_weights: NDArray[np.float32]
    """float32 [2, n, J]: weight, log Q"""
    history_rows: Integers
    history_lengths: Integers
    passed_rows: Integers
    passed_lengths: Integers
    known_rows: Integers
    known_lengths: Integers

    def __len__(self) -> int:
        return len(self.weights)

    def cut(self, sizes: Sequence[int]) -> list[AnchorPiece]:
        """The piece in parts of these sizes, which add up to it; views of the same memory."""
        bounds = np.cumsum([0, *sizes])
        history = np.append(0, np.cumsum(self.history_lengths))[bounds]
        passed = np.append(0, np.cumsum(self.passed_lengths))[bounds]
        known = np.append(0, np.cumsum(self.known_lengths))[bounds]
        return [
            AnchorPiece(
                numbers=self.numbers[:, first:stop],
                weights=self.weights[first:stop],
                hard_numbers=self.hard_numbers[:, first:stop],
                hard_weights=self.hard_weights[:, first:stop],
                neighbour_numbers=self.neighbour_numbers[:, first:stop],
                neighbour_weights=self.neighbour_weights[:, first:stop],
                history_rows=self.history_rows[history[at] : history[at + 1]],
                history_lengths=self.history_lengths[first:stop],
                passed_rows=self.passed_rows[passed[at] : passed[at + 1]],
                passed_lengths=self.passed_lengths[first:stop],
                known_rows=self.known_rows[known[at] : known[at + 1]],
                known_lengths=self.known_lengths[first:stop],
            )
            for at, (first, stop) in enumerate(pairwise(bounds.tolist()))
        ]


def concatenate(pieces: Sequence[AnchorPiece]) -> AnchorPiece:
    """Pieces one after the other as one."""
    if len(pieces) == 1:
        return pieces[0]
    return AnchorPiece(
        numbers=np.concatenate([piece.numbers for piece in pieces], axis=1),
        weights=np.concatenate([piece.weights for piece in pieces]),
        hard_numbers=_joined([piece.hard_numbers for piece in pieces]),
        hard_weights=_joined([piece.hard_weights for piece in pieces]),
        neighbour_numbers=_joined([piece.neighbour_numbers for piece in pieces]),
        neighbour_weights=_joined([piece.neighbour_weights for piece in pieces]),
        history_rows=np.concatenate([piece.history_rows for piece in pieces]),
        history_lengths=np.concatenate([piece.history_lengths for piece in pieces]),
        passed_rows=np.concatenate([piece.passed_rows for piece in pieces]),
        passed_lengths=np.concatenate([piece.passed_lengths for piece in pieces]),
        known_rows=np.concatenate([piece.known_rows for piece in pieces]),
        known_lengths=np.concatenate([piece.known_lengths for piece in pieces]),
    )


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Draws [values, n, draws] of several pieces; where none are drawn, there is nothing to copy."""
    if not parts[0].shape[2]:
        return np.zeros((len(parts[0]), sum(part.shape[1] for part in parts), 0), parts[0].dtype)
    return np.concatenate(parts, axis=1)
