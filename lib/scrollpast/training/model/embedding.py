"""Embeddings of many users and ads: with a checkpoint's towers in one process, or shared among the ranks of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from scrollpast.config.training_options import Model
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.checkpoint import Checkpoint, restore_weights
from scrollpast.training.loss.gather import gather
from scrollpast.training.model.features import AdFeatures, user_features
from scrollpast.training.model.towers import TableShapes, TwoTower

_ROWS_AT_ONCE = 4096


class Users(Protocol):
    """Users as columns; U users, ΣH rows of their histories one after the other."""

    @property
    def user_row(self) -> NDArray[np.int64]:
        """int64 [U]"""
        ...

    @property
    def user_features(self) -> dict[str, NDArray[np.int64]]:
        """int64 [U] of codes by name, in the vocabulary's order."""
        ...

    @property
    def history_rows(self) -> NDArray[np.int64]:
        """int64 [ΣH]"""
        ...

    @property
    def history_offsets(self) -> NDArray[np.int64]:
        """int64 [U + 1]"""
        ...


def read_towers(checkpoint: Checkpoint, vocabulary: Vocabulary) -> TwoTower:
    """The towers of a checkpoint as plain PyTorch on the CPU, without a process group.

    Raises:
        ScrollpastError: the checkpoint is not that of this vocabulary, or cannot be read.
    """
    options = Model.model_validate(checkpoint.facts["config"]["model"])
    towers = TwoTower(TableShapes.of(vocabulary), options)
    holder = torch.nn.Module()
    holder.towers = towers
    restore_weights(checkpoint, holder)
    return towers.eval()


@torch.no_grad()
def embed_ads(towers: TwoTower, vocabulary: Vocabulary, device: torch.device) -> torch.Tensor:
    """float32 [num_rows, D] on the CPU: the embedding of every row, row 0 included.

    Where ranks train together all of them call it, each embeds its share, and all get the whole.
    """
    features = AdFeatures(vocabulary)

    def embed(rows: torch.Tensor) -> torch.Tensor:
        return towers.ads(features.of(rows).to(device))

    return _in_shares(embed, vocabulary.num_rows)


@torch.no_grad()
def embed_users(towers: TwoTower, users: Users, device: torch.device) -> torch.Tensor:
    """float32 [U, D] on the CPU; shared among ranks like `embed_ads`."""
    offsets = torch.from_numpy(users.history_offsets)
    history = torch.from_numpy(users.history_rows)
    rows = torch.from_numpy(users.user_row)
    codes = {name: torch.from_numpy(values) for name, values in users.user_features.items()}

    def embed(at: torch.Tensor) -> torch.Tensor:
        lengths = offsets[at + 1] - offsets[at]
        starts = torch.repeat_interleave(offsets[at] - (lengths.cumsum(0) - lengths), lengths)
        own = history[starts + torch.arange(len(starts))]
        features = user_features(rows[at], {name: values[at] for name, values in codes.items()}, own, lengths)
        return towers.users(features.to(device))

    return _in_shares(embed, len(users.user_row))


def _in_shares(embed: Callable[[torch.Tensor], torch.Tensor], count: int) -> torch.Tensor:
    """Embed the numbers 0 … count − 1, every rank its share; the ranks call their tables equally often."""
    num_ranks = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    share = -(-count // num_ranks)
    parts = []
    for start in range(rank * share, (rank + 1) * share, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, (rank + 1) * share)
        # What lies beyond the end repeats the last one, and is cut off below.
        parts.append(embed(torch.arange(start, stop).clamp(max=count - 1)))
    embedded = torch.cat(parts)
    return (gather(embedded) if num_ranks > 1 else embedded)[:count].cpu()
