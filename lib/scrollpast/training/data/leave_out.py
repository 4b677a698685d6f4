"""Ads taken out of an anchor's history in a step: what the loss asks for must not stand in what the tower reads.

B anchors, T targets an anchor, ΣH and ΣP the values of a ragged list of all anchors together.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrollpast.config.training_options import Training
from scrollpast.hashing import seeded_hash
from scrollpast.training.data.batch import AnchorBatch, Draws


class LeaveOut:
    """Leave-one-out of the histories of a batch, by the options of the run.

    Args:
        options: reads ``data.history_dropout``, ``data.mask_history`` and ``loss.history``.
    """

    def __init__(self, options: Training) -> None:
        data, term = options.data, options.loss.history
        self._seed, self._share, self._masks_history = options.seed, data.history_dropout, data.mask_history
        self._num_targets = term.count if term.weight else 0

    def of(self, batch: AnchorBatch) -> AnchorBatch:
        """The batch with shorter histories, and with the targets that were taken out of them."""
        changes: dict[str, Any] = {}
        if self._masks_history:
            changes |= self._known(batch)
        if self._share:
            changes |= self._history(batch)
        return dataclasses.replace(batch, **changes) if changes else batch

    def _history(self, batch: AnchorBatch) -> dict[str, Any]:
        """A share of each history taken out, rounded down; the first T of it are the anchor's targets."""
        anchor, lengths = _anchors(batch.history_lengths), batch.history_lengths.numpy()
        rows = batch.history_rows.numpy()
        # The anchor's own keys and the epoch: the same choice in any batch and on any rank.
        keys = (batch.user_id, batch.ad_row, batch.served_at_ms)
        of_anchor = seeded_hash(self._seed, *(key.numpy() for key in keys), np.full(len(batch), batch.epoch))
        hashes = seeded_hash(self._seed, of_anchor[anchor], rows)
        order = np.lexsort((hashes, anchor))
        starts = np.cumsum(lengths) - lengths
        place = np.empty(len(rows), np.int64)
        place[order] = np.arange(len(rows)) - starts[anchor]
        is_out = place < np.floor(lengths * self._share)[anchor]
        target = np.zeros((len(batch), self._num_targets), np.int64)
        present = np.zeros(target.shape, np.float32)
        # An ad outside the vocabulary has no row to learn.
        chosen = is_out & (place < self._num_targets) & (rows > 0)
        target[anchor[chosen], place[chosen]] = rows[chosen]
        present[anchor[chosen], place[chosen]] = 1.0
        weight = torch.from_numpy(present)
        return {
            "history_rows": batch.history_rows[torch.from_numpy(~is_out)],
            "history_lengths": torch.from_numpy(np.bincount(anchor[~is_out], minlength=len(batch))),
            "targets": Draws(torch.from_numpy(target), weight, torch.zeros_like(weight)),
        }

    def _known(self, batch: AnchorBatch) -> dict[str, Any]:
        """Known positives with the ads of the history behind them."""
        anchor = np.concatenate([_anchors(batch.known_lengths), _anchors(batch.history_lengths)])
        order = np.argsort(anchor, kind="stable")
        rows = torch.cat([batch.known_rows, batch.history_rows])[torch.from_numpy(order)]
        return {"known_rows": rows, "known_lengths": batch.known_lengths + batch.history_lengths}


def _anchors(lengths: torch.Tensor) -> NDArray[np.int64]:
    """int64 [Σ]: the anchor that each value of a ragged list belongs to."""
    return np.repeat(np.arange(len(lengths)), lengths.numpy())
