"""Pointer to the current model: ``current.json``, which is replaced atomically."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scrollpast.errors import ScrollpastError
from scrollpast.shards import filesystem as files

CURRENT_NAME = "current.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CurrentModel:
    """Current model. Serving reads ``checkpoint``, or exports it with jobs/export_towers.py."""

    checkpoint: str
    """Folder checkpoints/step=…"""
    trained_on: tuple[str, ...]
    """Folders of the days"""
    trained_until: str
    """End of the last window of the days, ISO 8601 in UTC; it orders models"""
    vocabulary: Mapping[str, Any]
    """``uri`` and ``version``"""
    evaluated_on: tuple[str, ...]
    """Folders of the later days on which the model was compared with its predecessor"""
    metrics: Mapping[str, Any]
    """By name: ``value``, ``low``, ``high``, and ``difference`` from the predecessor, if there was one"""
    replaced: str | None
    """Checkpoint of the predecessor: publishing it again with --force is a roll-back"""
    published_at: str

    @staticmethod
    def read(models: str) -> CurrentModel | None:
        """Read the current model of a folder of models; None where no model is published.

        Raises:
            ScrollpastError: the file is malformed.
        """
        place = files.join(models, CURRENT_NAME)
        filesystem, path = files.resolve(place)
        try:
            content = json.loads(files.read_all(filesystem, path).to_pybytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise _unreadable(place, "JSON", str(error)) from error
        version = content.pop("schema_version", None) if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise _unreadable(f"{place}, schema_version", str(SCHEMA_VERSION), str(version))
        names = {field.name for field in dataclasses.fields(CurrentModel)}
        if content.keys() != names or not isinstance(content["checkpoint"], str):
            raise _unreadable(place, f"the fields {', '.join(sorted(names))}", ", ".join(content) or "none")
        lists = {name: tuple(content[name]) for name in ("trained_on", "evaluated_on")}
        return CurrentModel(**{**content, **lists})

    def write(self, models: str) -> str:
        """Publish this model as the current model; returns the file's URI."""
        place = files.join(models, CURRENT_NAME)
        content = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        filesystem, path = files.resolve(place)
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        files.write_atomically(filesystem, path, text.encode())
        return place


def _unreadable(place: str, expected: str, found: str) -> ScrollpastError:
    return ScrollpastError(
        place,
        expected=expected,
        found=found,
        remedy="restore the file, or move it away: the next model is then published without a comparison",
    )
