"""Commands of README.md, run as they stand in a fresh copy of the repository, with a real S3 server on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.jobs.job_runs import ROOT
from tests.object_store import object_store

pytestmark = [pytest.mark.slow, pytest.mark.java]

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def fresh_copy(folder: Path) -> Path:
    """The files of the repository in a new folder, with this environment as its .venv."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        source = ROOT / name
        if name and source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(source.read_bytes())
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def test_the_commands_and_the_example_run_as_they_stand(tmp_path: Path) -> None:
    import s3fs

    copy = fresh_copy(tmp_path / "copy")
    with object_store():
        environment = {**os.environ, "PYTHONPATH": f"{copy / 'lib'}:{copy}"}

        def run(command: str) -> str:
            done = subprocess.run(
                ["bash", "-c", command], cwd=copy, env=environment, capture_output=True, text=True, timeout=600,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            return done.stdout

        run(".venv/bin/python jobs/simulate_logs.py logs --rows 3e4 --days 2 --last-day 2026-11-21 --seed 3")
        store = s3fs.S3FileSystem(skip_instance_cache=True)
        for bucket in ("logs", "training"):
            store.mkdir(bucket)
        for table in ("impressions", "engagements", "ads"):
            store.put(str(copy / "logs" / table), f"s3://logs/{table}", recursive=True)

        set_up, mining, training = blocks("sh")
        assert [line.split()[0] for line in set_up.splitlines()] == ["scripts/demo.sh", "scripts/test.sh"]
        run(mining)
        # The day that README's evaluation names is mined by README's command.
        run(mining.replace("--date 2026-11-20", "--date 2026-11-21"))
        printed = [run(command) for command in training.splitlines()]
        assert len(printed) == 5
        assert "recall@100" in printed[2]
        assert (copy / "report.html").stat().st_size > 10_000
        (example,) = blocks("python")
        shown = run(f".venv/bin/python - <<'END'\n{example}\nprint(ads.shape)\nEND")
        assert shown == "(2, 20)\n"
