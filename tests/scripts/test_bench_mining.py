"""The benchmark of mining hands its peers every rule of the run, and they come to the job's records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.bench.peers.mining_rules import (
    FIXED,
    FOLLOWED,
    WITHOUT_EFFECT,
    Rules,
    leaves,
    not_followed,
    write_rules,
)
from tests.scripts.script_runs import rows_of

from scrollpast.config import load_config
from scrollpast.mining.rules.rules import Rules as OwnRules
from scrollpast.mining.rules.rules import Window

ROOT = Path(__file__).parents[2]
needs_peers = pytest.mark.skipif(
    not (ROOT / ".envs" / "peers" / "bin" / "python").exists(),
    reason="no peers in .envs/peers: scripts/test.sh installs them",
)
PEERS = "duckdb,polars"
SLOW_PEER = "pyspark"
"""A peer that starts a Spark of its own: it follows one of the changes."""
PER_KIND = {
    "click": {"attribution_h": 2, "weight": 0.25},
    "save": {"code": 5},
    "hide": {"code": 21, "attribution_h": 48},
    "report": None,
}
CHANGED = {
    "a short guard": ["mining.guard.after_h=24"],
    "a long guard and other kinds": [
        "mining.guard.after_h=168", f"mining.kinds={json.dumps(PER_KIND)}", "mining.clock_skew_s=3",
        "mining.maturity_h=90",
    ],
    "thresholds": [
        "mining.examined.min_dwell_ms=500", "mining.examined.max_dwell_ms=3000", "mining.examined.max_position=6",
        "mining.examined.unknown=drop", "mining.examined.long_dwell_excludes=impression",
    ],
}  # fmt: skip


def bench(*arguments: str, results: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable, str(ROOT / "scripts" / "bench/bench_mining.py"), "--runs", "1", "--results", str(results),
            *arguments,
        ],
        capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT / "lib")},
    )  # fmt: skip


@needs_peers
@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_peers_follow_an_option_that_is_changed(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    options = [part for option in CHANGED[name] for part in ("--set", option)]
    log = tmp_path_factory.getbasetemp() / "mining"
    peers = f"{PEERS},{SLOW_PEER}" if name == "thresholds" else PEERS
    done = bench(
        "--rows", "2e4", "--buckets", "4", "--peers", peers, "--folder", str(log), *options, results=tmp_path
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads((tmp_path / "mining_2e4.json").read_text())["runs"]
    assert set(runs) == {"scrollpast", *peers.split(",")}
    rows = rows_of(done.stdout, "program ")
    assert list(rows) == list(runs) and all(float(cells[0]) > 0 for cells in rows.values())
    assert not any(cost["failure"] for costs in runs.values() for cost in costs), done.stderr


def test_every_option_of_mining_is_followed_or_known_to_change_nothing() -> None:
    options = set(leaves(load_config(None).mining.model_dump(mode="json")))
    assert FOLLOWED | WITHOUT_EFFECT | set(FIXED) == options
    assert len(FOLLOWED) + len(WITHOUT_EFFECT) + len(FIXED) == len(options)


def test_peers_read_the_units_of_the_job(tmp_path: Path) -> None:
    window = Window(1_000_000, 9_000_000_000_000, 8_000_000_000_000)
    for options in ([], *CHANGED.values()):
        mining = load_config(None, options).mining
        write_rules(
            tmp_path / "rules.json",
            mining.model_dump(mode="json"),
            window.start_us,
            window.end_us,
            window.as_of_us,
        )
        theirs, ours = Rules.read(tmp_path / "rules.json"), OwnRules.of(mining, window)
        shared = (
            "num_buckets", "max_impressions_per_user_day", "clock_skew_us", "maturity_us", "guard_before_us",
            "guard_after_us", "negatives_per_user", "engagements_from_us", "engagements_to_us",
        )  # fmt: skip
        assert {name: getattr(theirs, name) for name in shared} == {
            name: getattr(ours, name) for name in shared
        }
        kinds = sorted(theirs.kinds, key=lambda kind: kind.code)
        assert [kind.attribution_us for kind in kinds] == ours.kinds.attribution_us.tolist()
        assert [kind.is_positive for kind in kinds] == ours.kinds.is_positive.tolist()
        limits = ours.on([""])
        bounds = [limits.max_position[0], limits.min_dwell_ms[0], limits.max_dwell_ms[0]]
        assert bounds == [theirs.max_position, theirs.min_dwell_ms, theirs.max_dwell_ms]


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("strategy=uniform", "strategy"),
        ("guard.keys=[advertiser_id]", "guard.keys"),
        ("max_ad_share=0.5",) * 2,
    ],
)
def test_an_option_that_no_peer_follows_is_refused_before_the_log_is_made(
    option: str, name: str, tmp_path: Path
) -> None:
    assert name.partition("=")[0] in not_followed(load_config(None, [f"mining.{option}"]).mining.model_dump())
    done = bench("--rows", "1e9", "--set", f"mining.{option}", results=tmp_path)
    assert done.returncode == 2
    assert f"mining.{name}" in done.stderr and "--peers ''" in done.stderr
