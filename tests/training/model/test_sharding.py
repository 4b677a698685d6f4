"""Placement of tables: plans for a GPU are made here without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from scrollpast.config import load_config
from scrollpast.errors import UserError
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.model.optimizers import fuse_table_optimizer
from scrollpast.training.model.sharding import _plan, _Sharder
from scrollpast.training.model.towers import TableShapes, TwoTower
from tests.training.data.days import vocabulary


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with process_group("cpu"):
        yield


def kernels(*settings: str, device: str = "cuda") -> dict[str, str]:
    """The kernel that each table gets."""
    options = load_config(None, [f"training.model.{setting}" for setting in settings]).training
    shapes = TableShapes.of(vocabulary(), options.data, options.model)
    towers = TwoTower(shapes, options.model, table_device="meta")
    for tables in (towers.user_tables, towers.ad_tables):
        fuse_table_optimizer(tables, options.optimizer, num_anchors=64)
    dim = options.model.embedding_dim
    sizes = {name: (rows, dim) for name, rows in {**shapes.user_side, **shapes.ad_side}.items()}
    group = dist.group.WORLD
    assert group is not None
    plan = _plan(towers, options.model.sharding, sizes, 64, torch.device(device), group, [_Sharder()])
    return {
        name: parameter.compute_kernel for module in plan.plan.values() for name, parameter in module.items()
    }


MEMORY = "sharding.memory_gib=70"


def test_tables_lie_on_the_device_unless_they_are_placed_elsewhere() -> None:
    found = kernels(MEMORY, "sharding.placement={user: cached, history: managed}")
    assert found.pop("user") == "fused_uvm_caching"
    assert found.pop("history") == "fused_uvm"
    assert set(found.values()) == {"fused"} and "ad" in found


def test_without_a_gpu_all_memory_is_the_machines() -> None:
    assert set(kernels("sharding.placement={user: cached}", device="cpu").values()) == {"fused"}


def test_a_table_that_does_not_fit_the_device_may_lie_in_the_machines_memory() -> None:
    small = "sharding.memory_gib=0.0001"
    with pytest.raises(UserError, match=r"set its placement of large tables to cached"):
        kernels(small)


def test_a_placement_of_no_table_is_the_users_mistake() -> None:
    with pytest.raises(
        UserError, match=r"training.model.sharding.placement.users: expected one of the tables"
    ):
        kernels(MEMORY, "sharding.placement={users: cached}")
