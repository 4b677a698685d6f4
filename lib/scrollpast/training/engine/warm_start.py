"""Warm start from the weights of another run: known ads keep their rows, new ads get initial weights."""

from __future__ import annotations

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.planner import LoadPlan
from torch.distributed.checkpoint.planner_helpers import _create_read_items
from torchrec.distributed.model_parallel import DistributedModelParallel

from scrollpast.errors import UserError
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.checkpoint import chosen_checkpoint, load, vocabulary_of


def begin_from(uri: str, metric: str, model: DistributedModelParallel, vocabulary: Vocabulary) -> None:
    """Load the weights of a checkpoint; optimizer states start empty.

    Args:
        uri: a checkpoint, or a run, whose best checkpoint by ``metric`` is used.
        vocabulary: the checkpoint's, or a vocabulary that extends it; added rows and codes keep their initial weights.

    Raises:
        UserError: the vocabulary does not extend the checkpoint's, or has other features.
        ScrollpastError: the checkpoint does not fit the model.
    """
    checkpoint = chosen_checkpoint(uri, metric)
    older = vocabulary_of(checkpoint, None)
    if not vocabulary.extends(older) or vocabulary.features.keys() != older.features.keys():
        raise UserError(
            "training.start_from",
            expected=f"a checkpoint of a vocabulary that {vocabulary.version} extends, with the same features",
            found=f"{checkpoint.uri} of vocabulary {older.version}",
            remedy=f"build the vocabulary with --parent {checkpoint.facts['vocabulary']['uri']}",
        )
    state = {"model": model.state_dict()}
    with torch.no_grad():
        load(checkpoint, state, _GrowingPlanner())
    model.load_state_dict(state["model"])


class _GrowingPlanner(DefaultLoadPlanner):
    """Load planner for tables that have more rows now; the default planner requires equal sizes."""

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None
        items = []
        for name, value in self.state_dict.items():
            items += _create_read_items(name, self.metadata.state_dict_metadata[name], value)
        return LoadPlan(items)
