"""Placement of tables on the ranks by TorchRec's planner, within the configuration and the memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError
from torchrec.distributed.types import CacheParams, ModuleSharder, ShardingPlan, ShardingType

from scrollpast.config.training_options import ShardingOptions
from scrollpast.errors import UserError
from scrollpast.training.engine.distributed import local_world_size

_GIB = 2**30
_KERNELS = {
    "device": EmbeddingComputeKernel.FUSED,
    "managed": EmbeddingComputeKernel.FUSED_UVM,
    "cached": EmbeddingComputeKernel.FUSED_UVM_CACHING,
}


class _Sharder(EmbeddingBagCollectionSharder):
    """Sharder that allows row-wise cuts on a CPU too: TorchRec's default excludes them, but gloo supports them."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        kinds: list[str] = super().sharding_types(compute_device_type)
        rows = [ShardingType.ROW_WISE.value, ShardingType.TABLE_ROW_WISE.value]
        return kinds + [kind for kind in rows if kind not in kinds]


def shard(
    model: nn.Module,
    options: ShardingOptions,
    *,
    table_shapes: Mapping[str, tuple[int, int]],
    batch_size: int,
    device: torch.device,
    group: dist.ProcessGroup,
) -> DistributedModelParallel:
    """Shard the tables of a model over the ranks, and replicate its towers.

    Args:
        model: its collections of tables are on the "meta" device and have their optimizer attached.
        table_shapes: rows and columns of every table, by name.
        batch_size: batch size of one rank.

    Raises:
        UserError: a constraint names no table, or the tables do not fit into memory.
    """
    sharders: list[ModuleSharder[nn.Module]] = [_Sharder()]
    plan = _plan(model, options, table_shapes, batch_size, device, group, sharders)
    return DistributedModelParallel(module=model, device=device, plan=plan, sharders=sharders)


def describe(plan: ShardingPlan) -> str:
    """Placement of each table in a few words."""
    parts = []
    for module_plan in plan.plan.values():
        for name, parameter in module_plan.items():  # type: ignore[attr-defined]
            ranks = sorted(set(parameter.ranks or []))
            where = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]}–{ranks[-1]}"
            parts.append(f"{name} {parameter.sharding_type} on {where}")
    return ", ".join(parts)


def _plan(
    model: nn.Module,
    options: ShardingOptions,
    table_shapes: Mapping[str, tuple[int, int]],
    batch_size: int,
    device: torch.device,
    group: dist.ProcessGroup,
    sharders: Sequence[ModuleSharder[nn.Module]],
) -> ShardingPlan:
    for name, tables in (("tables", options.tables), ("placement", options.placement)):
        for unknown in sorted(set(tables) - set(table_shapes)):
            raise UserError(
                f"training.model.sharding.{name}.{unknown}",
                expected=f"one of the tables {', '.join(table_shapes)}",
                found=repr(unknown),
                remedy="name one of these tables",
            )
    num_ranks = dist.get_world_size(group)
    memory_bytes = _memory_bytes(options, device)
    topology = Topology(
        world_size=num_ranks,
        local_world_size=min(local_world_size(), num_ranks),
        compute_device=device.type,
        **(
            {"hbm_cap": memory_bytes, "ddr_cap": _machine_bytes()}
            if device.type == "cuda"
            else {"ddr_cap": memory_bytes}
        ),
    )
    constraints = {name: _constraints(name, options, device) for name in table_shapes}
    planner = EmbeddingShardingPlanner(topology=topology, batch_size=batch_size, constraints=constraints)
    try:
        plan: ShardingPlan = planner.collective_plan(model, list(sharders), group)
    except PlannerError as error:
        # The planner's report has totals in its first line; the list of tables is more useful to a reader.
        raise _does_not_fit(table_shapes, memory_bytes, num_ranks, str(error)) from error
    return plan


def _constraints(name: str, options: ShardingOptions, device: torch.device) -> ParameterConstraints:
    """Allowed placements of a table for the planner."""
    # Without a GPU, all memory is main memory.
    placement = options.placement.get(name, "device") if device.type == "cuda" else "device"
    cache = CacheParams(load_factor=options.cache_share) if placement == "cached" else None
    return ParameterConstraints(
        sharding_types=list(options.tables.get(name, options.types)),
        compute_kernels=[_KERNELS[placement].value],
        cache_params=cache,
    )


def _memory_bytes(options: ShardingOptions, device: torch.device) -> int:
    if options.memory_gib is not None:
        return int(options.memory_gib * _GIB)
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return _machine_bytes()


def _machine_bytes() -> int:
    """Share of a rank in the machine's memory, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // local_world_size()


def _does_not_fit(
    table_shapes: Mapping[str, tuple[int, int]], memory_bytes: int, num_ranks: int, reason: str
) -> UserError:
    sizes = {name: 4 * rows * columns for name, (rows, columns) in table_shapes.items()}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    found = ", ".join(
        f"{name} {table_shapes[name][0]:,} × {table_shapes[name][1]} = {sizes[name] / _GIB:,.2f} GiB"
        for name in largest
    )
    first_line = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
    return UserError(
        "training.model",
        expected=f"tables that can be placed on {num_ranks} × {memory_bytes / _GIB:,.2f} GiB",
        found=f"{sum(sizes.values()) / _GIB:,.2f} GiB of tables ({found}; TorchRec's planner: {first_line})",
        remedy="lower training.model.embedding_dim or the vocabulary's --num-user-rows, allow row_wise in "
        "training.model.sharding, set its placement of large tables to cached, or start more ranks",
    )
