"""Towers and loss as one module, for sharding, pipelining and differentiation."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed.model_parallel import DistributedModelParallel

from scrollpast.config.training_options import Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.precision import precision_of
from scrollpast.training.engine.step_input import StepInput
from scrollpast.training.loss.objective import ContrastiveLoss
from scrollpast.training.model.initialization import fill_tables
from scrollpast.training.model.optimizers import fuse_table_optimizer
from scrollpast.training.model.sharding import shard
from scrollpast.training.model.towers import TableShapes, TwoTower

_FIRST_WEIGHT_BOUND = 0.05


class StepModel(nn.Module):
    """A step's input → its loss on this rank, and the totals of all ranks (see `ContrastiveLoss`)."""

    def __init__(self, towers: TwoTower, contrast: ContrastiveLoss) -> None:
        super().__init__()
        self.towers = towers
        self.contrast = contrast
        towers.user_tower.soundness = towers.ad_tower.soundness = contrast.soundness

    def forward(self, batch: StepInput) -> tuple[torch.Tensor, torch.Tensor]:
        result: tuple[torch.Tensor, torch.Tensor] = self.contrast(
            self.towers.users(batch.users), self.towers.ads(batch.ads), batch
        )
        return result


def build(
    options: Training, vocabulary: Vocabulary, device: torch.device, group: dist.ProcessGroup
) -> DistributedModelParallel:
    """Build the sharded model with its initial weights, which are the same on any number of ranks.

    Raises:
        UserError: the tables cannot be placed.
    """
    shapes = TableShapes.of(vocabulary, options.data, options.model)
    torch.manual_seed(options.seed)
    precision = precision_of(options.model.precision, device)
    towers = TwoTower(shapes, options.model, table_device="meta", precision=precision)
    for tables in (towers.user_tables, towers.ad_tables):
        fuse_table_optimizer(
            tables,
            options.optimizer,
            num_anchors=options.data.batch_size * dist.get_world_size(group),
        )
    if options.model.compile:
        for tower in (towers.user_tower, towers.ad_tower):
            tower.layers.compile()  # in place: names in the state stay the same
    contrast = ContrastiveLoss(options, vocabulary, device=device, group=group)
    dim = options.model.embedding_dim
    model = shard(
        StepModel(towers, contrast),
        options.model.sharding,
        table_shapes={name: (rows, dim) for name, rows in {**shapes.user_side, **shapes.ad_side}.items()},
        batch_size=options.data.batch_size,
        device=device,
        group=group,
    )
    fill_tables(
        model.state_dict(), seed=options.seed, bound=_FIRST_WEIGHT_BOUND, are_aligned=options.model.residual
    )
    return model
