"""Folder of a published log: its files by pattern, and an account of what an import read of it and what it did not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa

from scrollpast.importing.files import column_names, find_files, find_optional, read_batches

UNKNOWN = "not known to this importer"
_FILES_AT_MOST = 1000
_SHOWN_FILES = 20


class LogSource:
    """Reads files of a folder and keeps in mind which of their columns were read.

    Args:
        folder: the log as it was published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._columns: dict[Path, tuple[list[str], set[str]]] = {}

    def find(self, patterns: Iterable[str], what: str) -> list[Path]:
        """Files that match any of the patterns; see `find_files`.

        Raises:
            UserError: no such folder, or no file matches.
        """
        return find_files(self.folder, patterns, what)

    def find_optional(self, patterns: Iterable[str]) -> Path | None:
        """The first file that matches, or None."""
        return find_optional(self.folder, patterns)

    def read(
        self, path: Path, columns: Mapping[str, pa.DataType], optional: Iterable[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Batches of some columns of a file; see `read_batches`.

        Raises:
            UserError: a column is missing, a value does not fit its type, the file is no Parquet or CSV file.
        """
        yield from read_batches(path, columns, optional)
        self.was_read(path, column_names(path), columns)

    def was_read(self, path: Path, present: Iterable[str], read: Iterable[str]) -> None:
        """Record the columns of a file, and those of them that the import read."""
        self._columns[path.resolve()] = (list(present), set(read))

    def unused(
        self, files: Mapping[str, str], columns: Mapping[str, str], out: Path
    ) -> list[tuple[str, str]]:
        """Files of the folder and columns of the files that were not read, each with the reason.

        Args:
            files: reasons by pattern of the file's name.
            columns: reasons by name of the column.
            out: folder that the import writes to; it is no part of the log.
        """
        found = []
        for path in self._listed(out):
            if path.resolve() not in self._columns:
                name = path.relative_to(self.folder).as_posix()
                reasons = [reason for pattern, reason in files.items() if fnmatch(path.name, pattern)]
                found.append((name, reasons[0] if reasons else UNKNOWN))
        if len(found) > _SHOWN_FILES:
            found = [*found[:_SHOWN_FILES], (f"{len(found) - _SHOWN_FILES:,} more files", "see above")]
        for path, (present, read) in self._columns.items():
            by_reason = defaultdict(list)
            for name in present:
                if name not in read:
                    by_reason[columns.get(name, UNKNOWN)].append(name)
            found += [(f"{path.name}: {', '.join(names)}", reason) for reason, names in by_reason.items()]
        return found

    def _listed(self, out: Path) -> list[Path]:
        own = out.resolve()
        paths = []
        for path in sorted(self.folder.rglob("*")):
            is_hidden = any(part.startswith(".") for part in path.relative_to(self.folder).parts)
            if path.is_file() and not is_hidden and own not in path.resolve().parents:
                paths.append(path)
            if len(paths) == _FILES_AT_MOST:
                break
        return paths
