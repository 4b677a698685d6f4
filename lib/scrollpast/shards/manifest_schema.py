"""Fields of a manifest, and its JSON: every field is checked when read; equal manifests give equal bytes."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from scrollpast.dates import EXAMPLE, expected_date
from scrollpast.errors import CorruptShardError
from scrollpast.record_schema import record_schema

SCHEMA_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[0-9a-f]{16}")
_DRIVE_OR_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class ShardEntry:
    """One shard: ``path`` relative to the day's folder, and the size and digest of its content."""

    path: str
    bucket: int
    num_records: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One published day. Times are ISO 8601 in UTC; ``window_end`` is exclusive.

    ``input`` describes the input tables, ``config`` is the resolved configuration, ``ledger`` counts impressions by
    outcome, ``kinds`` names the codes of engagement kinds, ``user_features`` are the names without the ``user_``
    prefix, and ``has_user_history`` is True if records hold ``history_ad_id``. Paths of shards, ledger and quarantine
    files are relative to the day's folder.

    ``ads`` is the folder of the newest vocabulary that was built from the day: relative to the day's folder, as
    ``../vocabulary/v=…``, where it lies below the folder that holds the day, else absolute. None: no vocabulary
    was built since the day was mined. Records hold ids, not rows, and do not depend on the vocabulary.

    ``health`` holds the day metrics that the gate compares, ``exposure_file`` the path of the report of the
    distribution of negatives over ads. Both are None for a day mined by an older version.

    ``revocation_file`` names the ``num_revoked`` negatives that later engagements contradict. They stay in the shards
    and in the counts, and readers leave them out. ``revocations_as_of`` is the latest moment up to which engagements
    were searched for contradicted negatives; None: never, or by a version that did not record it.

    ``user_key`` is the fingerprint of the key that user ids were hashed with; None: ids are as in the log.
    ``num_forgotten`` records were removed since, with their positives and negatives; the ledger still counts them. The
    last removal was at ``forgotten_at``. ``suppressed`` is the digest of the suppression list whose users the day was
    published without; None: no list, or an empty list.
    """

    ds: str
    window_start: str
    window_end: str
    as_of: str
    num_buckets: int
    created_at: str
    config: dict[str, Any]
    input: dict[str, Any]
    ledger: dict[str, int]
    num_records: int
    num_positives: int
    num_negatives: int
    kinds: dict[str, int]
    shards: tuple[ShardEntry, ...]
    ads: str | None = None
    user_features: tuple[str, ...] = ()
    ledger_files: tuple[str, ...] = ()
    quarantine_files: tuple[str, ...] = ()
    health: dict[str, Any] | None = None
    exposure_file: str | None = None
    revocation_file: str | None = None
    num_revoked: int = 0
    user_key: str | None = None
    num_forgotten: int = 0
    revocations_as_of: str | None = None
    suppressed: str | None = None
    forgotten_at: str | None = None
    has_user_history: bool = False
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        # Lists are accepted; tuples keep the instance immutable.
        for name in ("shards", "user_features", "ledger_files", "quarantine_files"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that the manifest names, relative to the day's folder."""
        single = tuple(path for path in (self.exposure_file, self.revocation_file) if path is not None)
        shards = tuple(entry.path for entry in self.shards)
        return (*shards, *self.ledger_files, *self.quarantine_files, *single)

    @property
    def records(self) -> pa.Schema:
        """Arrow schema of the day's records."""
        return record_schema(self.user_features, has_history=self.has_user_history)

    def to_json(self) -> str:
        """Manifest as indented JSON: fields in the order of the contract, maps sorted by key."""
        fields = dataclasses.asdict(self)
        ordered = {"schema_version": fields.pop("schema_version")}
        for name, value in fields.items():
            ordered[name] = _sorted_keys(value) if isinstance(value, dict) else value
        return json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes, place: str) -> Manifest:
        """Parse the JSON of `to_json`; unknown fields are ignored.

        Raises:
            CorruptShardError: not JSON, another schema version, or a field that is missing, malformed or in
                contradiction with another; names ``place`` and the field.
        """
        return _manifest(_parse(text, place), place)


def is_inside(path: str) -> bool:
    """True if ``path`` is relative, in normal form, and stays in its folder on every operating system."""
    parts = path.split("/")
    return (
        not any(part in ("", ".", "..") for part in parts)
        and "\\" not in path
        and "\0" not in path
        and not _DRIVE_OR_SCHEME.match(path)
    )


def _parse(text: str | bytes, place: str) -> dict[str, Any]:
    try:
        content = json.loads(
            text if isinstance(text, str) else text.decode(), parse_float=_finite, parse_constant=_finite
        )
    except (ValueError, RecursionError) as error:
        raise _malformed(place, "JSON", f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise _malformed(place, "a JSON object", _shown(content))
    return content


def _finite(text: str) -> float:
    """Parse a finite number: Python would also accept NaN, Infinity and 1e999, which are not valid JSON."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number of JSON")
    return value


def _manifest(content: dict[str, Any], place: str) -> Manifest:
    fields = _Fields(content, place)
    version = fields.count("schema_version")
    if version != SCHEMA_VERSION:
        raise CorruptShardError(
            f"{place}, schema_version",
            expected=str(SCHEMA_VERSION),
            found=str(version),
            remedy="read it with the version of scrollpast that wrote it, or mine the day again with --overwrite",
        )
    manifest = Manifest(
        ds=fields.day("ds"),
        window_start=fields.matching("window_start", _is_time, "an ISO 8601 time"),
        window_end=fields.matching("window_end", _is_time, "an ISO 8601 time"),
        as_of=fields.matching("as_of", _is_time, "an ISO 8601 time"),
        num_buckets=fields.count("num_buckets"),
        created_at=fields.matching("created_at", _is_time, "an ISO 8601 time"),
        config=fields.typed("config", dict, "an object"),
        input=fields.typed("input", dict, "an object"),
        ledger=fields.counts("ledger"),
        num_records=fields.count("num_records"),
        num_positives=fields.count("num_positives"),
        num_negatives=fields.count("num_negatives"),
        kinds=fields.counts("kinds"),
        shards=tuple(
            _shard(_Fields(entry, f"{place}, shards[{index}]"))
            for index, entry in enumerate(fields.typed("shards", list, "a list"))
        ),
        ads=None if content.get("ads", "") is None else fields.matching("ads", bool, "a path or null"),
        user_features=fields.strings("user_features", bool, "a name"),
        ledger_files=fields.strings("ledger_files", is_inside, "a path inside the day's folder"),
        quarantine_files=fields.strings("quarantine_files", is_inside, "a path inside the day's folder"),
        # Manifests of older versions lack the following fields.
        health=None if content.get("health") is None else fields.typed("health", dict, "an object or null"),
        exposure_file=fields.text_or_none("exposure_file", is_inside, "a path inside the day's folder"),
        revocation_file=fields.text_or_none("revocation_file", is_inside, "a path inside the day's folder"),
        num_revoked=fields.count("num_revoked") if "num_revoked" in content else 0,
        num_forgotten=fields.count("num_forgotten") if "num_forgotten" in content else 0,
        revocations_as_of=fields.text_or_none("revocations_as_of", _is_time, "an ISO 8601 time"),
        suppressed=fields.text_or_none("suppressed", _KEY.fullmatch, "16 digits"),
        forgotten_at=fields.text_or_none("forgotten_at", _is_time, "an ISO 8601 time"),
        user_key=fields.text_or_none("user_key", _KEY.fullmatch, "16 digits"),
        has_user_history="has_user_history" in content
        and bool(fields.typed("has_user_history", bool, "true or false")),
    )
    _check_totals(manifest, place)
    return manifest


def _shard(fields: _Fields) -> ShardEntry:
    return ShardEntry(
        path=fields.matching("path", is_inside, "a path inside the day's folder"),
        bucket=fields.count("bucket"),
        num_records=fields.count("num_records"),
        num_bytes=fields.count("num_bytes"),
        sha256=fields.matching("sha256", _SHA256.fullmatch, "64 hexadecimal digits"),
    )


def _check_totals(manifest: Manifest, place: str) -> None:
    total = sum(entry.num_records for entry in manifest.shards)
    if total != manifest.num_records:
        raise _malformed(
            f"{place}, num_records", f"the shards' sum of {total:,}", f"{manifest.num_records:,}"
        )
    paths = set()
    for index, entry in enumerate(manifest.shards):
        if entry.bucket >= manifest.num_buckets:
            raise _malformed(
                f"{place}, shards[{index}].bucket",
                f"less than num_buckets {manifest.num_buckets}",
                str(entry.bucket),
            )
        if entry.path in paths:
            raise _malformed(f"{place}, shards[{index}].path", "every shard once", f"{entry.path!r} again")
        paths.add(entry.path)


class _Fields:
    """Fields of one JSON object, read by type; every error names the object and the field."""

    def __init__(self, content: Any, place: str) -> None:
        if not isinstance(content, dict):
            raise _malformed(place, "an object", _shown(content))
        self._content = content
        self._place = place

    def typed(self, name: str, kind: type, expected: str) -> Any:
        if name not in self._content:
            raise _malformed(f"{self._place}, {name}", expected, "no such field")
        value = self._content[name]
        # bool is a subtype of int in Python, not in JSON.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _malformed(f"{self._place}, {name}", expected, _shown(value))
        return value

    def count(self, name: str) -> int:
        value = self.typed(name, int, "an integer, 0 or more")
        if value < 0:
            raise _malformed(f"{self._place}, {name}", "an integer, 0 or more", str(value))
        return int(value)

    def matching(self, name: str, accepts: Callable[[str], Any], expected: str) -> str:
        value = self.typed(name, str, expected)
        if not accepts(value):
            raise _malformed(f"{self._place}, {name}", expected, _shown(value))
        return str(value)

    def day(self, name: str) -> str:
        expected = f"a day as {EXAMPLE}"
        text = self.typed(name, str, expected)
        return self.matching(name, _is_day, expected_date(text))

    def text_or_none(self, name: str, accepts: Callable[[str], Any], expected: str) -> str | None:
        if self._content.get(name) is None:
            return None
        return self.matching(name, accepts, f"{expected} or null")

    def counts(self, name: str) -> dict[str, int]:
        entries = _Fields(self.typed(name, dict, "an object"), f"{self._place}, {name}")
        return {key: entries.count(key) for key in entries._content}

    def strings(self, name: str, accepts: Callable[[str], Any], expected: str) -> tuple[str, ...]:
        values = self.typed(name, list, "a list")
        entries = _Fields(
            {f"[{index}]": value for index, value in enumerate(values)}, f"{self._place}, {name}"
        )
        return tuple(entries.matching(key, accepts, expected) for key in entries._content)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted_keys(value[key]) for key in sorted(value)}
    return [_sorted_keys(entry) for entry in value] if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _malformed(place: str, expected: str, found: str) -> CorruptShardError:
    return CorruptShardError(
        place, expected=expected, found=found, remedy="mine the day again with --overwrite"
    )
