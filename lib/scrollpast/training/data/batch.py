"""Batch of anchors, with their context and the negatives of their users.

Shapes: B anchors, K hard negatives and J neighbours an anchor, ΣH, ΣS and ΣP the values of a ragged list of all
anchors together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch


@dataclass(frozen=True)
class Draws:
    """K negatives an anchor, drawn from a pool of its user. Absent ones follow the present ones."""

    row: torch.Tensor
    """int64 [B, K]; 0 = absent, or an ad that the vocabulary does not know: ``weight`` separates the two"""
    weight: torch.Tensor
    """float32 [B, K]: the record's weight of the negative; 0 = absent"""
    log_q: torch.Tensor
    """float32 [B, K]: log Q of the k-th draw; 0 where absent.

    The draws of one anchor are made one after the other, by weight and without replacement, from the user's
    pool: Q is the chance that draw k took this negative, given the draws before it, i.e. its weight (times the
    boost of an explicit negative) over that of all that was left in the pool. A sum over the pool of f is thus
    estimated by f(1) / Q(1), by f(1) + f(2) / Q(2), and so on: the ordered estimators of Des Raj (Journal of the
    American Statistical Association 51, 1956). The last one left has Q = 1.
    """
    request: torch.Tensor | None = None
    """int64 [B, K]; 0 where absent. None = these draws have no request."""

    @property
    def count(self) -> int:
        """K."""
        return int(self.row.shape[1])

    def first(self, count: int) -> Draws:
        """The first ``count`` draws: what would have been drawn if no more had been wanted."""
        return _mapped(self, lambda tensor: tensor[:, :count].contiguous())


@dataclass(frozen=True)
class AnchorBatch:
    """B anchors; all tensors are on one device. Rows are those of the `Vocabulary`, 0 = unknown.

    A ragged list is a pair: the values of all anchors one after the other, and the lengths that cut them.
    An anchor of weight 0 fills up the last batch of an epoch: it repeats an anchor of the same epoch, so that it
    may serve as a negative of others, and adds nothing to the loss by itself.
    """

    user_id: torch.Tensor
    """int64 [B]"""
    user_row: torch.Tensor
    """int64 [B], in [1, num_user_rows)"""
    user_features: dict[str, torch.Tensor]
    """int64 [B] of codes by name (without ``user_``); 0 = unknown"""
    history_rows: torch.Tensor
    """int64 [ΣH]: ads of the user's history before the log, if the record has one, and of the record's positives served
    before the anchor, oldest first"""
    history_lengths: torch.Tensor
    """int64 [B]"""
    passed_rows: torch.Tensor
    """int64 [ΣS]: served ads of the record's negatives before the anchor, oldest first"""
    passed_lengths: torch.Tensor
    """int64 [B]"""
    ad_row: torch.Tensor
    """int64 [B]: the positive"""
    request_hash: torch.Tensor
    """int64 [B]"""
    served_at_ms: torch.Tensor
    """int64 [B]"""
    kind: torch.Tensor
    """int64 [B]: code of the engagement, named in the manifest's ``kinds``"""
    weight: torch.Tensor
    """float32 [B]; 0 = fills up the batch"""
    hard: Draws
    """K ads that the user was served and scrolled past"""
    neighbour: Draws
    """J ads near the user; drawn independently of the hard ones. No impression is behind them: they have no request."""
    known_rows: torch.Tensor
    """int64 [ΣP]: ads of all positives of the user in the record, the anchor's own among them"""
    known_lengths: torch.Tensor
    """int64 [B], at least 1"""
    origin: torch.Tensor
    """int64 [B, 2]: number of the shard in the stream's ``shards``, and of the record in it"""
    targets: Draws | None = None
    """T ads of the history that the user tower does not read; None = none are asked for"""
    epoch: int = 0
    lane_position: int = 0
    """Anchors of every lane that are consumed when this batch is: what `AnchorStream.state_after` reads."""

    def __len__(self) -> int:
        return int(self.ad_row.shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> AnchorBatch:
        """The same batch on ``device``."""
        return _mapped(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> AnchorBatch:
        """The same batch in page-locked memory, from which a copy to a GPU need not be waited for."""
        return _mapped(self, lambda tensor: tensor.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory of every tensor until ``stream`` has done what it was given so far."""
        for tensor in self.tensors():
            tensor.record_stream(stream)

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor of the batch, in the order of the fields."""
        found: list[torch.Tensor] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            found.append(tensor)
            return tensor

        _mapped(self, keep)
        return found


Fields = TypeVar("Fields", AnchorBatch, Draws)


def _mapped(batch: Fields, change: Callable[[torch.Tensor], torch.Tensor]) -> Fields:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, dict):
            changes[field.name] = {name: change(tensor) for name, tensor in value.items()}
        elif isinstance(value, Draws):
            changes[field.name] = _mapped(value, change)
        elif isinstance(value, torch.Tensor):
            changes[field.name] = change(value)
    return dataclasses.replace(batch, **changes)
