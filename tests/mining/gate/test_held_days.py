"""Days that are held: kept whole, released as they are, discarded when another took their place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scrollpast.config import Config, load_config
from scrollpast.documents.health import Breach, GateVerdict
from scrollpast.errors import UserError
from scrollpast.job_commands import job_command
from scrollpast.mining.gate import held_days
from scrollpast.shards.manifest import Manifest, is_published, publish_manifest, read_manifest
from tests.mining.published import DAY, write_day


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(None, [f"output.path={tmp_path / 'out'}"])


@pytest.fixture
def kept(config: Config) -> Manifest:
    """A day that was written and then kept aside."""
    manifest = write_day(held_days.day_uri(config, DAY), config)
    assert held_days.hold_day(config, DAY, manifest) == held_days.held_uri(config, DAY)
    return manifest


def contents(uri: str) -> dict[str, bytes]:
    folder = Path(uri)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_held_day_is_whole_in_a_folder_of_its_own_and_not_published(config: Config, kept: Manifest) -> None:
    assert held_days.held_uri(config, DAY).endswith("/out/held/ds=2026-11-20")
    assert set(contents(held_days.held_uri(config, DAY))) == {*kept.paths, "manifest.json"}
    assert read_manifest(held_days.held_uri(config, DAY)) == kept
    assert not is_published(held_days.day_uri(config, DAY))


def test_a_released_day_has_the_bytes_of_the_held_one(config: Config, kept: Manifest) -> None:
    before = contents(held_days.held_uri(config, DAY))
    assert held_days.release(config, DAY) == kept
    assert contents(held_days.day_uri(config, DAY)) == before
    assert contents(held_days.held_uri(config, DAY)) == {}


def test_a_day_is_released_though_what_the_run_left_was_swept(config: Config, kept: Manifest) -> None:
    for path in kept.paths:
        (Path(held_days.day_uri(config, DAY)) / path).unlink()
    before = contents(held_days.held_uri(config, DAY))
    held_days.release(config, DAY)
    assert contents(held_days.day_uri(config, DAY)) == before


@pytest.mark.parametrize("step", ["copy_file", "delete_file"])
def test_an_interrupted_release_can_be_run_again(
    config: Config, kept: Manifest, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for path in kept.paths:
        (Path(held_days.day_uri(config, DAY)) / path).unlink()
    before = contents(held_days.held_uri(config, DAY))
    whole, calls = getattr(held_days.filesystem, step), [0]

    def interrupted(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        whole(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(held_days.filesystem, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            held_days.release(config, DAY)
    if step == "copy_file":
        assert not is_published(held_days.day_uri(config, DAY))
        held_days.release(config, DAY)
    assert contents(held_days.day_uri(config, DAY)) == before
    assert not is_published(held_days.held_uri(config, DAY))


def test_nothing_to_release_is_a_mistake(config: Config) -> None:
    with pytest.raises(UserError, match=r"expected a day held by the gate, found no held day; mine the day"):
        held_days.release(config, DAY)
    publish_manifest(
        held_days.day_uri(config, DAY), write_day(held_days.day_uri(config, DAY), config), replace=False
    )
    with pytest.raises(UserError, match=r"found no held day; the day is published"):
        held_days.release(config, DAY)


def test_a_published_day_is_replaced_by_the_held_one_only_when_asked(config: Config, kept: Manifest) -> None:
    other = write_day(held_days.day_uri(config, DAY), config, b"another shard")
    publish_manifest(held_days.day_uri(config, DAY), other, replace=False)
    with pytest.raises(UserError, match="pass --overwrite to replace the published day by the held day"):
        held_days.release(config, DAY)
    assert read_manifest(held_days.day_uri(config, DAY)) == other
    held_days.release(config, DAY, overwrite=True)
    assert read_manifest(held_days.day_uri(config, DAY)) == kept


def test_a_day_that_is_held_again_takes_the_place_of_the_one_before(config: Config, kept: Manifest) -> None:
    folder = Path(held_days.held_uri(config, DAY))
    for path in kept.paths:
        os.utime(folder / path, (1, 1))  # older than the grace
    again = write_day(held_days.day_uri(config, DAY), config, b"another shard")
    held_days.hold_day(config, DAY, again)
    assert set(contents(str(folder))) == {*again.paths, "manifest.json"}


def test_a_held_day_is_discarded_whole_and_where_none_is_nothing_happens(
    config: Config, kept: Manifest
) -> None:
    held_days.discard(held_days.held_uri(config, DAY))
    held_days.discard(held_days.held_uri(config, DAY))
    assert contents(held_days.held_uri(config, DAY)) == {}


def test_without_a_place_for_days_there_is_none_for_held_ones() -> None:
    with pytest.raises(UserError, match=r"^output\.path: expected a folder for the published days"):
        held_days.held_uri(Config(), DAY)


def test_the_reason_names_figure_band_days_and_the_command(config: Config) -> None:
    breaches = (
        Breach(figure="engagement_rate", value=0.004, low=0.0075, high=0.0133, median=0.01),
        Breach(figure="matched_share", value=0.05, low=0.1, high=None),
    )
    verdict = GateVerdict(breaches=breaches, trailing_days=("2026-11-12", "2026-11-13", "2026-11-15"))
    out = config.output.path
    assert held_days.why_held(config, DAY, verdict, overwrite=False) == {
        "place": f"{out}/held/ds=2026-11-20",
        "expected": "engagement_rate 0.750% to 1.330% (the median of 3 trailing days, 2026-11-12 to 2026-11-13, "
        "2026-11-15, is 1.000%)",
        "found": "0.400%; and matched_share 5.000% (at least 10.000%)",
        "remedy": "nothing was published; mend the logs and mine the day again, or publish it as it is: "
        + job_command("mine_negatives", "--date", "2026-11-20", "--out", out, "--release"),
    }
    by_bound = held_days.why_held(config, DAY, GateVerdict(breaches=breaches[1:]), overwrite=True)
    assert by_bound["expected"] == "matched_share at least 10.000% (gate.bounds.matched_share)"
    assert by_bound["remedy"].endswith(" --release --overwrite")
