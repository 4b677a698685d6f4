"""Spark ships the library as a zip: compiled loops work from there, with a place for their cache or without."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.shards.conftest import ROOT

CHECK = """
from scrollpast.shards import crc32c
assert ".zip" in crc32c.__file__
print(hex(crc32c.crc32c(b"123456789")))
"""


@pytest.mark.parametrize("place", ["writable", "not writable"])
def test_compiled_loops_run_from_a_zip(
    tmp_path: Path, place: str, in_new_process: Callable[..., str]
) -> None:
    library = tmp_path / "lib.zip"
    with zipfile.ZipFile(library, "w") as archive:
        for path in (ROOT / "lib" / "scrollpast").rglob("*.py"):
            archive.write(path, path.relative_to(ROOT / "lib"))
    home = tmp_path / "home"
    if place == "writable":
        home.mkdir()
    else:
        home.write_text("a file: no folder can be made below it, not even by root")
    printed = in_new_process(CHECK, library=str(library), HOME=str(home), XDG_CACHE_HOME=str(home))
    assert printed == "0xe3069283"
    if place == "writable":
        assert list(home.rglob("*.nbi"))  # the next process does not compile again
