"""Vocabulary: rows of embedding tables for ads, users and categories. An immutable folder.

    OUT/vocabulary/v=<first 16 hex of sha256>/
      ads.parquet        row, ad_id, raw_id, count, and one column of codes for every categorical feature
      features.parquet   feature, code, value
      vocabulary.json    written last: it publishes the folder

Row 0 and code 0 stand for unknown ads and values. A vocabulary that was built on a parent keeps the parent's rows and
codes and appends its own, so that a trained row stays with its ad.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrollpast.compiled import compiled, frozen
from scrollpast.errors import CorruptShardError, UserError
from scrollpast.hashing import xxhash64
from scrollpast.job_commands import job_command
from scrollpast.record_schema import USER_FEATURE_PREFIX
from scrollpast.shards import filesystem as files

SCHEMA_VERSION = 1
VOCABULARY_NAME = "vocabulary.json"
_ADS, _FEATURES = "ads.parquet", "features.parquet"
_FIXED_COLUMNS = ("row", "ad_id", "raw_id", "count")
_BUILD_AGAIN = "build the vocabulary again"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Rows of ads and users, codes of categories. Arrays over rows have length ``num_rows``, row 0 included.

    ``values`` holds, for every feature, the values of the codes 1, 2, … as text. A feature named ``user_<name>``
    belongs to users: its values are the integers in records. All other features belong to ads, and ``feature_codes``
    has a column of codes for each.
    """

    ad_ids: NDArray[np.int64]
    """int64 [num_rows]; entry 0 means nothing."""
    counts: NDArray[np.int64]
    """int64 [num_rows]: positives of the ad over ``days``; 0 for row 0."""
    feature_codes: Mapping[str, NDArray[np.int64]]
    """int64 [num_rows] by feature of ads; row 0 has code 0."""
    values: Mapping[str, tuple[str, ...]]
    num_user_rows: int
    """Rows of the table of users, row 0 included."""
    days: tuple[str, ...] = ()
    """Dates (``ds``) of the published days that the vocabulary was built from, without those of its ancestors."""
    parent: str | None = None
    """Version of the vocabulary whose rows come first."""
    created_at: str = ""
    raw_ids: pa.Array | None = field(default=None, repr=False)
    """string [num_rows − 1]: the log's ids of rows 1, 2, …; None where the ids are integers.
    Null where no table of ads holds the string of the number."""

    def __post_init__(self) -> None:
        for name in ("ad_ids", "counts"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.int64))
        codes = {name: frozen(column, np.int64) for name, column in self.feature_codes.items()}
        object.__setattr__(self, "feature_codes", codes)
        if not 2 <= self.num_user_rows <= 2**31:
            raise UserError(
                "num_user_rows",
                expected="2 to 2,147,483,648",
                found=f"{self.num_user_rows:,}",
                remedy="choose about twice the number of users, or fewer if memory is short",
            )

    @property
    def num_rows(self) -> int:
        """Rows of the table of ads, row 0 included."""
        return len(self.ad_ids)

    @property
    def features(self) -> dict[str, int]:
        """Number of codes, code 0 included, by feature: features of ads and, as ``user_<name>``, features of users."""
        return {name: len(values) + 1 for name, values in self.values.items()}

    @property
    def user_features(self) -> dict[str, int]:
        """Number of codes, code 0 included, by feature of users, without the prefix ``user_``."""
        return {
            name.removeprefix(USER_FEATURE_PREFIX): count
            for name, count in self.features.items()
            if name not in self.feature_codes
        }

    @cached_property
    def version(self) -> str:
        """First 16 hex digits of the SHA-256 over all content that defines a row or code."""
        digest = hashlib.sha256()
        words = [SCHEMA_VERSION, self.num_user_rows, list(self.days), self.parent]
        digest.update(json.dumps([words, sorted((k, list(v)) for k, v in self.values.items())]).encode())
        for column in (
            self.ad_ids,
            self.counts,
            *(self.feature_codes[n] for n in sorted(self.feature_codes)),
        ):
            digest.update(column.data)
        for part in () if self.raw_ids is None else _bytes_of(self.raw_ids):
            digest.update(part)
        return digest.hexdigest()[:16]

    def ad_rows(self, ad_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ads: int64 [N] → int64 [N] in [0, num_rows); 0 = unknown."""
        slots, rows = self._table
        return _look_up(frozen(ad_ids, np.int64), slots, rows)

    def user_rows(self, user_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of users: int64 [N] → int64 [N] in [1, num_user_rows). Two users may share a row."""
        return 1 + np.mod(xxhash64(user_ids), np.int64(self.num_user_rows - 1))

    def user_codes(self, name: str, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes of the user feature ``name`` (without ``user_``): int64 [N] as in records → int64 [N]; 0 = unknown."""
        known, codes = self._user_values[name]
        if not len(known):
            return np.zeros(len(values), np.int64)
        at = np.minimum(np.searchsorted(known, values), len(known) - 1)
        return np.where(known[at] == values, codes[at], 0)

    def log_q(self, alpha: float = 1.0, *, smoothing: float = 1.0) -> NDArray[np.float32]:
        """Log probability of each row in a draw by popularity: float32 [num_rows].

        Q(row) = (count + smoothing) ** alpha / Σ over rows 1 … of the same. ``alpha`` 1 is the frequency of a row among
        positives, and so among in-batch negatives; 0 is uniform over the catalogue. The smoothing keeps the correction
        of an ad without positives finite: the ad may have positives on a later day. Row 0 has the value of an ad
        without positives, and is not in the sum: it is never drawn from the catalogue.
        """
        if smoothing <= 0:
            raise ValueError(f"smoothing must be greater than 0, got {smoothing}")
        log_mass = alpha * np.log(self.counts + smoothing)
        largest = log_mass.max()
        total = np.exp(log_mass[1:] - largest).sum()
        return (log_mass - largest - np.log(max(total, np.finfo(np.float64).tiny))).astype(np.float32)

    def extends(self, older: Vocabulary) -> bool:
        """True if every row, code and row of users of ``older`` has the same meaning in this vocabulary.

        A vocabulary extends itself and its parents. Further ads, values and features come after the old rows and codes.
        An old ad may have changed its category: the ad's row and the category's code keep their meaning. Counts and
        days are not compared.
        """
        num_rows = older.num_rows
        return (
            self.num_user_rows == older.num_user_rows
            and np.array_equal(self.ad_ids[1:num_rows], older.ad_ids[1:])
            and all(
                self.values.get(name, ())[: len(values)] == tuple(values)
                and name in self.values
                and (name in self.feature_codes) == (name in older.feature_codes)
                for name, values in older.values.items()
            )
        )

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Open-addressing table: ad ids by slot, and their rows (0 = the slot is free); at most half full."""
        num_slots = 1 << max(4, (2 * self.num_rows - 1).bit_length())
        slots, rows = np.zeros(num_slots, np.int64), np.zeros(num_slots, np.int64)
        twice = _fill(self.ad_ids, slots, rows)
        if twice:
            raise CorruptShardError(
                f"vocabulary {self.version}, row {twice:,}",
                expected="every ad once",
                found=f"ad {self.ad_ids[twice]} again",
                remedy=_BUILD_AGAIN,
            )
        return frozen(slots, np.int64), frozen(rows, np.int64)

    @cached_property
    def _user_values(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        found = {}
        for name in self.user_features:
            known = np.array([int(text) for text in self.values[USER_FEATURE_PREFIX + name]], np.int64)
            order = np.argsort(known)
            found[name] = (known[order], order + 1)
        return found

    @staticmethod
    def read(uri: str) -> Vocabulary:
        """Read a vocabulary by the URI of its folder, or of a folder that holds exactly one vocabulary.

        Raises:
            UserError: the folder holds no vocabulary, or several.
            CorruptShardError: the content does not match its version.
        """
        return _read(uri)

    def write(self, out_uri: str) -> str:
        """Write the folder ``vocabulary/v=<version>`` below ``out_uri`` and return its URI.

        An existing vocabulary is not written again: equal content has the same name.
        """
        folder_uri = files.join(out_uri, "vocabulary", f"v={self.version}")
        filesystem, folder = files.resolve(folder_uri)
        if files.exists(filesystem, files.join(folder, VOCABULARY_NAME)):
            return folder_uri
        for name, table in ((_ADS, self._ads_table()), (_FEATURES, self._features_table())):
            sink = io.BytesIO()
            pq.write_table(table, sink, compression="zstd")
            files.write_atomically(filesystem, files.join(folder, name), sink.getbuffer())
        about = {
            "schema_version": SCHEMA_VERSION,
            "version": self.version,
            "parent": self.parent,
            "num_rows": self.num_rows,
            "features": self.features,
            "num_user_rows": self.num_user_rows,
            "days": list(self.days),
            "created_at": self.created_at,
        }
        content = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        files.write_atomically(filesystem, files.join(folder, VOCABULARY_NAME), content.encode())
        return folder_uri

    def _ads_table(self) -> pa.Table:
        num_ads = self.num_rows - 1
        return pa.table(
            {
                "row": np.arange(1, self.num_rows),
                "ad_id": self.ad_ids[1:],
                "raw_id": pa.nulls(num_ads, pa.string()) if self.raw_ids is None else self.raw_ids,
                "count": self.counts[1:],
                **{name: codes[1:] for name, codes in self.feature_codes.items()},
            }
        )

    def _features_table(self) -> pa.Table:
        names = [name for name, values in self.values.items() for _ in values]
        codes = [code for values in self.values.values() for code in range(1, len(values) + 1)]
        texts = [text for values in self.values.values() for text in values]
        return pa.table(
            {
                "feature": pa.array(names, pa.string()),
                "code": pa.array(codes, pa.int64()),
                "value": pa.array(texts, pa.string()),
            }
        )


def _read(uri: str) -> Vocabulary:
    folder_uri = _folder_of(uri.rstrip("/").removesuffix("/" + VOCABULARY_NAME))
    place = files.join(folder_uri, VOCABULARY_NAME)
    filesystem, folder = files.resolve(folder_uri)
    try:
        about = json.loads(files.read_all(filesystem, files.join(folder, VOCABULARY_NAME)).to_pybytes())
        if about.get("schema_version") != SCHEMA_VERSION:
            raise CorruptShardError(
                f"{place}, schema_version",
                expected=str(SCHEMA_VERSION),
                found=str(about.get("schema_version")),
                remedy="read it with the version of scrollpast that wrote it, or " + _BUILD_AGAIN,
            )
        ads = pq.read_table(pa.BufferReader(files.read_all(filesystem, files.join(folder, _ADS))))
        values = _values(files.read_all(filesystem, files.join(folder, _FEATURES)), about["features"])
        found = _of_table(ads, values, about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptShardError(
            folder_uri, expected="a vocabulary's three files", found=reason, remedy=_BUILD_AGAIN
        ) from error
    if found.version != about["version"]:
        raise CorruptShardError(
            place, expected=f"content of version {about['version']}", found=found.version, remedy=_BUILD_AGAIN
        )
    return found


def _folder_of(uri: str) -> str:
    """Folder with a vocabulary.json: ``uri`` itself, or the only vocabulary below it."""
    filesystem, path = files.resolve(uri)
    if files.exists(filesystem, files.join(path, VOCABULARY_NAME)):
        return uri
    found = [info.path[len(path) :].strip("/") for info in files.list_files(filesystem, path)]
    folders = [
        name.removesuffix("/" + VOCABULARY_NAME) for name in found if name.endswith("/" + VOCABULARY_NAME)
    ]
    if len(folders) == 1:
        return files.join(uri, folders[0])
    raise UserError(
        uri,
        expected="a vocabulary, or a folder that holds exactly one vocabulary",
        found=f"{len(folders)}: {', '.join(folders)}" if folders else f"no {VOCABULARY_NAME} in it",
        remedy="name one of them"
        if folders
        else "build one: " + job_command("build_vocabulary", "DAY", "--out", "FOLDER"),
    )


def _values(content: pa.Buffer, num_codes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    table = pq.read_table(pa.BufferReader(content))
    values: dict[str, list[str]] = {name: [] for name in num_codes}
    for name, value in zip(table["feature"].to_pylist(), table["value"].to_pylist(), strict=True):
        values[name].append(value)
    return {name: tuple(texts) for name, texts in values.items()}


def _of_table(ads: pa.Table, values: Mapping[str, tuple[str, ...]], about: Mapping[str, Any]) -> Vocabulary:
    def with_row_0(name: str) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(1, np.int64), ads[name].to_numpy()])

    raw_ids = ads["raw_id"]
    return Vocabulary(
        ad_ids=with_row_0("ad_id"),
        counts=with_row_0("count"),
        feature_codes={name: with_row_0(name) for name in ads.column_names if name not in _FIXED_COLUMNS},
        values=values,
        num_user_rows=about["num_user_rows"],
        days=tuple(about["days"]),
        parent=about["parent"],
        created_at=about["created_at"],
        raw_ids=None if raw_ids.null_count == len(raw_ids) else raw_ids.combine_chunks(),
    )


def _bytes_of(texts: pa.Array) -> list[Any]:
    """Digest input of an array of texts: nulls, lengths, bytes."""
    is_valid = texts.is_valid().to_numpy(zero_copy_only=False)
    texts = texts.fill_null("").cast(pa.large_string())
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = texts.buffers()[2]
    text = b"" if content is None else memoryview(content)[offsets[0] : offsets[-1]]
    return [is_valid, np.diff(offsets), text]


@compiled
def _slot_of(ad_id: int, num_slots: int) -> Any:
    # The high bits of a product by an odd constant (Fibonacci hashing) distribute dense and strided ids evenly.
    mixed = np.uint64(ad_id) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(num_slots - 1))


@compiled
def _fill(ad_ids: NDArray[np.int64], slots: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    """Insert rows 1, 2, … into the table; returns the first row with a repeated ad, or 0."""
    for row in range(1, len(ad_ids)):
        at = _slot_of(ad_ids[row], len(slots))
        while rows[at]:
            if slots[at] == ad_ids[row]:
                return row
            at = (at + 1) & (len(slots) - 1)
        slots[at], rows[at] = ad_ids[row], row
    return 0


@compiled
def _look_up(
    ad_ids: NDArray[np.int64], slots: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    found = np.empty(len(ad_ids), np.int64)
    for i in range(len(ad_ids)):
        at = _slot_of(ad_ids[i], len(slots))
        while rows[at] and slots[at] != ad_ids[i]:
            at = (at + 1) & (len(slots) - 1)
        found[i] = rows[at]
    return found
