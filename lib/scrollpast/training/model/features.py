"""Keys of the table lookups: rows and codes as TorchRec's KeyedJaggedTensor, in the tables' order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from scrollpast.config.training_options import Model, TrainingData
from scrollpast.hashing import seeded_hash
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.model.towers import AD, HISTORY, PASSED, USER

_STEPS = 1 << 31
"""Steps that are told apart in the choice of dropped rows."""


class UserFeatures:
    """Input of the user tower.

    Args:
        vocabulary: codes of the ads in the lists.
        options: decide whether the features of these ads are read.
    """

    def __init__(self, vocabulary: Vocabulary, options: Model) -> None:
        self._codes = {
            name: torch.from_numpy(codes.copy())
            for name, codes in vocabulary.feature_codes.items()
            if options.read_list_features
        }

    def of(
        self,
        user_row: torch.Tensor,
        features: Mapping[str, torch.Tensor],
        lists: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    ) -> KeyedJaggedTensor:
        """Keys of B users.

        Args:
            user_row: int64 [B].
            features: int64 [B] of codes by name, in the vocabulary's order.
            lists: rows int64 [Σ] and lengths int64 [B] by name, in the order of `LISTS`.
        """
        bags: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for name, (rows, lengths) in lists.items():
            bags[name] = (rows, lengths)
            bags |= {f"{name}_{feature}": (codes[rows], lengths) for feature, codes in self._codes.items()}
        singles = [user_row, *features.values()]
        return KeyedJaggedTensor(
            keys=[USER, *(f"{USER}_{name}" for name in features), *bags],
            values=torch.cat([*singles, *(values for values, _ in bags.values())]),
            lengths=torch.cat(
                [torch.ones_like(user_row)] * len(singles) + [lengths for _, lengths in bags.values()]
            ),
            stride=len(user_row),
        )


def lists_of(batch: AnchorBatch, data: TrainingData) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Lists of the anchors' users that the user tower reads: rows int64 [Σ] and lengths int64 [B] by name."""
    lists = {HISTORY: (batch.history_rows, batch.history_lengths)}
    if data.max_passed:
        lists[PASSED] = (batch.passed_rows, batch.passed_lengths)
    return lists


class AdFeatures:
    """Input of the ad tower for ads by their rows: the row itself and the codes of its features.

    Args:
        vocabulary: codes, and the positives of each ad.
        options: decide which ads have a row of their own.
        seed: of the choice of ads whose row is dropped in a step.
    """

    def __init__(self, vocabulary: Vocabulary, options: Model, seed: int = 0) -> None:
        self._keys = [AD, *(f"{AD}_{name}" for name in vocabulary.feature_codes)]
        codes = list(vocabulary.feature_codes.values())
        self._codes = torch.from_numpy(
            np.stack(codes) if codes else np.zeros((0, vocabulary.num_rows), np.int64)
        )
        own_row = np.arange(vocabulary.num_rows)
        own_row[vocabulary.counts < options.min_ad_positives] = 0
        self._own_row = torch.from_numpy(own_row)
        self._dropout, self._seed = options.ad_row_dropout, seed

    def of(self, rows: torch.Tensor, step: int | None = None) -> KeyedJaggedTensor:
        """The features of the ads in these rows, int64 [N].

        Args:
            step: a step of training, in which rows are dropped; None = drop none.
        """
        own = self._own_row[rows]
        if step is not None and self._dropout:
            # A hash of step and ad: the same ads on all ranks, and again after a resumption.
            hashes = seeded_hash(self._seed, rows.numpy() * _STEPS + step) & np.iinfo(np.int64).max
            own = own * torch.from_numpy(hashes >= self._dropout * 2.0**63)
        values = torch.cat([own[None], self._codes[:, rows]]).view(-1)
        return KeyedJaggedTensor(
            keys=self._keys, values=values, lengths=torch.ones_like(values), stride=len(rows)
        )
