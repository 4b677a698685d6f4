"""Published days with nothing in them but their health, and days of a few small files."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from scrollpast.config import Config
from scrollpast.documents.health import DayMetric, Health
from scrollpast.mining.publication import make_manifest
from scrollpast.mining.rules.ledger import Ledger
from scrollpast.mining.rules.rules import Window
from scrollpast.shards.filesystem import write_named
from scrollpast.shards.manifest import Manifest, ShardEntry, publish_manifest

DAY = date(2026, 11, 20)


def health_of(rate: float = 0.01, *, lag_h: float = 72.0, sketch: tuple[int, ...] = ()) -> Health:
    return Health(
        figures={"engagement_rate": DayMetric(value=rate, cases=100_000)}, lag_h=lag_h, sketch=sketch
    )


def window_of(day: date, num_days: int = 1) -> Window:
    return Window.of_days(day, num_days, datetime(2027, 1, 1, tzinfo=UTC))


def manifest_of(
    day: date, config: Config, health: Health | None, num_days: int = 1, **parts: Any
) -> Manifest:
    return make_manifest(
        **{
            "ds": day.isoformat(),
            "window": window_of(day, num_days),
            "config": config,
            "inputs": {},
            "ledger": Ledger(),
            "shards": [],
            "num_positives": 0,
            "num_negatives": 0,
            "ledger_file": "ledger/none.parquet",
            "quarantine_files": [],
            "health": None if health is None else health.model_dump(mode="json"),
            **parts,
        }
    )


def publish_days(
    out: Path, config: Config, *back: int, health: Health | None = None, num_days: int = 1
) -> None:
    """Publish the days that lie so far before ``DAY``."""
    for days in back:
        day = DAY - timedelta(days=days)
        manifest = manifest_of(day, config, health or health_of(), num_days)
        publish_manifest(str(out / f"ds={day}"), manifest, replace=True)


def write_day(uri: str, config: Config, content: bytes = b"a shard") -> Manifest:
    """The files of a day and the manifest that would publish it."""
    files = {
        folder: write_named(content + folder.encode(), folder, "bin", uri)
        for folder in ("bucket=00000", "ledger", "quarantine", "exposure")
    }
    shard = ShardEntry(files["bucket=00000"], 0, 0, len(content), "0" * 64)
    return manifest_of(
        DAY, config, health_of(), shards=[shard], ledger_file=files["ledger"],
        quarantine_files=[files["quarantine"]], exposure_file=files["exposure"],
    )  # fmt: skip
