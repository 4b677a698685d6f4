"""Load a configuration from a YAML file and ``--set`` texts, and check it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from scrollpast.config.base_model import Section
from scrollpast.config.options import Config, Settings
from scrollpast.config.validation_errors import explain
from scrollpast.errors import UserError


def load_config(path: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration.

    Args:
        path: YAML file with the options that differ from the defaults; ``None`` for the defaults.
        overrides: ``section.option=value`` texts, the value in YAML; they override the file.

    Raises:
        UserError: the file is unreadable or malformed, an option is unknown (names the nearest), or a value is out of
            bounds.
    """
    options: dict[str, Any] = {}
    origin = "the defaults"
    if path is not None:
        origin = str(path)
        options = _read_yaml(Path(path))
    from_command_line: set[str] = set()
    for override in overrides:
        dotted = _apply_override(options, override)
        from_command_line.add(dotted)
    try:
        return Config.model_validate(options)
    except ValidationError as error:
        raise explain(error, origin, from_command_line) from None


_FAULTS = (yaml.YAMLError, ValueError, RecursionError)
"""ValueError: bytes that are no text, a date in month 13, a number of 5,000 digits."""


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            str(path),
            expected="a readable YAML file",
            found=error.strerror or str(error),
            remedy="pass --config with the path of an existing file, such as conf/local.yaml",
        ) from None
    except _FAULTS as error:
        found = _first_fault(error)
        raise UserError(str(path), expected="YAML", found=found, remedy="mend the file there") from None
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise UserError(
            str(path),
            expected="sections such as 'mining:'",
            found=f"a {type(options).__name__}",
            remedy="start from conf/local.yaml",
        )
    return options


def _first_fault(error: Exception) -> str:
    """First fault of a YAML text with its place, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split())


def _apply_override(options: dict[str, Any], override: str) -> str:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise UserError(
            f"--set {override}",
            expected="section.option=value",
            found=repr(override),
            remedy="write for example --set mining.negatives_per_user=32",
        )
    try:
        value = yaml.safe_load(text)
    except _FAULTS as error:
        found = _first_fault(error)
        raise UserError(
            f"--set {override}", expected="a value in YAML", found=found, remedy="quote it"
        ) from None
    *sections, name = _option_path(dotted.strip())
    target = options
    for section in sections:
        inner = target.get(section)
        # No copy is needed: the options were read for this call only.
        target[section] = inner if isinstance(inner, dict) else {}
        target = target[section]
    target[name] = value
    return dotted.strip()


def _option_path(dotted: str) -> list[str]:
    """Split a dotted option into its parts; the name of a passed-through setting keeps its dots."""
    parts = dotted.split(".")
    section: Any = Config
    for depth, part in enumerate(parts[:-1], 1):
        field = section.model_fields.get(part)
        if field is not None and field.annotation == Settings:
            return [*parts[:depth], ".".join(parts[depth:])]
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        ):
            break
        section = field.annotation
    return parts
