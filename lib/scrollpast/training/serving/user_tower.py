"""User tower of an export: ids, histories and features of the log → embeddings, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pyarrow import fs
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import nn

from scrollpast.record_schema import USER_FEATURE_PREFIX
from scrollpast.shards import filesystem as files
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.model.layers import layers_of, weighted_sum
from scrollpast.training.serving.export_files import ADS_NAME, WEIGHTS_NAME, Export, damaged, read_export

USER_TABLE, HISTORY_TABLE, PASSED_TABLE = "user", "history", "passed"

Integers = NDArray[np.int64]
Ragged = Sequence[Any] | tuple[Any, Any]
"""A list of ad ids for every user; or, as a tuple, all ids int64 [Σ] and the users' offsets in them int64 [B + 1]."""


class UserTower(nn.Module):
    """Users → embeddings of length 1; their inner products with the ads' embeddings are the scores.

    Args:
        about: content of ``user_tower.json``.
        ad_ids: int64 [num_rows] by row; entry 0 is unused.
        codes: int64 [num_rows] by column ``code_<feature>``, of the features of ads that the tower reads in lists.
    """

    def __init__(
        self, about: Mapping[str, Any], ad_ids: Integers, codes: Mapping[str, Integers] | None = None
    ) -> None:
        super().__init__()
        self.temperature = float(about["temperature"])
        """Divisor of the scores in the softmax of training."""
        self.max_history = int(about["max_history"])
        """Largest number of ads of a history that are read, the latest."""
        self.max_passed = int(about.get("max_passed", 0))
        """Ads that a user passed over that are looked at, the latest; 0 = the tower reads none."""
        self._list_codes = {
            feature: (codes or {})[_code_column(feature)] for feature in about.get("list_features", [])
        }
        self.vocabulary_version = str(about["vocabulary_version"])
        # Ids, users and values map to rows by the same code as in training.
        self._vocabulary = Vocabulary(
            ad_ids=ad_ids,
            counts=np.zeros(len(ad_ids), np.int64),
            feature_codes={},
            values={
                USER_FEATURE_PREFIX + name: tuple(values) for name, values in about["user_features"].items()
            },
            num_user_rows=about["num_user_rows"],
        )
        widths = [len(about["tables"]) * about["embedding_dim"], *about["layers"], about["output_dim"]]
        # On the "meta" device, without memory: `load` assigns the weights.
        with torch.device("meta"):
            self.tables = nn.ParameterDict(
                {
                    name: torch.empty(num_rows, about["embedding_dim"])
                    for name, num_rows in about["tables"].items()
                }
            )
            self.layers = layers_of(widths)
            has_residual = about.get("has_residual", False)
            self.gates = nn.Parameter(torch.empty(len(about["tables"]))) if has_residual else None

    @staticmethod
    def load(folder_uri: str) -> UserTower:
        """Load the export in a folder, onto the CPU.

        Raises:
            UserError: the folder has no export, or an unfinished one.
            ScrollpastError: the export is corrupt, or has another version.
        """
        export = read_export(folder_uri)
        try:
            return _read(export)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RuntimeError,
            SafetensorError,
            pa.ArrowException,
        ) as error:
            raise damaged(folder_uri, error) from error

    @property
    def user_features(self) -> list[str]:
        """Names of the required features of a call."""
        return list(self._vocabulary.user_features)

    def ad_ids(self, rows: NDArray[np.int64]) -> Integers:
        """Ids of the ads in these rows, in the same shape; −1, an empty place of a search, stays −1."""
        return np.where(rows > 0, self._vocabulary.ad_ids[rows], -1)

    @torch.no_grad()
    def forward(
        self,
        user_ids: Any,
        history_ad_ids: Ragged,
        features: Mapping[str, Any] | None = None,
        passed_ad_ids: Ragged | None = None,
    ) -> torch.Tensor:
        """Embeddings float32 [B, D], on the tower's device; ids and values that training did not see count as unknown.

        Ids that are strings in the log are ``hash_column(ids) & ID_MASK`` of `scrollpast.hashing`.

        Args:
            user_ids: int64 [B], as a tensor, an array or a list, like all other arguments.
            history_ad_ids: each user's history, oldest first; the latest `max_history` count. First the ads of
                `mining.user_history`, where the days of the training had it, then the ads that the user engaged with.
            passed_ad_ids: ads that each user was served and passed over, oldest first; the latest `max_passed` count.
                Only for a tower with a `max_passed` above 0, which needs them.
            features: int64 [B] of values as in the log by name, without ``user_``; −1 = unknown.

        Raises:
            ValueError: lengths, types or names do not fit.
        """
        known, given = self._vocabulary, dict(features or {})
        users = _integers(user_ids, "user_ids")
        count = len(users)
        if set(given) != set(known.user_features):
            raise ValueError(f"features must be {self.user_features}, got {sorted(given)}")
        columns = {USER_TABLE: known.user_rows(users)}
        for name in known.user_features:
            values = _integers(given[name], f"features[{name!r}]")
            if len(values) != count:
                raise ValueError(f"features[{name!r}] must be of {count} users, got {len(values)}")
            columns[USER_FEATURE_PREFIX + name] = known.user_codes(name, values)
        lists = {HISTORY_TABLE: (history_ad_ids, self.max_history)}
        if (passed_ad_ids is not None) != (self.max_passed > 0):
            raise ValueError(
                f"passed_ad_ids must be {'given' if self.max_passed else 'left out'} for this tower"
            )
        if passed_ad_ids is not None:
            lists[PASSED_TABLE] = (passed_ad_ids, self.max_passed)
        device = self.layers[0].weight.device
        pooled = [
            nn.functional.embedding(torch.as_tensor(rows).to(device), self.tables[name])
            for name, rows in columns.items()
        ]
        for name, (given_list, most) in lists.items():
            ads, offsets = _latest(*_ragged(given_list, count, f"{name}_ad_ids"), most)
            rows = known.ad_rows(ads)
            bags = {name: rows}
            bags |= {f"{name}_{feature}": codes[rows] for feature, codes in self._list_codes.items()}
            pooled += [
                nn.functional.embedding_bag(
                    torch.as_tensor(values).to(device),
                    self.tables[table],
                    torch.as_tensor(offsets).to(device),
                    mode="mean",
                    include_last_offset=True,
                )
                for table, values in bags.items()
            ]
        inputs = torch.cat(pooled, dim=1)
        outputs = self.layers(inputs)
        if self.gates is not None:
            outputs = outputs + weighted_sum(inputs, self.gates)
        embedded: torch.Tensor = nn.functional.normalize(outputs, dim=1)
        return embedded


def _read(export: Export) -> UserTower:
    filesystem, folder = files.resolve(export.uri)
    about = export.user_tower
    path = files.join(folder, ADS_NAME)
    with filesystem.open_input_file(path) as file:
        ads = pq.read_table(
            file, columns=["row", "ad_id", *map(_code_column, about.get("list_features", []))]
        )
    num_rows = about["tables"][HISTORY_TABLE]
    if not np.array_equal(ads["row"].to_numpy(), np.arange(1, num_rows)):
        raise ValueError(f"{ADS_NAME} with other rows than 1 to {num_rows - 1:,}")
    columns = {
        name: np.concatenate([np.zeros(1, np.int64), ads[name].to_numpy()]) for name in ads.column_names[1:]
    }
    tower = UserTower(about, columns.pop("ad_id"), columns)
    path = files.join(folder, WEIGHTS_NAME)
    if isinstance(filesystem, fs.LocalFileSystem):
        weights = load_file(path)
    else:
        weights = load(files.read_all(filesystem, path).to_pybytes())
    tower.load_state_dict(weights, assign=True)
    return tower.requires_grad_(False).eval()  # type: ignore[no-any-return]


def _code_column(feature: str) -> str:
    """Column of ads.parquet that holds a feature's codes."""
    return f"code_{feature}"


def _integers(values: Any, name: str) -> Integers:
    """int64 [N] of a tensor, an array or a list."""
    array = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be a list of integers, got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def _ragged(history: Ragged, count: int, name: str) -> tuple[Integers, Integers]:
    """All ids, and the start of each of ``count`` users in them: int64 [Σ], [count + 1]."""
    if isinstance(history, tuple):
        values, offsets = _integers(history[0], f"{name} values"), _integers(history[1], f"{name} offsets")
        is_sound = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(values)
        if not is_sound or (np.diff(offsets) < 0).any():
            raise ValueError(
                f"{name} offsets must rise from 0 to {len(values)}, got {offsets.tolist()[:8]} …"
            )
    else:
        lists = [_integers(ads, f"a list of {name}") for ads in history]
        values = np.concatenate([np.zeros(0, np.int64), *lists])
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    if len(offsets) != count + 1:
        raise ValueError(f"{name} must be of {count} users, got {len(offsets) - 1}")
    return values, offsets


def _latest(values: Integers, offsets: Integers, most: int) -> tuple[Integers, Integers]:
    """Last ``most`` values of every list."""
    lengths = np.minimum(np.diff(offsets), most)
    ends = np.cumsum(lengths)
    at = np.repeat(offsets[1:] - ends, lengths) + np.arange(lengths.sum())
    return values[at], np.concatenate([np.zeros(1, np.int64), ends])
