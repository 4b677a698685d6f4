"""Spark ships the library as a zip: compiled loops work from there, with a place for their cache or without."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.shards.conftest import ROOT

ENCODE = """
import pyarrow as pa, scrollpast.shards.codec as codec
batch = pa.RecordBatch.from_pydict({"n": pa.array([1, None])})
assert ".zip" in codec.__file__
print(codec.encode_records(batch).hex())
"""


@pytest.mark.parametrize("place", ["writable", "not writable"])
def test_records_are_encoded_by_a_library_in_a_zip(
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
    printed = in_new_process(ENCODE, library=str(library), HOME=str(home), XDG_CACHE_HOME=str(home))
    assert printed.startswith("0e00000000000000")  # the length of the first record
    if place == "writable":
        assert list(home.rglob("*.nbi"))  # the next process does not compile again
