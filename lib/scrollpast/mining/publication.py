"""Publication of a mined day: small files named by content, the manifest, and comparison with a published day."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from scrollpast.config import NEIGHBOUR_CODE, SERVED_CODE, Config, Mining, Section
from scrollpast.errors import UserError
from scrollpast.mining.io.source import Source
from scrollpast.mining.rules.ledger import Ledger
from scrollpast.mining.rules.rules import Rules, Window, epoch_us
from scrollpast.outcomes import Outcome
from scrollpast.privacy.suppression import UserSet
from scrollpast.privacy.user_keys import UserKey
from scrollpast.shards import filesystem
from scrollpast.shards.manifest import Manifest, ShardEntry, is_published, read_manifest


@dataclass(frozen=True)
class Published:
    """Published day that was mined with the same rules."""

    manifest: Manifest
    news: tuple[str, ...] = ()
    """Names of changed inputs; empty where a new run would write the same day."""

    @property
    def paths(self) -> frozenset[str]:
        """Relative paths of the published shards."""
        return frozenset(entry.path for entry in self.manifest.shards)

    def num_changed(self, manifest: Manifest) -> int:
        """Number of buckets whose shard differs in ``manifest``."""
        here, there = (
            {entry.bucket: entry.sha256 for entry in day.shards} for day in (self.manifest, manifest)
        )
        return sum(here.get(bucket) != there.get(bucket) for bucket in here.keys() | there.keys())


def write_table(table: pa.Table, folder: str, day_uri: str) -> str:
    """Write a small table as Parquet, named by its content, below ``folder``; returns the relative path."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    return filesystem.write_named(sink.getvalue(), folder, "parquet", day_uri)


def check_writable(day_uri: str) -> None:
    """Write a test file below the day's folder, so that an unwritable folder is reported before mining.

    Raises:
        UserError: the folder cannot be written to.
    """
    store, root = filesystem.resolve(day_uri)
    trial = filesystem.temporary_name(filesystem.join(root, "trial"))
    try:
        filesystem.write_atomically(store, trial, b"")
        filesystem.delete_file(store, trial)
    except OSError as error:
        raise UserError(
            f"output.path ({day_uri})",
            expected="a folder that can be written to",
            found=f"{type(error).__name__}: {error.strerror or str(error).splitlines()[0]}",
            remedy="check the path, the rights and the space, or choose another --out",
        ) from error


def iso(moment_us: int) -> str:
    """Microseconds since the epoch as ISO 8601 in UTC."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)).isoformat()


def what_decides(config: Config) -> dict[str, Any]:
    """Part of a configuration that decides a day's bytes, as JSON values."""
    document = config.model_dump(mode="json")
    return {**document["mining"], "input": _what_decides_rows(config)}


def _what_decides_rows(config: Config) -> dict[str, Any]:
    """Input options that decide the values of its rows; the input's place does not."""
    shown = config.input.impressions
    return {
        "null_ids": config.input.null_ids,
        "first_position": shown.first_position,
        "dwell_unit": shown.dwell_unit,
    }


def what_decided(manifest: Manifest) -> Any:
    """Same part of a published day, if its manifest holds it; options added later have their defaults."""
    mining = _completed(manifest.config.get("mining"), Mining)
    if not isinstance(mining, dict):
        return mining
    try:
        rows = _what_decides_rows(Config.model_validate({"input": manifest.config.get("input", {})}))
    except ValidationError:
        return None
    return {**mining, "input": rows}


def _completed(content: Any, section: type[Section]) -> Any:
    if not isinstance(content, dict):
        return content
    defaults = section().model_dump(mode="json")
    found = {**defaults, **content}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found[name] = _completed(found[name], kind)
    return found


def find_published(
    day_uri: str, config: Config, rules: Rules, inputs: dict[str, Source], *, as_of_given: bool
) -> Published | None:
    """Published day, if it exists and was mined with this configuration, with the names of changed inputs.

    Raises:
        UserError: the day was mined with another configuration or window, or with a later ``--as-of``.
    """
    if not is_published(day_uri):
        return None
    window, maturity_us = rules.window, rules.maturity_us
    manifest = read_manifest(day_uri)
    changes = []
    if what_decided(manifest) != what_decides(config):
        changes.append("the configuration of mining")
    if (manifest.window_start, manifest.window_end) != (iso(window.start_us), iso(window.end_us)):
        changes.append("the window of days")
    if manifest.user_key != (None if rules.user_key is None else rules.user_key.fingerprint):
        changes.append("the key of user ids")
    known_us = epoch_us(datetime.fromisoformat(manifest.as_of))
    if as_of_given and window.as_of_us < known_us:
        changes.append("--as-of to an earlier moment")
    if changes:
        raise UserError(
            day_uri,
            expected="an unpublished day, or the same configuration as before",
            found=f"a published day, and a change of {', '.join(changes)}",
            remedy="pass --overwrite to replace the day, or choose another --out",
        )
    news = [
        f"the files of {name}"
        for name, source in inputs.items()
        if source.fingerprint is None or manifest.input.get(name, {}).get("fingerprint") != source.fingerprint
    ]
    if "users" in manifest.input and "users" not in inputs:
        news.append("the input: users is not read any more")
    if as_of_given and window.as_of_us > known_us:
        news.append("--as-of")
    undecided = manifest.ledger.get(Outcome.IMMATURE.label, 0)
    if undecided and window.as_of_us >= window.end_us + maturity_us:
        news.append(f"the age of {undecided:,} impressions, which were immature")
    return Published(manifest, tuple(news))


def with_revocations(manifest: Manifest, day_uri: str) -> Manifest:
    """Add to the manifest the revocations of the replaced day, and the time of the last search."""
    if not is_published(day_uri):
        return manifest
    before = read_manifest(day_uri)
    return replace(
        manifest,
        revocation_file=before.revocation_file,
        num_revoked=before.num_revoked,
        revocations_as_of=before.revocations_as_of,
    )


def make_manifest(
    *,
    ds: str,
    window: Window,
    config: Config,
    inputs: dict[str, dict[str, Any]],
    ledger: Ledger,
    shards: list[ShardEntry],
    num_positives: int,
    num_negatives: int,
    ledger_file: str,
    quarantine_files: list[str],
    health: dict[str, Any] | None = None,
    exposure_file: str | None = None,
    user_key: UserKey | None = None,
    suppressed: UserSet | None = None,
) -> Manifest:
    """Manifest of a mined day; its shards in the order of their buckets."""
    kinds = {name: kind.code for name, kind in config.mining.kinds.items()}
    return Manifest(
        ds=ds,
        window_start=iso(window.start_us),
        window_end=iso(window.end_us),
        as_of=iso(window.as_of_us),
        num_buckets=config.mining.num_buckets,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config.model_dump(mode="json", exclude={"training"}),
        input=inputs,
        ledger={outcome.label: count for outcome, count in ledger.totals().items()},
        num_records=sum(entry.num_records for entry in shards),
        num_positives=num_positives,
        num_negatives=num_negatives,
        kinds={"served": SERVED_CODE, **kinds, "neighbour": NEIGHBOUR_CODE},
        shards=tuple(sorted(shards, key=lambda entry: entry.bucket)),
        ads=None,
        user_features=tuple(config.mining.user_features),
        has_user_history=config.mining.user_history is not None,
        ledger_files=(ledger_file,),
        quarantine_files=tuple(sorted(quarantine_files)),
        health=health,
        exposure_file=exposure_file,
        user_key=None if user_key is None else user_key.fingerprint,
        suppressed=None if suppressed is None else suppressed.digest,
    )
