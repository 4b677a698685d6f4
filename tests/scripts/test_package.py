"""scripts/env/package.sh: the zip for spark-submit --py-files, and the wheel that setup.py builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def copy_sources(root: Path) -> Path:
    (root / "scripts" / "env").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "env/package.sh", root / "scripts" / "env")
    shutil.copy(REPOSITORY / "setup.py", root)
    # The files' times are those of the copying: another clone has others too.
    shutil.copytree(REPOSITORY / "lib", root / "lib", copy_function=shutil.copyfile)
    return root


def package(root: Path) -> Path:
    printed = subprocess.run(
        [root / "scripts" / "env/package.sh"], capture_output=True, text=True, check=True
    )
    return Path(printed.stdout.strip())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(copy_sources(tmp_path_factory.mktemp("one")))


def test_two_clones_give_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    assert package(copy_sources(tmp_path)).read_bytes() == archive.read_bytes()


def test_packing_twice_gives_the_same_bytes(archive: Path) -> None:
    first = archive.read_bytes()
    assert package(archive.parents[1]) == archive
    assert archive.read_bytes() == first
    assert os.listdir(archive.parent) == [archive.name]


def test_the_zip_holds_the_sources_and_nothing_compiled(archive: Path) -> None:
    names = zipfile.ZipFile(archive).namelist()
    assert "scrollpast/errors.py" in names
    assert names == sorted(names)
    assert all(name.startswith("scrollpast/") and "__pycache__" not in name for name in names)


def test_the_zip_imports_without_an_installation(archive: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import scrollpast.record_schema, scrollpast.errors; print(scrollpast.errors.__file__)"
    )
    printed = subprocess.run(
        [sys.executable, "-I", "-c", program, archive],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert printed.stdout.startswith(str(archive))


def test_setup_py_builds_a_wheel_with_an_extra_for_each_half(tmp_path: Path) -> None:
    # Locked with the trainer; before 70.1 it could not build a wheel by itself.
    pytest.importorskip("setuptools", minversion="70.1")
    root = copy_sources(tmp_path)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(root)], capture_output=True, check=True)
    wheel = zipfile.ZipFile(next(tmp_path.glob("scrollpast-*.whl")))
    metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    text = wheel.read(metadata).decode()
    extras = {line.split(": ")[1] for line in text.splitlines() if line.startswith("Provides-Extra")}
    assert extras == {"spark", "train", "neighbours", "baselines", "report", "dag", "dev"}
    assert "Requires-Python: >=3.11" in text
    assert {"scrollpast/errors.py", "scrollpast/report/page.html.j2"} <= set(wheel.namelist())
