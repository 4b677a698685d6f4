"""Registry of public logs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrollpast.errors import UserError
from scrollpast.importing.logs import IMPORTERS, Importer, import_log


def test_an_importer_from_outside_runs_once_it_is_registered(tmp_path: Path) -> None:
    def import_own(source: Path, out: Path, overwrite: bool) -> str:
        return f"read {source.name}, wrote {out.name}, {overwrite}"

    with IMPORTERS.registered(Importer("own_log", import_own)):
        assert import_log("own_log", tmp_path / "in", tmp_path / "out", True) == "read in, wrote out, True"
    known = re.escape(
        f"LOG: expected a registered public log ({', '.join(IMPORTERS.names)}), found 'own_log'"
    )
    with pytest.raises(UserError, match=known):
        import_log("own_log", tmp_path / "in", tmp_path / "out", True)
