"""Keys of the table lookups: rows and codes as TorchRec's KeyedJaggedTensor, in the tables' order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.model.towers import AD, HISTORY, USER


def user_features(
    user_row: torch.Tensor,
    features: Mapping[str, torch.Tensor],
    history_rows: torch.Tensor,
    history_lengths: torch.Tensor,
) -> KeyedJaggedTensor:
    """Input of the user tower for B users.

    Args:
        user_row: int64 [B].
        features: int64 [B] of codes by name, in the vocabulary's order.
        history_rows, history_lengths: int64 [ΣH], [B].
    """
    singles = [user_row, *features.values()]
    return KeyedJaggedTensor(
        keys=[USER, *(f"{USER}_{name}" for name in features), HISTORY],
        values=torch.cat([*singles, history_rows]),
        lengths=torch.cat([torch.ones_like(history_lengths)] * len(singles) + [history_lengths]),
        stride=len(user_row),
    )


class AdFeatures:
    """Input of the ad tower for ads by their rows: the row itself and the codes of its features."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._keys = [AD, *(f"{AD}_{name}" for name in vocabulary.feature_codes)]
        codes = list(vocabulary.feature_codes.values())
        self._codes = torch.from_numpy(
            np.stack(codes) if codes else np.zeros((0, vocabulary.num_rows), np.int64)
        )

    def of(self, rows: torch.Tensor) -> KeyedJaggedTensor:
        """The features of the ads in these rows, int64 [N]."""
        values = torch.cat([rows[None], self._codes[:, rows]]).view(-1)
        return KeyedJaggedTensor(
            keys=self._keys, values=values, lengths=torch.ones_like(values), stride=len(rows)
        )
