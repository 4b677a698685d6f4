"""Compiled kernels are kept where a later process finds them, also those of a library in a zip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from scrollpast.shards import crc32c, framing
assert framing.unframe(framing.frame(b"user"), "here") == [b"user"]
stats = [it.stats for module in (crc32c, framing) for it in vars(module).values() if hasattr(it, "stats")]
print(*(sum(sum(getattr(it, what).values()) for it in stats) for what in ("cache_hits", "cache_misses")))
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Zip of the library, as Spark sends it to executors."""
    path = tmp_path / "library.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for source in sorted((ROOT / "lib").rglob("*.py")):
            archive.write(source, source.relative_to(ROOT / "lib"))
    return path


def run(library: Path, home: Path, **variables: str) -> tuple[int, int]:
    """Kernels that were found compiled, and that were not, in a process of its own."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTHON", "XDG_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, library],
        env={**kept, "HOME": str(home), **variables}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    hits, misses = map(int, done.stdout.split())
    return hits, misses


def test_a_zip_that_lies_elsewhere_finds_its_kernels_compiled(library: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    hits, misses = run(library, home)
    assert hits == 0 and misses > 0
    elsewhere = tmp_path / "application-2" / "library.zip"
    elsewhere.parent.mkdir()
    shutil.copyfile(library, elsewhere)
    hits, misses = run(elsewhere, home)
    assert hits > 0 and misses == 0


def test_another_library_compiles_its_own(library: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    _, misses = run(library, home)
    with zipfile.ZipFile(library, "a") as archive:
        archive.writestr("scrollpast/of_tomorrow.py", "")
    assert misses > 0 and run(library, home) == (0, misses)


def test_a_folder_that_the_user_names_is_used(library: Path, tmp_path: Path) -> None:
    run(library, tmp_path / "home", NUMBA_CACHE_DIR=str(tmp_path / "kernels"))
    assert list((tmp_path / "kernels").rglob("*.nbi"))
    assert not list((tmp_path / "home").rglob("*.nbi"))


def test_without_a_place_to_keep_them_kernels_are_compiled_all_the_same(
    library: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("no folder")
    assert run(library, tmp_path / "home")[0] == 0
