"""Initial weights of the tables: the same in every row for any sharding over ranks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor

_ELEMENTS_AT_ONCE = 1 << 20
_LIST_TABLE = re.compile(r"(.*)user_tables\.embedding_bags\.(history|passed)(.*)")


def fill_tables(state: Mapping[str, Any], *, seed: int, bound: float, are_aligned: bool = False) -> None:
    """Fill the tables of a model's ``state_dict()`` in place, uniformly in ±``bound``.

    The value of a cell is a hash of (seed, table, row, column), and so independent of the row's rank.

    Args:
        are_aligned: give a table of a list of ads the rows of the ads' own table.
        state: tensors, or sharded tensors of which this rank's parts are filled; other parameters stay unchanged.
    """
    for name, value in state.items():
        if ".embedding_bags." not in name:
            continue
        if are_aligned:
            name = _LIST_TABLE.sub(r"\1ad_tables.embedding_bags.ad\3", name)
        key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little", signed=True)
        if isinstance(value, ShardedTensor):
            num_columns = value.size(1)
            for shard in value.local_shards():
                row, column = shard.metadata.shard_offsets
                _fill(shard.tensor, key, bound, row, column, num_columns)
        else:
            _fill(value, key, bound, 0, 0, value.shape[1])


@torch.no_grad()
def _fill(part: torch.Tensor, key: int, bound: float, row: int, column: int, num_columns: int) -> None:
    """Fill the part of a table that begins at ``row`` and ``column``."""
    height, width = part.shape
    columns = torch.arange(column, column + width, device=part.device)
    step = max(1, _ELEMENTS_AT_ONCE // width)
    for start in range(0, height, step):
        stop = min(start + step, height)
        rows = torch.arange(row + start, row + stop, device=part.device)
        cells = _mixed((rows[:, None] * num_columns + columns) ^ key)
        # The upper 24 bits, which a float32 holds without rounding, so that 1 is never reached.
        part[start:stop] = ((cells >> 40) & 0xFFFFFF).to(torch.float32) * (2.0 * bound / 2**24) - bound


def _mixed(cells: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014) of int64; products wrap around."""
    cells = cells + -0x61C8864680B583EB
    cells = (cells ^ ((cells >> 30) & ((1 << 34) - 1))) * -0x40A7B892E31B1A47
    cells = (cells ^ ((cells >> 27) & ((1 << 37) - 1))) * -0x6B2FB644ECCEEE15
    return cells ^ ((cells >> 31) & ((1 << 33) - 1))
