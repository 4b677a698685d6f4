"""Folders of the published logs, for the tests that read them."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("SCROLLPAST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def published_log(name: str) -> Path:
    """Folder of a published log; skips the test where it is not there."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the published log {name} is not in {DATA}; set SCROLLPAST_DATA to its folder")
    return folder
