"""scripts/check.sh: what it finds decides its exit code, and it says how to mend it."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

TIDY = '''"""A word."""

WORD = "scroll"
'''
UNTIDY = TIDY.replace('"scroll"', "'scroll'")
WRONG = TIDY + "WORD_LENGTH: int = WORD\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The checks and their settings around a library of one module, in this test run's own environment."""
    if not (Path(sys.prefix) / "bin" / "ruff").exists():
        pytest.skip("needs the development environment (scripts/test.sh makes it)")
    for name in (".ruff.toml", ".mypy.ini", ".importlinter", "setup.py", "scripts"):
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    for program in tmp_path.glob("scripts/**/*.py"):
        program.unlink()
    (tmp_path / "lib" / "scrollpast").mkdir(parents=True)
    environment = tmp_path / ".venv"
    (environment / ".scrollpast").mkdir(parents=True)
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    for lock in ("mining", "report", "development"):
        text = (REPOSITORY / "scripts" / "env/locks" / f"{lock}.txt").read_text(encoding="utf-8")
        stamp = f"# Python {platform.python_version()} in {tmp_path.resolve()}, with lib on its path\n{text}"
        (environment / ".scrollpast" / f"{lock}.lock").write_text(stamp, encoding="utf-8")
    return tmp_path


def check(project: Path, module: str, *arguments: str) -> tuple[int, str]:
    (project / "lib" / "scrollpast" / "word.py").write_text(module, encoding="utf-8")
    done = subprocess.run(
        [project / "scripts" / "check.sh", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def test_a_formatting_error_fails_and_says_how_to_mend_it(project: Path) -> None:
    code, output = check(project, UNTIDY)
    assert code == 1
    assert "'scroll'" in output
    assert "scripts/check.sh --fix corrects format" in output


def test_fix_mends_a_formatting_error(project: Path) -> None:
    check(project, UNTIDY, "--fix")
    assert (project / "lib" / "scrollpast" / "word.py").read_text(encoding="utf-8") == TIDY


def test_a_wrong_type_fails(project: Path) -> None:
    code, output = check(project, WRONG)
    assert code == 1
    assert "word.py:4: error: Incompatible types" in output


def test_an_unknown_argument_is_refused(project: Path) -> None:
    code, output = check(project, TIDY, "--mend")
    assert code == 1
    assert "--mend: expected no argument or --fix" in output
