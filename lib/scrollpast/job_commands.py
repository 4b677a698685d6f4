"""Commands that messages print: complete, quoted, and started with the interpreter that prints them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TABLES = ("impressions", "engagements", "ads", "users")


def job_command(job: str, *arguments: object) -> str:
    """The command line of a job, such as ``.venv/bin/python jobs/mine_negatives.py --date 2026-11-20``.

    Args:
        job: name of a file in jobs/, without ``.py``.
        arguments: values that only the reader knows are words in capitals, such as FOLDER.
    """
    return program_command(f"jobs/{job}.py", *arguments)


def program_command(program: str, *arguments: object) -> str:
    """The command line of a program of the repository, given by its path in there."""
    return shlex.join([_shown(sys.executable), repository_path(program), *map(str, arguments)])


def repository_path(path: str) -> str:
    """A path of the repository from the working folder: found by the job that runs, if a job runs."""
    beside = Path(sys.argv[0]).parent.parent / path
    return _shown(str(beside)) if sys.argv[0] and beside.exists() else path


def mine_command(ds: str, num_days: int, out_uri: str, config: Mapping[str, Any], *arguments: object) -> str:
    """The command that mines a day again from the same tables.

    Args:
        ds: the last day of the window.
        out_uri: folder of the published days.
        config: the configuration that the day was mined with, as its manifest holds it.
    """
    words = ["--date", ds, *(("--days", num_days) if num_days != 1 else ()), "--out", out_uri]
    return job_command("mine_negatives", *words, *table_options(config, *TABLES), *arguments)


def table_options(config: Mapping[str, Any], *names: str) -> list[str]:
    """Options that name tables where a configuration has them; PATH for one that every log has and none is known of.

    Args:
        config: a configuration as JSON holds it, such as that of a manifest.
        names: some of `TABLES`.
    """
    tables = config.get("input")
    words: list[str] = []
    for name in names:
        table = tables.get(name) if isinstance(tables, Mapping) else None
        known = table if isinstance(table, Mapping) else {}
        if known.get("table"):
            words += ["--set", f"input.{name}.table={known['table']}"]
        elif known.get("path") or name in TABLES[:2]:
            words += [f"--{name}", str(known.get("path") or "PATH")]
    return words


def _shown(path: str) -> str:
    """A path, relative to the working folder where it lies below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative
