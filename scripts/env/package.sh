#!/usr/bin/env bash
# Packs lib/scrollpast into dist/scrollpast-VERSION.zip, for spark-submit --py-files, and prints its path.
# The same sources give the same bytes: names in order, a fixed time, and no compression, because its output
# differs between zlib versions. Executors read an uncompressed zip as fast.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=.venv/bin/python
[[ -x $python ]] || python=python3

"$python" -I - <<'PYTHON'
import os
import runpy
import zipfile
from pathlib import Path

library = Path("lib")
version = runpy.run_path("setup.py")["read_version"]()
archive = Path("dist", f"scrollpast-{version}.zip")
draft = archive.with_suffix(f".{os.getpid()}")


def belongs(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return path.is_file() and not hidden


archive.parent.mkdir(exist_ok=True)
with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as zipped:
    for path in sorted(filter(belongs, (library / "scrollpast").rglob("*")), key=lambda path: path.as_posix()):
        entry = zipfile.ZipInfo(path.relative_to(library).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o100644 << 16
        zipped.writestr(entry, path.read_bytes())
os.replace(draft, archive)
print(archive.resolve())
PYTHON
