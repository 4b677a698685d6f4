"""Tests of the trainer are told what goes wrong in them, not what its libraries think of each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.engine.distributed import process_group
from tests.training.runs import small_day


@pytest.fixture(autouse=True, scope="session")
def silence() -> None:
    silence_libraries()
    for name in list(logging.root.manager.loggerDict):
        if "NullHandler" in name:
            logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of this process only."""
    with process_group("cpu"):
        yield


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small published day to train on."""
    return small_day(tmp_path_factory.mktemp("day"))
