"""The public logs that can be imported, by the name that the job takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scrollpast.importing.ebnerd import import_ebnerd
from scrollpast.importing.kuairand import import_kuairand
from scrollpast.importing.mind import import_mind
from scrollpast.importing.openbandit import import_openbandit

IMPORTERS: dict[str, Callable[[Path, Path, bool], str]] = {
    "kuairand": import_kuairand,
    "ebnerd": import_ebnerd,
    "openbandit": import_openbandit,
    "mind": import_mind,
}
