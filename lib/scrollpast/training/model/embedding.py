"""Embeddings of many users and ads: by a checkpoint's towers in one process, or distributed over the ranks of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from scrollpast.config.training_options import Model, TrainingData
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.checkpoint import Checkpoint, restore_weights
from scrollpast.training.loss.gather import gather
from scrollpast.training.model.features import AdFeatures, UserFeatures
from scrollpast.training.model.towers import TableShapes, TwoTower

_ROWS_AT_ONCE = 4096


class Users(Protocol):
    """Users as columns; U users, lists of ads as rows one after the other."""

    @property
    def user_row(self) -> NDArray[np.int64]:
        """int64 [U]"""
        ...

    @property
    def user_features(self) -> dict[str, NDArray[np.int64]]:
        """int64 [U] of codes by name, in the vocabulary's order."""
        ...

    @property
    def lists(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows int64 [Σ] and offsets int64 [U + 1] by name, in the order of `LISTS`."""
        ...


def read_towers(checkpoint: Checkpoint, vocabulary: Vocabulary) -> TwoTower:
    """Read the towers of a checkpoint as plain PyTorch on the CPU, without a process group.

    Raises:
        ScrollpastError: the checkpoint belongs to another vocabulary, or cannot be read.
    """
    config = checkpoint.facts["config"]
    options = Model.model_validate(config["model"])
    shapes = TableShapes.of(vocabulary, TrainingData.model_validate(config["data"]), options)
    towers = TwoTower(shapes, options)
    holder = torch.nn.Module()
    holder.towers = towers
    restore_weights(checkpoint, holder)
    return towers.eval()


@torch.no_grad()
def embed_ads(towers: TwoTower, vocabulary: Vocabulary, device: torch.device) -> torch.Tensor:
    """Embeddings of all rows, row 0 included: float32 [num_rows, D] on the CPU.

    All ranks of a run call this function together: each embeds its share, and all get the whole result.
    """
    features = AdFeatures(vocabulary, towers.options)

    def embed(rows: torch.Tensor) -> torch.Tensor:
        return towers.ads(features.of(rows).to(device))

    return _in_shares(embed, vocabulary.num_rows)


@torch.no_grad()
def embed_users(towers: TwoTower, users: Users, vocabulary: Vocabulary, device: torch.device) -> torch.Tensor:
    """Embeddings of users: float32 [U, D] on the CPU; distributed over ranks like `embed_ads`."""
    features = UserFeatures(vocabulary, towers.options)
    rows = torch.from_numpy(users.user_row)
    codes = {name: torch.from_numpy(values) for name, values in users.user_features.items()}
    lists = {
        name: (torch.from_numpy(values), torch.from_numpy(offsets))
        for name, (values, offsets) in users.lists.items()
        if name in towers.user_lists
    }

    def embed(at: torch.Tensor) -> torch.Tensor:
        keys = features.of(
            rows[at],
            {name: values[at] for name, values in codes.items()},
            {name: _lists_at(*of_all, at) for name, of_all in lists.items()},
        )
        return towers.users(keys.to(device))

    return _in_shares(embed, len(users.user_row))


def _lists_at(
    values: torch.Tensor, offsets: torch.Tensor, at: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values int64 [Σ] and lengths int64 [b] of some users' lists."""
    lengths = offsets[at + 1] - offsets[at]
    starts = torch.repeat_interleave(offsets[at] - (lengths.cumsum(0) - lengths), lengths)
    return values[starts + torch.arange(len(starts))], lengths


def _in_shares(embed: Callable[[torch.Tensor], torch.Tensor], count: int) -> torch.Tensor:
    """Embed the numbers 0 … count − 1, each rank its share, with equally many table lookups on every rank."""
    num_ranks = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    share = -(-count // num_ranks)
    parts = []
    for start in range(rank * share, (rank + 1) * share, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, (rank + 1) * share)
        # Numbers beyond the end repeat the last number, and are cut off below.
        parts.append(embed(torch.arange(start, stop).clamp(max=count - 1)))
    embedded = torch.cat(parts)
    return (gather(embedded) if num_ranks > 1 else embedded)[:count].cpu()
