"""Export of a checkpoint's towers for serving: ads' embeddings, an index of them, and the user tower."""

from __future__ import annotations

import json
import math
import mmap
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pyarrow import fs
from safetensors.torch import save_file

from scrollpast.config.training_options import Model, TrainingData
from scrollpast.errors import UserError
from scrollpast.record_schema import USER_FEATURE_PREFIX
from scrollpast.shards import filesystem as files
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.checkpoint import (
    Checkpoint,
    restore_weights,
)
from scrollpast.training.evaluation.metrics_file import read_evaluated
from scrollpast.training.loss.objective import SMALLEST_TEMPERATURE
from scrollpast.training.model.embedding import embed_ads, read_towers
from scrollpast.training.model.towers import TableShapes, TwoTower
from scrollpast.training.serving.export_files import (
    ABOUT_NAME,
    ADS_NAME,
    EXPORT_NAME,
    INDEX_NAME,
    SCHEMA_VERSION,
    WEIGHTS_NAME,
)


class SavableIndex(Protocol):
    """Protocol of an index of ads that can be saved."""

    def save(self, path: str) -> None:
        """Write the index to a local file."""
        ...


BuildIndex = Callable[[NDArray[np.float32]], SavableIndex]
"""Embeddings of ads float32 [R, D], row 0 included → an index of rows 1 …"""


def write_export(
    checkpoint: Checkpoint, vocabulary: Vocabulary, out_uri: str, build_index: BuildIndex, *, index_kind: str
) -> dict[str, Any]:
    """Write all files of an export and publish it by ``export.json``, whose content is returned.

    An existing export is unpublished just before its first file is replaced. ``metrics`` are those of the
    checkpoint's ``metrics.json``, with the days in ``evaluated_on``; without that file, those of the training run.

    Args:
        vocabulary: the checkpoint's vocabulary.

    Raises:
        ScrollpastError: the checkpoint cannot be read.
    """
    evaluated = read_evaluated(checkpoint)
    towers = read_towers(checkpoint, vocabulary)
    ad_RD = embed_ads(towers, vocabulary, torch.device("cpu")).numpy()
    index, tower = build_index(ad_RD), _about_user_tower(checkpoint, vocabulary)
    filesystem, folder = files.resolve(out_uri)
    published = files.join(folder, EXPORT_NAME)
    files.delete_file(filesystem, published)

    def place(name: str, write: Callable[[str], None]) -> None:
        _place(filesystem, files.join(folder, name), write)

    place(ADS_NAME, lambda path: pq.write_table(_ads_table(ad_RD, vocabulary), path, use_dictionary=False))
    place(INDEX_NAME, index.save)
    place(WEIGHTS_NAME, lambda path: save_file(_user_weights(towers), path))
    files.write_atomically(filesystem, files.join(folder, ABOUT_NAME), _json(tower))
    about = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": checkpoint.uri,
        "step": checkpoint.step,
        "metrics": checkpoint.facts.get("metrics") if evaluated is None else evaluated.metrics,
        "evaluated_on": None if evaluated is None else evaluated.evaluated_on,
        "vocabulary_version": vocabulary.version,
        "embedding_dim": tower["embedding_dim"],
        "output_dim": tower["output_dim"],
        "num_ads": vocabulary.num_rows - 1,
        "num_user_rows": vocabulary.num_user_rows,
        "index": {"kind": index_kind},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write_atomically(filesystem, published, _json(about))
    return about


def _check_free(out_uri: str, *, is_overwriting: bool) -> None:
    """Refuse a folder that cannot hold the export, before any computation."""
    filesystem, folder = files.resolve(out_uri)
    if filesystem.get_file_info(folder).type == fs.FileType.File:
        raise UserError(
            out_uri, expected="a folder to export to", found="a file", remedy="pass another --out"
        )
    if files.exists(filesystem, files.join(folder, EXPORT_NAME)) and not is_overwriting:
        raise UserError(
            files.join(out_uri, EXPORT_NAME),
            expected="a folder without an export",
            found="one",
            remedy="pass another --out, or --overwrite to replace the export",
        )


def _about_user_tower(checkpoint: Checkpoint, vocabulary: Vocabulary) -> dict[str, Any]:
    """Metadata that `UserTower` needs beside the weights."""
    config = checkpoint.facts["config"]
    options = Model.model_validate(config["model"])
    data = TrainingData.model_validate(config["data"])
    return {
        "vocabulary_version": vocabulary.version,
        "embedding_dim": options.embedding_dim,
        "output_dim": options.output_dim,
        "layers": list(options.user_layers),
        "activation": "silu",
        "tables": dict(TableShapes.of(vocabulary, data, options).user_side),
        "history_pooling": "mean",
        "max_history": data.max_history,
        "max_passed": data.max_passed,
        "has_residual": options.residual,
        "list_features": list(vocabulary.feature_codes) if options.read_list_features else [],
        "num_user_rows": vocabulary.num_user_rows,
        # Values are text, as in the vocabulary: some readers of JSON lack 64-bit integers.
        "user_features": {
            name: list(vocabulary.values[USER_FEATURE_PREFIX + name]) for name in vocabulary.user_features
        },
        "temperature": _temperature(checkpoint),
    }


def _temperature(checkpoint: Checkpoint) -> float:
    """Temperature of the loss: configured, or learned."""
    holder = torch.nn.Module()
    holder.contrast = torch.nn.Module()
    holder.contrast.register_buffer("log_scale", torch.zeros(()))
    restore_weights(checkpoint, holder)
    return max(math.exp(-float(holder.contrast.log_scale)), SMALLEST_TEMPERATURE)


def _user_weights(towers: TwoTower) -> dict[str, torch.Tensor]:
    """Weights of the user tower, by the parameter names of `UserTower`."""
    weights = {}
    for name, value in towers.state_dict().items():
        side, _, rest = name.partition(".")
        if side == "user_tables":
            weights["tables." + rest.removeprefix("embedding_bags.").removesuffix(".weight")] = value
        elif side == "user_tower":
            weights[rest] = value
    return {name: value.detach().contiguous() for name, value in weights.items()}


def _ads_table(ad_RD: NDArray[np.float32], vocabulary: Vocabulary) -> pa.Table:
    num_ads, dim = len(ad_RD) - 1, ad_RD.shape[1]
    raw_ids = pa.nulls(num_ads, pa.string()) if vocabulary.raw_ids is None else vocabulary.raw_ids
    return pa.table(
        {
            "row": np.arange(1, num_ads + 1),
            "ad_id": vocabulary.ad_ids[1:],
            "raw_id": raw_ids.cast(pa.string()),
            **{f"code_{name}": codes[1:] for name, codes in vocabulary.feature_codes.items()},
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(ad_RD[1:].reshape(-1)), dim),
        }
    )


def _place(filesystem: fs.FileSystem, path: str, write: Callable[[str], None]) -> None:
    """Let a library write a temporary file, and move it atomically to its place."""
    if isinstance(filesystem, fs.LocalFileSystem):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = files.temporary_name(path)
        try:
            # Created here first with the rights of the umask: safetensors' 0o600 would exclude the serving user.
            Path(temporary).touch()
            rights = os.stat(temporary).st_mode
            write(temporary)
            os.chmod(temporary, rights)
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        temporary = os.path.join(scratch, os.path.basename(path))
        write(temporary)
        with (
            open(temporary, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            files.write_atomically(filesystem, path, content)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
