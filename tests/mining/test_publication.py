"""A mined day on its way out: tables named by content, the place it goes to, what is there already."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrollpast.config import Config, load_config
from scrollpast.errors import UserError
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.sources import open_source
from scrollpast.mining.publication import (
    Published,
    check_writable,
    find_published,
    iso,
    make_manifest,
    what_decided,
    what_decides,
    write_table,
)
from scrollpast.mining.rules.ledger import Ledger
from scrollpast.mining.rules.rules import Rules, Window
from scrollpast.outcomes import Outcome
from scrollpast.shards.manifest import Manifest, ShardEntry, publish_manifest
from tests.toy_logs import toy_log, write_parquet

WINDOW = Window.of_days(date(2026, 11, 20), 1, datetime(2026, 11, 28, tzinfo=UTC))
TABLE = pa.table({"outcome": ["negative", "positive"], "count": [3, 1]})


def ledger_of(**counts: int) -> Ledger:
    ledger = Ledger()
    for label, count in counts.items():
        ledger.cells[Outcome[label.upper()], "all", None] = count
    return ledger


def manifest_for(config: Config, inputs: dict[str, Source], **changes: Any) -> Manifest:
    described = {
        name: {"place": source.place, "fingerprint": source.fingerprint} for name, source in inputs.items()
    }
    parts: dict[str, Any] = {
        "ds": "2026-11-20", "window": WINDOW, "config": config, "inputs": described, "ledger": ledger_of(negative=3),
        "shards": [], "num_positives": 0, "num_negatives": 3, "ledger_file": "ledger/l.parquet", "quarantine_files": [],
    }  # fmt: skip
    return make_manifest(**{**parts, **changes})


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Source]:
    write_parquet(toy_log(10).impressions, tmp_path / "impressions")
    return {"impressions": open_impressions(tmp_path)}


def open_impressions(folder: Path) -> Source:
    from scrollpast.config import InputTable
    from scrollpast.mining.io.contracts import IMPRESSIONS

    def no_spark() -> Any:
        raise AssertionError("Spark was started")

    return open_source(
        InputTable(path=str(folder / "impressions")), IMPRESSIONS, no_spark, rows_per_task=1000
    )


def test_a_table_is_named_by_its_content_and_written_once(tmp_path: Path) -> None:
    first, second = (write_table(TABLE, "ledger", str(tmp_path)) for _ in range(2))
    assert first == second
    assert [path.name for path in (tmp_path / "ledger").iterdir()] == [first.removeprefix("ledger/")]
    assert pq.read_table(tmp_path / first).equals(TABLE)


def test_a_table_in_several_chunks_is_the_same_file(tmp_path: Path) -> None:
    chunks = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    assert write_table(chunks, "ledger", str(tmp_path)) == write_table(TABLE, "ledger", str(tmp_path))


def test_times_are_written_in_utc() -> None:
    assert iso(0) == "1970-01-01T00:00:00+00:00"
    assert iso(-1) == "1969-12-31T23:59:59.999999+00:00"
    assert iso(WINDOW.end_us) == "2026-11-21T00:00:00+00:00"


def test_a_place_to_write_to_is_left_as_it_was(tmp_path: Path) -> None:
    check_writable(str(tmp_path / "ds=2026-11-20"))
    assert list(tmp_path.rglob("*.tmp")) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_in_the_way_is_told_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(
        UserError, match=r"^output\.path \(.*/taken/ds=1\): expected a folder that can be written to"
    ):
        check_writable(str(tmp_path / "taken" / "ds=1"))


def test_only_the_mining_part_of_a_configuration_decides_the_bytes() -> None:
    config = load_config(None, ["spark.num_partitions=9", "output.orphan_grace_h=1", "gate.deviations=3"])
    assert what_decides(config) == what_decides(Config())
    assert what_decides(load_config(None, ["mining.seed=1"])) != what_decides(Config())


def test_the_manifest_says_what_decided_the_bytes(inputs: dict[str, Source]) -> None:
    config = load_config(None, ["mining.kinds.hide=null", "mining.guard.keys=[advertiser_id]"])
    assert what_decided(manifest_for(config, inputs)) == what_decides(config)


def test_an_option_that_came_later_was_at_its_default_and_one_that_went_is_another_configuration(
    inputs: dict[str, Source],
) -> None:
    manifest = manifest_for(Config(), inputs)
    options = manifest.config["mining"]
    older = {**{name: value for name, value in options.items() if name != "exposure"}, "guard": {"keys": []}}
    assert what_decided(replace(manifest, config={"mining": older})) == what_decides(Config())
    for other in ({"mining": {**options, "gone": 1}}, {"mining": {**options, "guard": {"gone": 1}}}, {}):
        assert what_decided(replace(manifest, config=other)) != what_decides(Config())


def test_the_manifest_names_every_outcome_and_orders_shards_and_files(inputs: dict[str, Source]) -> None:
    shards = [ShardEntry(f"bucket=0000{n}/part-{n}.tfrecord", n, 10 * n, 5, f"{n}" * 64) for n in (3, 1, 2)]
    files = ["quarantine/b.parquet", "quarantine/a.parquet"]
    manifest = manifest_for(Config(), inputs, shards=shards, quarantine_files=files)
    assert [entry.bucket for entry in manifest.shards] == [1, 2, 3]
    assert manifest.num_records == 60
    assert manifest.quarantine_files == ("quarantine/a.parquet", "quarantine/b.parquet")
    assert list(manifest.ledger) == [outcome.label for outcome in Outcome]
    assert manifest.ledger["negative"] == 3
    kinds = {"click": 1, "long_click": 2, "save": 3, "conversion": 4, "hide": 11, "report": 12}
    assert manifest.kinds == {"served": 0, **kinds, "neighbour": 100}
    assert Manifest.from_json(manifest.to_json(), "here") == manifest


def find(tmp_path: Path, config: Config, inputs: dict[str, Source], **changes: Any) -> Published | None:
    rules = Rules.of(config.mining, changes.get("window", WINDOW), {})
    as_of_given = changes.get("as_of_given", True)
    return find_published(str(tmp_path / "day"), config, rules, inputs, as_of_given=as_of_given)


def at(moment: datetime) -> Window:
    return Window.of_days(date(2026, 11, 20), 1, moment)


def test_an_unpublished_day_is_not_found(tmp_path: Path, inputs: dict[str, Source]) -> None:
    assert find(tmp_path, Config(), inputs) is None


def test_a_day_of_the_same_input_and_configuration_is_found(
    tmp_path: Path, inputs: dict[str, Source]
) -> None:
    manifest = manifest_for(Config(), inputs)
    publish_manifest(str(tmp_path / "day"), manifest, replace=False)
    found = find(tmp_path, load_config(None, ["spark.num_partitions=3"]), inputs)
    assert found == Published(manifest, news=())


def test_every_change_is_refused_and_named(tmp_path: Path, inputs: dict[str, Source]) -> None:
    publish_manifest(str(tmp_path / "day"), manifest_for(Config(), inputs), replace=False)
    window = Window.of_days(date(2026, 11, 20), 2, datetime(2026, 11, 27, tzinfo=UTC))
    with pytest.raises(UserError) as caught:
        find(tmp_path, load_config(None, ["mining.seed=1"]), inputs, window=window)
    assert caught.value.found == (
        "a published day, and a change of the configuration of mining, the window of days, "
        "--as-of to an earlier moment"
    )


def test_what_is_known_since_is_news(tmp_path: Path, inputs: dict[str, Source]) -> None:
    early = manifest_for(
        Config(), inputs, window=at(datetime(2026, 11, 21, tzinfo=UTC)), ledger=ledger_of(immature=7)
    )
    publish_manifest(str(tmp_path / "day"), early, replace=False)
    write_parquet(toy_log(11).impressions, tmp_path / "impressions")
    changed = {"impressions": open_impressions(tmp_path)}
    found = find(tmp_path, Config(), changed)
    assert found is not None
    assert found.news == (
        "the files of impressions",
        "--as-of",
        "the age of 7 impressions, which were immature",
    )


def test_a_moment_that_nobody_chose_is_no_news(tmp_path: Path, inputs: dict[str, Source]) -> None:
    publish_manifest(str(tmp_path / "day"), manifest_for(Config(), inputs), replace=False)
    for moment in (datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)):
        found = find(tmp_path, Config(), inputs, window=at(moment), as_of_given=False)
        assert found is not None and not found.news
