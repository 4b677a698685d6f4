"""Shared fixtures of the tests of programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.scripts.script_runs import SCRIPTS, files_below


@pytest.fixture(scope="module")
def untouched_scripts() -> Iterator[None]:
    """No test of the module writes to scripts/, where the published results are."""
    before = files_below(SCRIPTS)
    yield
    assert files_below(SCRIPTS) == before
