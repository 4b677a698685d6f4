"""Shared fixtures of the report's tests: an output to report on, and a browser that opens the report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report.browser import Browser
from tests.report.published import Output, make_output


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return make_output(tmp_path)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium: ``CHROMIUM`` as scripts/test.sh sets it, else one on the PATH."""
    on_path = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    program = os.environ.get("CHROMIUM") or next(on_path, None)
    if program is None:
        pytest.skip("no Chromium: scripts/test.sh unpacks one where there is apt-get; CHROMIUM names another")
    with Browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started
