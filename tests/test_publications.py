"""The clause about what was published, at the end of a message about a run that did not end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scrollpast import publications
from scrollpast.cli_runner import run_job
from scrollpast.config import load_config
from scrollpast.errors import ScrollpastError
from scrollpast.mining.gate.held_days import day_uri
from scrollpast.shards.manifest import publish_manifest
from tests.mining.published import DAY, write_day


def message(
    work: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    publishes: bool = True,
) -> str:
    monkeypatch.setattr(sys, "argv", ["a_job.py"])
    run_job(argparse.ArgumentParser(prog="a_job.py"), lambda _: work(), publishes=publishes)
    return capsys.readouterr().err


def failing(error: BaseException, *places: str) -> Callable[[], None]:
    def work() -> None:
        for place in places:
            with publications.publishing(place):
                pass
        raise error

    return work


FAILURE = ScrollpastError("Spark", expected="tasks to end", found="none", remedy="run again")


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        (KeyboardInterrupt(), "interrupted; "),
        (FAILURE, "Spark: expected tasks to end, found none; run again; "),
        (OSError("no space"), "OSError: no space; run again with --debug for the traceback; "),
    ],
)
@pytest.mark.parametrize(
    ("places", "clause"),
    [
        ((), "nothing was published"),
        (("out/ds=1",), "published before that: out/ds=1"),
        (("a", "b", "c", "d", "e"), "published before that: a, b, c and 2 more"),
    ],
)
def test_a_job_that_ends_early_says_what_it_published(
    error: BaseException,
    beginning: str,
    places: tuple[str, ...],
    clause: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert message(failing(error, *places), capsys, monkeypatch) == f"a_job.py: error: {beginning}{clause}\n"
    # The next job of the process begins with nothing.
    assert message(failing(error), capsys, monkeypatch).endswith("; nothing was published\n")


def test_a_job_that_publishes_no_days_says_nothing_of_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = message(failing(KeyboardInterrupt()), capsys, monkeypatch, publishes=False)
    assert told == "a_job.py: error: interrupted\n"


def test_a_manifest_that_was_published_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, [f"output.path={tmp_path}"])
    uri = day_uri(config, DAY)

    def work() -> None:
        publish_manifest(uri, write_day(uri, config), replace=False)
        raise KeyboardInterrupt

    assert (
        message(work, capsys, monkeypatch) == f"a_job.py: error: interrupted; published before that: {uri}\n"
    )


def test_a_publication_that_is_interrupted_is_uncertain_and_one_that_fails_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(error: BaseException) -> Callable[[], None]:
        def work() -> None:
            with publications.publishing("out/ds=1"):
                raise error

        return work

    told = message(stopped(KeyboardInterrupt()), capsys, monkeypatch)
    assert told == "a_job.py: error: interrupted; out/ds=1 may be published or as it was before\n"
    assert message(stopped(OSError("full")), capsys, monkeypatch).endswith("; nothing was published\n")
