"""A published day, looked at from outside: its bytes, its records as rows, and the laws it has to keep.

The laws are SQL over the raw tables and the decoded shards; nothing of the mining code takes part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scrollpast.config import load_config
from scrollpast.shards.codec import decode_records
from scrollpast.shards.manifest import Manifest, read_manifest
from tests.toy_logs import DAY

SERVED = 0
"""``negative_kind`` of an ad that was served and scrolled past, and neither hidden nor reported."""


def day_of(out: Path, day: str = DAY) -> Path:
    return out / f"ds={day}"


def published(out: Path, day: str = DAY) -> Manifest:
    return read_manifest(str(day_of(out, day)))


@dataclass(frozen=True)
class Content:
    """All of a day that its input and configuration decide; equal days have equal contents."""

    shards: frozenset[tuple[str, str]]
    ledger: Mapping[str, int]
    ledger_files: tuple[str, ...]
    quarantine_files: tuple[str, ...]
    exposure_file: str | None


def content_of(out: Path, day: str = DAY) -> Content:
    """Content of a day by its manifest, once all files were compared with the manifest."""
    manifest = published(out, day)
    for entry in manifest.shards:
        data = (day_of(out, day) / entry.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.sha256
    for path in manifest.paths:
        assert (day_of(out, day) / path).is_file()
    shards = frozenset((entry.path, entry.sha256) for entry in manifest.shards)
    return Content(
        shards, manifest.ledger, manifest.ledger_files, manifest.quarantine_files, manifest.exposure_file
    )


def records_of(out: Path, day: str = DAY) -> pa.Table:
    """The records of all shards, decoded."""
    manifest = published(out, day)
    schema = manifest.records
    paths = [day_of(out, day) / entry.path for entry in manifest.shards]
    batches = [decode_records(path.read_bytes(), schema, str(path)) for path in paths]
    return pa.Table.from_batches(batches, schema)


def side_of(records: pa.Table, side: str) -> pa.Table:
    """One row for every item of the ``positive`` or ``negative`` lists, with the user's id."""
    names = [name for name in records.column_names if name.startswith(f"{side}_")]
    records = records.combine_chunks()
    parents = pc.list_parent_indices(records[names[0]].combine_chunks())
    columns = {"user_id": records["user_id"].take(parents)}
    for name in names:
        columns[name.removeprefix(f"{side}_")] = pc.list_flatten(records[name].combine_chunks())
    return pa.table(columns)


def ledger_of(out: Path, day: str = DAY) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(day_of(out, day) / path) for path in published(out, day).ledger_files
    )


def check_laws(out: Path, impressions: pa.Table, engagements: pa.Table, day: str = DAY) -> None:
    """Hold a day with long ids, mined without surfaces' own thresholds, against its raw tables."""
    found = find_breaches(out, impressions, engagements, day)
    assert {law: count for law, count in found.items() if count} == {}


def find_breaches(out: Path, impressions: pa.Table, engagements: pa.Table, day: str = DAY) -> dict[str, int]:
    """Number of rows that break each law, by law."""
    manifest = published(out, day)
    config = load_config(None).model_validate(manifest.config).mining
    records = records_of(out, day)
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    for name, table in {
        "impressions": impressions,
        "engagements": engagements,
        "negative": side_of(records, "negative"),
        "positive": side_of(records, "positive"),
        "record": records,
        "ledger": ledger_of(out, day),
    }.items():
        database.register(name, table)
    kinds = ", ".join(f"('{name}')" for name, kind in config.kinds.items() if kind.role == "positive")
    database.execute(f"CREATE VIEW positive_kind AS SELECT * FROM (VALUES {kinds}) AS kinds(kind)")
    database.execute(f"""
        CREATE TABLE served AS
        SELECT *, epoch_us(served_at) // 1000 AS at_ms,
               request_id IS NULL OR user_id IS NULL OR ad_id IS NULL OR served_at IS NULL
               OR coalesce(position, 0) < 0 OR coalesce(dwell_ms, 0) < 0 AS is_broken
        FROM impressions
        WHERE served_at IS NULL
           OR served_at >= TIMESTAMPTZ '{manifest.window_start}' AND served_at < TIMESTAMPTZ '{manifest.window_end}'
    """)
    database.execute(f"""
        CREATE TABLE liked AS
        SELECT user_id, ad_id, engaged_at, epoch_us(engaged_at) // 1000 AS at_ms
        FROM engagements SEMI JOIN positive_kind USING (kind)
        WHERE engaged_at <= TIMESTAMPTZ '{manifest.as_of}'
    """)
    before_ms, after_ms = int(config.guard.before_h * 3_600_000), int(config.guard.after_h * 3_600_000)
    guard = f"e.at_ms BETWEEN n.served_at_ms - {before_ms} AND n.served_at_ms + {after_ms}"
    attribution_ms = int(max(kind.attribution_h for kind in config.kinds.values()) * 3_600_000)
    laws = {
        "the ledger adds up to the input": "SELECT abs((SELECT sum(count) FROM ledger) - count(*)) FROM served",
        "exactly the broken rows are invalid": """
            SELECT abs((SELECT coalesce(sum(count), 0) FROM ledger WHERE outcome = 'invalid') - count(*))
            FROM served WHERE is_broken""",
        "every served negative is in the ledger": f"""
            SELECT abs((SELECT coalesce(sum(count), 0) FROM ledger WHERE outcome = 'negative') - count(*))
            FROM negative WHERE kind = {SERVED}""",
        "every hide and report is in the ledger": f"""
            SELECT abs((SELECT coalesce(sum(count), 0) FROM ledger WHERE outcome = 'explicit_negative') - count(*))
            FROM negative WHERE kind <> {SERVED}""",
        "every positive is in the ledger": """
            SELECT abs((SELECT coalesce(sum(count), 0) FROM ledger WHERE outcome = 'positive') - count(*))
            FROM positive""",
        "no negative that was never served": """
            SELECT count(*) FROM negative n WHERE NOT EXISTS (
                SELECT 1 FROM served s
                WHERE NOT s.is_broken AND s.user_id = n.user_id AND s.ad_id = n.ad_id AND s.at_ms = n.served_at_ms
                  AND coalesce(s.position, -1) = n.position AND coalesce(s.dwell_ms, -1) = n.dwell_ms)""",
        "no negative that the user engaged with inside the guard window": f"""
            SELECT count(*) FROM negative n SEMI JOIN liked e
            ON n.user_id = e.user_id AND n.ad_id = e.ad_id AND {guard} WHERE n.kind = {SERVED}""",
        "no positive without an engagement in its window": f"""
            SELECT count(*) FROM positive p WHERE NOT EXISTS (
                SELECT 1 FROM liked e WHERE e.user_id = p.user_id AND e.ad_id = p.ad_id
                  AND e.at_ms BETWEEN p.served_at_ms - {int(config.clock_skew_s * 1000)}
                                  AND p.served_at_ms + {attribution_ms})""",
        "no negative of a user without a positive": """
            SELECT count(*) FROM negative ANTI JOIN positive USING (user_id)""",
        "no ad twice among a user's served negatives": f"""
            SELECT count(*) FROM (SELECT 1 FROM negative WHERE kind = {SERVED}
                                  GROUP BY user_id, ad_id HAVING count(*) > 1)""",
        "no user above the cap": f"""
            SELECT count(*) FROM (SELECT 1 FROM negative WHERE kind = {SERVED}
                                  GROUP BY user_id HAVING count(*) > {config.negatives_per_user})""",
        "no ad above its share": f"""
            SELECT count(*) FROM (
                SELECT ad_id, count(*) AS kept FROM negative WHERE kind = {SERVED} GROUP BY ad_id)
            WHERE kept > greatest(1, floor({config.max_ad_share} * (
                SELECT sum(count) FROM ledger WHERE outcome = 'negative')))""",
        "no served negative that was looked at for long": f"""
            SELECT count(*) FROM negative WHERE kind = {SERVED} AND dwell_ms > {config.examined.max_dwell_ms}""",
        "no weight outside (0, 1]": """
            SELECT count(*) FROM (SELECT weight FROM negative UNION ALL SELECT weight FROM positive)
            WHERE NOT (weight > 0 AND weight <= 1)""",
        "no user twice": "SELECT count(*) - count(DISTINCT user_id) FROM record",
        "no list out of the order of time": """
            SELECT count(*) FROM record
            WHERE list_sort(positive_served_at_ms) <> positive_served_at_ms
               OR list_sort(negative_served_at_ms) <> negative_served_at_ms""",
    }  # fmt: skip
    return {law: int(database.execute(query).fetchone()[0]) for law, query in laws.items()}  # type: ignore[index]
