"""scripts/env/environment.sh with a lock of one small package, served from a folder: real venv and pip, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def write_wheel(folder: Path, version: str) -> None:
    """A pure wheel `pebble` whose one module states its version."""
    metadata = f"pebble-{version}.dist-info"
    with zipfile.ZipFile(folder / f"pebble-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pebble.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{metadata}/METADATA", f"Metadata-Version: 2.1\nName: pebble\nVersion: {version}\n")
        wheel.writestr(
            f"{metadata}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{metadata}/RECORD", "")


class Project:
    """A repository with nothing in it but scripts/env/environment.sh, a library and two locks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / ".venv" / "bin" / "python"
        (root / "scripts" / "env/locks").mkdir(parents=True)
        shutil.copy(REPOSITORY / "scripts" / "env/environment.sh", root / "scripts" / "env")
        (root / "lib" / "scrollpast").mkdir(parents=True)
        (root / "lib" / "scrollpast" / "__init__.py").touch()
        (root / "wheels").mkdir()
        for version in ("1.0", "2.0"):
            write_wheel(root / "wheels", version)
        self.lock("mining", "pebble==1.0")
        self.lock("empty", "")

    def lock(self, name: str, *lines: str) -> None:
        text = "\n".join(["# a lock", *lines, ""])
        (self.root / "scripts" / "env/locks" / f"{name}.txt").write_text(text, encoding="utf-8")

    def start(self, *locks: str, **variables: str) -> subprocess.Popen[str]:
        settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.root / "wheels")}
        # pip would otherwise also look where the machine's own configuration points.
        settings |= {"PIP_CONFIG_FILE": os.devnull, "SCROLLPAST_PYTHON": sys.executable}
        return subprocess.Popen(
            [self.root / "scripts" / "env/environment.sh", *locks],
            env={**os.environ, **settings, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def environment(self, *locks: str, **variables: str) -> tuple[int, str]:
        process = self.start(*locks, **variables)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def pebble(self) -> str:
        """The version of the package inside the environment, as its Python imports it."""
        program = "import pebble, scrollpast; print(pebble.VERSION)"
        return subprocess.run([self.python, "-c", program], capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"))
    code, output = project.environment("mining")
    assert code == 0, output
    return project


@pytest.mark.slow
def test_the_first_call_installs_the_lock_and_the_project(project: Project) -> None:
    assert project.pebble() == "1.0"


@pytest.mark.slow
def test_the_second_call_does_nothing_says_nothing_and_is_quick(project: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*")}
    started = time.monotonic()
    assert project.environment("mining") == (0, "")
    assert time.monotonic() - started < 1
    assert {path: path.stat().st_mtime_ns for path in project.root.rglob("*")} == before


def test_mining_is_what_is_installed_when_no_lock_is_named(project: Project) -> None:
    assert project.environment() == (0, "")


def test_a_second_lock_is_added_without_touching_the_first(project: Project) -> None:
    code, output = project.environment("mining", "empty")
    assert code == 0
    assert "empty.txt" in output
    assert "mining.txt" not in output


@pytest.mark.slow
def test_a_changed_lock_is_installed_again(project: Project) -> None:
    project.lock("mining", "pebble==2.0")
    assert project.environment("mining")[0] == 0
    assert project.pebble() == "2.0"
    project.lock("mining", "pebble==1.0")
    assert project.environment("mining")[0] == 0
    assert project.pebble() == "1.0"


def test_an_interrupted_installation_is_completed(project: Project) -> None:
    # Files that pip leaves when it is killed between a package's METADATA and its files.
    (project.root / ".venv" / ".scrollpast" / "mining.lock").unlink()
    installed = next((project.root / ".venv").rglob("pebble.py"))
    installed.unlink()
    (installed.parent / "pebble-1.0.dist-info" / "INSTALLER").unlink()
    assert project.environment("mining")[0] == 0
    assert project.pebble() == "1.0"


@pytest.mark.slow
def test_a_failing_install_shows_the_reason_and_names_the_log(project: Project) -> None:
    project.lock("broken", "boulder==9.9")
    code, output = project.environment("mining", "broken")
    assert code == 1
    assert "boulder==9.9" in output
    assert f"its whole output is in {project.root}/.envs/.venv.log" in output
    assert project.environment("mining") == (0, "")


def test_an_unknown_lock_is_named(project: Project) -> None:
    code, output = project.environment("quarrying")
    assert code == 1
    assert "scripts/env/locks/quarrying.txt: expected a lock, found none" in output


def test_without_a_fitting_python_the_message_names_the_package_to_install(tmp_path: Path) -> None:
    code, output = Project(tmp_path).environment("mining", SCROLLPAST_PYTHON="python2.6")
    assert code == 1
    assert "python2.6: expected a Python from 3.11 to 3.13" in output
    assert "apt-get install python3 python3-venv" in output


def test_a_python_that_cannot_make_environments_is_told_from_none(tmp_path: Path) -> None:
    # As Debian ships it without python3-venv: a Python whose ensurepip is not there.
    bare = tmp_path / "python3-bare"
    refuses = 'case "$*" in *ensurepip*) exit 1 ;; esac'
    bare.write_text(f'#!/bin/sh\n{refuses}\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    code, output = Project(tmp_path / "project").environment("mining", SCROLLPAST_PYTHON=str(bare))
    assert code == 1
    assert "expected its modules venv and ensurepip" in output
    assert "apt-get install python3-venv" in output


@pytest.mark.slow
def test_a_moved_repository_gets_its_environment_made_again_by_one_of_two_scripts(project: Project) -> None:
    # Scripts inside an environment name its old place: it cannot be kept. Both calls see that at once.
    moved = Project(project.root.parent / "moved")
    shutil.copytree(project.root / ".venv", moved.root / ".venv", symlinks=True)
    both = [moved.start("mining"), moved.start("mining")]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("making .venv" in output for output in outputs) == 1
    assert moved.pebble() == "1.0"


def chromium(project: Project, path: Path, **variables: str) -> str:
    """Value that `chromium_environment` exports, with only this folder and the shell's tools on the PATH."""
    tools = path / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("dirname", "mkdir", "bash"):
        if not (tools / name).exists():
            (tools / name).symlink_to(str(shutil.which(name)))
    script = f'source {project.root}/scripts/env/environment.sh; chromium_environment; printf %s "${{CHROMIUM:-none}}"'
    environment = {"PATH": f"{path}:{tools}", **variables}
    done = subprocess.run([tools / "bash", "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_chromium_that_is_named_goes_over_one_that_is_found(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    found = tmp_path / "chromium"
    found.write_text("#!/bin/sh\n", encoding="utf-8")
    found.chmod(0o755)
    assert chromium(project, tmp_path) == str(found)
    assert chromium(project, tmp_path, CHROMIUM="/opt/browser") == "/opt/browser"


def test_a_chromium_that_was_unpacked_before_is_taken(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    start = project.root / ".envs" / "chromium" / "start"
    start.parent.mkdir(parents=True)
    start.write_text("#!/bin/sh\n", encoding="utf-8")
    start.chmod(0o755)
    assert chromium(project, tmp_path) == str(start)


def test_without_a_chromium_and_without_apt_there_is_none_and_nothing_fails(tmp_path: Path) -> None:
    assert chromium(Project(tmp_path / "project"), tmp_path) == "none"
