"""User tower and ad tower: rows of tables → MLP → embeddings of length 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from scrollpast.config.training_options import Model, TrainingData
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.nonfinite_guard import NonFiniteGuard
from scrollpast.training.model.layers import layers_of, weighted_sum

USER, HISTORY, PASSED, AD = "user", "history", "passed", "ad"
LISTS = (HISTORY, PASSED)
"""Lists of ads of a user; their rows, and those of the ads' features, are averaged."""


@dataclass(frozen=True)
class TableShapes:
    """Rows of every table, by the feature that reads the table, in the order of the keys of every batch."""

    user_side: Mapping[str, int]
    """``user``, ``user_<feature>`` …, ``history``, ``history_<feature>`` …, ``passed``, ``passed_<feature>`` …"""
    ad_side: Mapping[str, int]
    """``ad``, ``ad_<feature>`` …"""

    @staticmethod
    def of(vocabulary: Vocabulary, data: TrainingData, model: Model) -> TableShapes:
        """The tables that a vocabulary and the options ask for; each feature has a table of its name."""
        features = vocabulary.features
        of_ads = {name: features[name] for name in vocabulary.feature_codes}
        of_lists: dict[str, int] = {}
        for name in (HISTORY, PASSED) if data.max_passed else (HISTORY,):
            of_lists[name] = vocabulary.num_rows
            if model.read_list_features:
                of_lists |= {f"{name}_{feature}": count for feature, count in of_ads.items()}
        return TableShapes(
            user_side={
                USER: vocabulary.num_user_rows,
                **{f"{USER}_{name}": count for name, count in vocabulary.user_features.items()},
                **of_lists,
            },
            ad_side={AD: vocabulary.num_rows, **{f"{AD}_{name}": count for name, count in of_ads.items()}},
        )


class Tower(nn.Module):
    """Pooled rows [N, features · embedding_dim] → embeddings [N, output_dim] of length 1, in float32."""

    def __init__(
        self,
        num_inputs: int,
        widths: Sequence[int],
        num_outputs: int,
        precision: torch.dtype,
        gates_K: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layers = layers_of([num_inputs, *widths, num_outputs])
        self.gates = None if gates_K is None else nn.Parameter(gates_K)
        """float32 [K]: weights of the inputs in the residual; None = no residual."""
        self._precision = precision
        self.soundness: NonFiniteGuard | None = None
        """Guard that zeroes the tables' gradients after a non-finite loss; None = no guard."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        if self.soundness is not None:
            self.soundness.guard(pooled)
        is_reduced = self._precision != torch.float32
        with torch.autocast(pooled.device.type, dtype=self._precision, enabled=is_reduced):
            outputs = self.layers(pooled)
        outputs = outputs.float()
        if self.gates is not None:
            outputs = outputs + weighted_sum(pooled, self.gates)
        return nn.functional.normalize(outputs, dim=1)


class TwoTower(nn.Module):
    """Embeddings of users and ads; the score of a pair is their inner product, a cosine.

    The tables are created on ``table_device``: "meta" where DistributedModelParallel allocates each rank's part,
    "cpu" for a model of one process without it. Names in the state are the same in both.
    """

    def __init__(
        self,
        shapes: TableShapes,
        options: Model,
        *,
        table_device: str = "cpu",
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.options = options
        self.user_tables = _tables(shapes.user_side, options.embedding_dim, table_device)
        self.ad_tables = _tables(shapes.ad_side, options.embedding_dim, table_device)
        dim, output_dim = options.embedding_dim, options.output_dim
        self._user_keys, self._ad_keys = list(shapes.user_side), list(shapes.ad_side)
        user_gates, ad_gates = (
            torch.tensor([float(key.split("_")[0] in (HISTORY, AD)) for key in keys])
            if options.residual
            else None
            for keys in (self._user_keys, self._ad_keys)
        )
        self.user_tower = Tower(
            len(shapes.user_side) * dim, options.user_layers, output_dim, precision, user_gates
        )
        self.ad_tower = Tower(len(shapes.ad_side) * dim, options.ad_layers, output_dim, precision, ad_gates)

    @property
    def user_lists(self) -> list[str]:
        """Names of the lists of ads that the user tower reads."""
        return [name for name in LISTS if name in self._user_keys]

    def users(self, features: KeyedJaggedTensor) -> torch.Tensor:
        """Embeddings of users: float32 [B, output_dim]; ``features`` from `user_features`."""
        pooled = self.user_tables(features)
        # By name: a sharded collection returns its columns in the order of the plan.
        embedded: torch.Tensor = self.user_tower(torch.cat([pooled[key] for key in self._user_keys], dim=1))
        return embedded

    def ads(self, features: KeyedJaggedTensor) -> torch.Tensor:
        """Embeddings of ads: float32 [N, output_dim]; ``features`` from `AdFeatures`."""
        pooled = self.ad_tables(features)
        embedded: torch.Tensor = self.ad_tower(torch.cat([pooled[key] for key in self._ad_keys], dim=1))
        return embedded


def _tables(num_rows: Mapping[str, int], dim: int, device: str) -> EmbeddingBagCollection:
    return EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=name,
                num_embeddings=count,
                embedding_dim=dim,
                feature_names=[name],
                pooling=PoolingType.MEAN if name.split("_")[0] in LISTS else PoolingType.SUM,
            )
            for name, count in num_rows.items()
        ],
        device=torch.device(device),
    )
