"""Registry of the public logs that can be imported; importers are loaded when they run, so that --help is fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scrollpast.registry import Registry


@dataclass(frozen=True)
class Importer:
    """One public log."""

    name: str
    """Argument LOG of ``jobs/import_public_log.py``"""
    run: Callable[[Path, Path, bool], str]
    """Folder of the log as published, folder of the tables, whether to replace tables → account of the import"""


def _kuairand(source: Path, out: Path, overwrite: bool) -> str:
    from scrollpast.importing.kuairand import import_kuairand

    return import_kuairand(source, out, overwrite)


def _ebnerd(source: Path, out: Path, overwrite: bool) -> str:
    from scrollpast.importing.ebnerd import import_ebnerd

    return import_ebnerd(source, out, overwrite)


def _openbandit(source: Path, out: Path, overwrite: bool) -> str:
    from scrollpast.importing.openbandit import import_openbandit

    return import_openbandit(source, out, overwrite)


def _mind(source: Path, out: Path, overwrite: bool) -> str:
    from scrollpast.importing.mind import import_mind

    return import_mind(source, out, overwrite)


IMPORTERS = Registry(
    "public log",
    (
        Importer("kuairand", _kuairand),
        Importer("ebnerd", _ebnerd),
        Importer("openbandit", _openbandit),
        Importer("mind", _mind),
    ),
)


def import_log(name: str, source: Path, out: Path, overwrite: bool) -> str:
    """Import a public log; returns the account of the import.

    Args:
        name: of a registered importer.
        source: folder of the log as published.
        out: folder that receives the three tables.
        overwrite: whether to replace tables that are there.

    Raises:
        UserError: no importer has the name, or the folder is not the log.
    """
    return IMPORTERS.find(name, "LOG").run(source, out, overwrite)
