"""Bytes of mined days and losses of a trained model, as they were when this file was written.

A change of the code that is not meant to change results leaves these figures alone. One that is meant to, says so in
CHANGELOG.md and writes the new figures here: the failing test prints them.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.job_runs import ROOT, TIMEOUT_S, mine, run_job
from tests.jobs.published_days import content_of
from tests.toy_logs import toy_log

DIGESTS = {
    "defaults": "ad395e9e47f9dc3ef07cbe4e46dbf3d371cf23fec35ca04d352b6d8c4b1e643e",
    "naive": "ead0e8fc9bbba089230d22c7a91418fc6c9d7cb77fbe4ade972fb00c9a13e61d",
    "no guard": "b1bd2f086f4a5322b39adec1865f296ffbba3c0b7db4e452bb3a7188e6e5f585",
    "caps": "7dfcb2b9d83620b87a37a4ca70795951dbfd49b13357f36dee30905fda5e24a6",
}
"""SHA-256 of everything that a mined toy day consists of, by configuration"""
CONFIGURATIONS: dict[str, list[str]] = {
    "defaults": [],
    "naive": ["--config", str(ROOT / "conf" / "naive.yaml")],
    "no guard": ["--set", "mining.guard.after_h=0", "--set", "mining.guard.before_h=0"],
    "caps": ["--set", "mining.negatives_per_user=3", "--set", "mining.max_ad_share=0.05"],
}
LEDGER = {
    "bot": 0, "duplicate": 197, "engaged_elsewhere": 2161, "explicit_negative": 24, "immature": 0,
    "invalid": 131, "lingered": 5182, "negative": 4117, "not_examined": 15315, "over_cap": 0,
    "positive": 478, "repeat": 8516, "suppressed": 0, "too_new": 0, "unanchored": 23879,
}  # fmt: skip
"""Of a simulated log of 60,000 impressions"""
LOSSES = [5.77667, 4.53459, 3.47074, 2.66773, 1.8781]
"""Mean loss of ten steps each, of the first 50"""


@pytest.fixture(scope="module")
def log(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_log(150).write(tmp_path_factory.mktemp("log"))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_mined_day_has_the_bytes_that_it_had(name: str, log: Path, tmp_path: Path) -> None:
    run = mine(log, tmp_path, *CONFIGURATIONS[name])
    assert run.exit_code == 0, run.stderr
    found = content_of(tmp_path)
    content = [sorted(found.shards), sorted(found.ledger.items()), found.ledger_files, found.quarantine_files]
    digest = hashlib.sha256(json.dumps([*content, found.exposure_file]).encode()).hexdigest()
    assert digest == DIGESTS[name]


def test_a_model_learns_from_a_simulated_log_what_it_learned(spark: object, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    assert run_job("simulate_logs", log, "--rows", "60000", "--days", "2", "--seed", "3").exit_code == 0
    tables = [part for name in ("impressions", "engagements") for part in (f"--{name}", log / name)]
    window = ("--date", "2026-11-20", "--days", "2", "--as-of", "2026-11-25")
    mined = run_job("mine_negatives", *window, *tables, "--out", out, "--set", "mining.num_buckets=4")
    assert mined.exit_code == 0, mined.stderr
    day = out / "ds=2026-11-20"
    ledger = json.loads((day / "manifest.json").read_text())["ledger"]
    assert ledger == LEDGER
    assert run_job("build_vocabulary", day, "--num-user-rows", "1000", "--out", out).exit_code == 0
    options = [
        "max_steps=50", "epochs=20", "log_every_steps=10", "data.batch_size=64", "model.embedding_dim=8",
        "model.output_dim=8", "negatives.random.count=16", "negatives.hard.weight=1.0",
    ]  # fmt: skip
    command = [
        sys.executable,
        str(ROOT / "jobs" / "train_two_tower.py"),
        str(day),
        "--out",
        str(tmp_path / "run"),
    ]
    command += [word for option in options for word in ("--set", f"training.{option}")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
    assert done.returncode == 0, done.stderr
    points = map(json.loads, (tmp_path / "run" / "curve.jsonl").read_text().splitlines())
    losses = [round(point["loss"], 5) for point in points if "loss" in point]
    # Other processors sum in another order.
    assert losses == pytest.approx(LOSSES, abs=1e-3)
