"""Files of an export: their names, their publication, and the ads' embeddings. Needs no PyTorch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrollpast.errors import ScrollpastError, UserError
from scrollpast.job_commands import job_command
from scrollpast.shards import filesystem as files

SCHEMA_VERSION = 1
EXPORT_NAME, ADS_NAME, INDEX_NAME = "export.json", "ads.parquet", "ads.faiss"
ABOUT_NAME, WEIGHTS_NAME = "user_tower.json", "user_tower.safetensors"


@dataclass(frozen=True)
class Export:
    """Published export: the content of ``export.json`` and ``user_tower.json``."""

    uri: str
    about: dict[str, Any]
    user_tower: dict[str, Any]
    fingerprint: str
    """SHA-256 of ``export.json``, which changes with every export, also of the same checkpoint."""

    @property
    def num_ads(self) -> int:
        return int(self.about["num_ads"])

    @property
    def user_features(self) -> list[str]:
        """Names of the user tower's required features, without ``user_``."""
        return list(self.user_tower["user_features"])


def read_export(folder_uri: str) -> Export:
    """Read the description of an export.

    Raises:
        UserError: the folder has no export, or an unfinished one.
        ScrollpastError: the export is corrupt, or has another version.
    """
    filesystem, folder = files.resolve(folder_uri)
    if not files.exists(filesystem, files.join(folder, EXPORT_NAME)):
        raise UserError(
            files.join(folder_uri, EXPORT_NAME),
            expected="the file that publishes an export",
            found="none",
            remedy="an export without this file is unfinished; export again: "
            + job_command("export_towers", "CHECKPOINT", "--out", folder_uri),
        )
    try:
        content, tower = (
            files.read_all(filesystem, files.join(folder, name)).to_pybytes()
            for name in (EXPORT_NAME, ABOUT_NAME)
        )
        found = Export(
            folder_uri, json.loads(content), json.loads(tower), hashlib.sha256(content).hexdigest()
        )
        _check(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder_uri, error) from error
    return found


def _check(found: Export) -> None:
    if found.about["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version {found.about['schema_version']}")
    version = found.user_tower["vocabulary_version"]
    if found.about["vocabulary_version"] != version:
        raise ValueError(f"{ABOUT_NAME} of vocabulary {version}")


def read_ad_embeddings(folder_uri: str) -> NDArray[np.float32]:
    """Read the embeddings of an export's ads by row, float32 [num_rows, D]; row 0, which is no ad, is zeros.

    Memory beside the result: some thousand rows.

    Raises:
        ScrollpastError: the embeddings are corrupt.
    """
    filesystem, folder = files.resolve(folder_uri)
    try:
        with filesystem.open_input_file(files.join(folder, ADS_NAME)) as file:
            ads = pq.ParquetFile(file)
            dim = ads.schema_arrow.field("embedding").type.list_size
            found = np.zeros((ads.metadata.num_rows + 1, dim), np.float32)
            at = 1
            for batch in ads.iter_batches(columns=["embedding"]):
                values = batch.column("embedding").flatten().to_numpy()
                found[at : at + len(batch)] = values.reshape(len(batch), dim)
                at += len(batch)
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        raise damaged(folder_uri, error) from error
    return found


def damaged(folder_uri: str, error: Exception) -> ScrollpastError:
    """Error for an export that cannot be read."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ScrollpastError(
        folder_uri,
        expected=f"an export of schema_version {SCHEMA_VERSION}",
        found=lines[-1] if lines else type(error).__name__,
        remedy="export the checkpoint again: "
        + job_command("export_towers", "CHECKPOINT", "--out", folder_uri, "--overwrite"),
    )
