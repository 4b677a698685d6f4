"""Folder of a published log: its files by pattern, and an account of read and unread files and columns."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa

from scrollpast.importing.files import column_names, find_files, find_optional, read_batches

UNKNOWN = "not known to this importer"
_SHOWN_FILES = 20


class LogSource:
    """Reader of the files of a folder that records the columns it read.

    Args:
        folder: the log as published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._columns: dict[Path, tuple[list[str], set[str]]] = {}

    def find(self, patterns: Iterable[str], what: str) -> list[Path]:
        """Files that match any of the patterns; see `find_files`.

        Raises:
            UserError: the folder does not exist, or no file matches.
        """
        return find_files(self.folder, patterns, what)

    def find_optional(self, patterns: Iterable[str]) -> Path | None:
        """First matching file, or None."""
        return find_optional(self.folder, patterns)

    def read(
        self, path: Path, columns: Mapping[str, pa.DataType], optional: Iterable[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Read columns of a file in batches; see `read_batches`.

        Raises:
            UserError: a column is missing, a value does not fit its type, or the file is not a Parquet or CSV file.
        """
        yield from read_batches(path, columns, optional)
        self.was_read(path, column_names(path), columns)

    def was_read(self, path: Path, present: Iterable[str], read: Iterable[str]) -> None:
        """Record the columns of a file, and the columns that the import read."""
        self._columns[path.resolve()] = (list(present), set(read))

    def unused(
        self, files: Mapping[str, str], columns: Mapping[str, str], out: Path
    ) -> list[tuple[str, str]]:
        """Unread files of the folder, and unread columns of read files, each with the reason.

        Args:
            files: reasons by pattern of the file's name.
            columns: reasons by pattern of the column's name.
            out: folder that the import writes to, which is no part of the log.
        """
        own = out.resolve()
        left = [
            path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.resolve() not in self._columns and own not in path.resolve().parents
        ]
        named = [path for path in left if not self._is_hidden(path)]
        found = [(self._name(path), _reason(path.name, files)) for path in named[:_SHOWN_FILES]]
        if len(named) > _SHOWN_FILES:
            more = f"{len(named) - _SHOWN_FILES:,} more files"
            found.append((more, f"the first {_SHOWN_FILES} by name are listed"))
        if hidden := len(left) - len(named):
            found.append((f"{hidden:,} hidden files", "a name that begins with a dot is no part of a log"))
        for path, (present, read) in self._columns.items():
            by_reason = defaultdict(list)
            for name in present:
                if name not in read:
                    by_reason[_reason(name, columns)].append(name)
            found += [
                (f"{self._name(path)}: {', '.join(names)}", reason) for reason, names in by_reason.items()
            ]
        return found

    def _name(self, path: Path) -> str:
        """Path relative to the log's folder, ``train/behaviors.parquet`` or ``../articles.parquet``."""
        return Path(os.path.relpath(path.resolve(), self.folder.resolve())).as_posix()

    def _is_hidden(self, path: Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(self.folder).parts)


def _reason(name: str, reasons: Mapping[str, str]) -> str:
    """Reason of the first pattern that the name matches."""
    return next((reason for pattern, reason in reasons.items() if fnmatch(name, pattern)), UNKNOWN)
