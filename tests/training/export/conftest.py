"""One export that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrollpast.training.engine.checkpoint import Checkpoint
from scrollpast.training.serving.user_tower import UserTower
from tests.training.export.exports import export, trained


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return trained(tmp_path_factory.mktemp("trained") / "once", "epochs=2")


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "export"
    export(checkpoint, str(folder))
    return folder


@pytest.fixture(scope="module")
def tower(exported: Path) -> UserTower:
    return UserTower.load(str(exported))
