"""Progress: one line on a terminal. (That a log stays quiet is seen where a job runs as its own process.)"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from scrollpast.mining.spark.progress import line

SPARK_JOB = """
from scrollpast.config import load_config
from scrollpast.mining.spark.progress import progress
from scrollpast.mining.spark.session import spark_session
with spark_session(load_config(None, ["spark.master=local[2,4]"]).spark, "progress", debug=False) as spark:
    with progress(spark, "count", 20):
        spark.range(0, 20, 1, 10).rdd.map(lambda row: __import__("time").sleep(0.25)).count()
"""


def test_nothing_has_ended_yet() -> None:
    assert line("scan", [(0, 10)], 1.0, 100) == "scan: starting"
    assert line("scan", [], 1.0, 100) == "scan: starting"


def test_a_line_says_stage_tasks_rows_speed_and_time_left() -> None:
    assert line("scan", [(5, 10), (0, 10)], 10.0, 1_000_000) == (
        "scan: stage 1 of 2, 5/20 tasks, 500,000 of 1,000,000 rows, 50,000 rows/s, about 30 s left"
    )


def test_the_second_stage_has_no_speed_of_rows() -> None:
    text = line("scan", [(10, 10), (5, 10)], 30.0, 1_000_000)
    assert text == "scan: stage 2 of 2, 15/20 tasks, 1,000,000 of 1,000,000 rows, about 10 s left"


@pytest.mark.slow
def test_a_terminal_shows_progress_and_how_long_it_took() -> None:
    ours, theirs = pty.openpty()
    job = subprocess.Popen([sys.executable, "-c", SPARK_JOB], stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert job.wait() == 0
    assert re.search(rb"count: stage 1 of 1, \d+/10 tasks, \d+ of 20 rows, .* left", shown), shown
    assert re.search(rb"count of 20 rows: \d+\.\d s\r?\n$", shown), shown
