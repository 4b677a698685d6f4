"""The job that brings a public log into the shape of the input contract, as a user starts it."""

import subprocess
import sys
from pathlib import Path

from tests.jobs.job_runs import ROOT, JobRun, run_alone

JOB = ROOT / "jobs" / "import_public_log.py"


def run(*arguments: str | Path) -> JobRun:
    return run_alone(*arguments, program=(sys.executable, str(JOB)))


def test_an_import_says_what_to_run_next(tmp_path: Path) -> None:
    (tmp_path / "behaviors.tsv").write_text("1\tU1\t11/15/2019 10:22:32 AM\t\tN1-0 N2-1\n")
    (tmp_path / "news.tsv").write_text("N1\tnews\tworld\tTitle\t\t\t[]\t[]\n")
    out = tmp_path / "out"
    done = run("mind", tmp_path, out)
    assert done.exit_code == 0, done.stderr
    assert (
        f"jobs/mine_negatives.py --config conf/local.yaml --date 2019-11-15 --days 1 "
        f"--impressions {out}/impressions --engagements {out}/engagements --ads {out}/ads --out {out}/mined"
    ) in done.stdout


def test_a_folder_without_the_log_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run("kuairand", tmp_path, tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "expected a log" in done.stderr
    assert run("kuairand", tmp_path / "nowhere", tmp_path / "out").exit_code == 2


def test_help_needs_none_of_the_heavy_imports() -> None:
    for job in (JOB, JOB.with_name("simulate_logs.py")):
        script = (
            "import runpy, sys\n"
            f"sys.argv = [{str(job)!r}, '--help']\n"
            f"try:\n    runpy.run_path({str(job)!r}, run_name='__main__')\n"
            "except SystemExit:\n    pass\n"
            "assert not {'numpy', 'pyarrow', 'numba', 'pydantic'} & set(sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
