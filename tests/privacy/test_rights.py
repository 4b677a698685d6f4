"""Files have the rights that the umask leaves, and are never writable by the world."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.jobs.job_runs import arguments_of, run_alone
from tests.toy_logs import toy_log


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.slow
@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_rights_that_the_umask_leaves(mask: int, rights: int, tmp_path: Path) -> None:
    folder = toy_log().write(tmp_path / "log")
    out = tmp_path / "out"
    with umask(mask):
        run = run_alone(
            *arguments_of(folder, out),
            *("--set", "mining.num_buckets=2", "--set", f"metrics.path={out}/metrics"),
        )
    assert run.exit_code == 0, run.stderr
    found = {path: path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()}
    assert len(found) > 5
    assert set(found.values()) == {rights}
    assert not any(path.stat().st_mode & 0o002 for path in out.rglob("*"))
