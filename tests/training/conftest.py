"""Tests of the trainer are told what goes wrong in them, not what its libraries think of each other."""

from __future__ import annotations

import logging

import pytest

from scrollpast.training.engine.console import silence_libraries


@pytest.fixture(autouse=True, scope="session")
def silence() -> None:
    silence_libraries()
    for name in list(logging.root.manager.loggerDict):
        if "NullHandler" in name:
            logging.getLogger(name).setLevel(logging.ERROR)
