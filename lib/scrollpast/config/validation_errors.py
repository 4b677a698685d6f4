"""Messages of configuration errors: the option, what was expected, what was found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from scrollpast.config.base_model import Section
from scrollpast.config.options import Config
from scrollpast.errors import UserError

Options = TypeVar("Options", bound=BaseModel)

_RENAMED = {
    "unanchored": "users_without_positive",
    "lingering_rules_out": "long_dwell_excludes",
    "watching": "metrics",
    "optimisers": "optimizer",
    "is_shuffled": "shuffle",
    "is_compiled": "compile",
    "is_asynchronous": "asynchronous",
    "is_known_masked": "mask_known_positives",
    "is_drawn_by_weight": "sample_by_weight",
}
"""Old names of options, with the names that they have now"""


def options_of(model: type[Options], values: Mapping[str, Any], place: str) -> Options:
    """Options of a registered part, which the models of the configuration do not name.

    Args:
        place: dotted option that holds the values.

    Raises:
        UserError: an unknown option, or a value that does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, place, set(), root=model) from None


def explain(
    error: ValidationError, origin: str, from_command_line: set[str], root: type[BaseModel] = Config
) -> UserError:
    """The first mistake of a configuration.

    Args:
        origin: what the options were read from.
        from_command_line: dotted names of the options that ``--set`` gave.
        root: model that was validated.
    """
    problem = error.errors(include_url=False)[0]
    location = [str(part) for part in problem["loc"]]
    dotted = ".".join(location) or "the configuration"
    place = f"{dotted} ({'--set' if _is_from(from_command_line, problem) else origin})"
    if problem["type"] == "extra_forbidden":
        known = _options_beside(location, root)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.0)
        remedy = f"did you mean {near[0]}?" if near else "remove it"
        if (renamed := _RENAMED.get(location[-1])) in known:
            remedy = f"it is called {renamed} now"
        return UserError(
            place,
            expected=f"one of {', '.join(known)}",
            found=f"unknown option {location[-1]!r}",
            remedy=remedy,
        )
    expected, found = _expectation(problem, location, root), _finding(problem)
    if problem["type"] == "value_error":
        expected, _, found = str(problem["ctx"]["error"]).removeprefix("must ").rpartition(", got ")
        expected = f"it to {expected}"
    return UserError(place, expected=expected, found=found, remedy="see conf/base.yaml for every option")


def _is_from(from_command_line: set[str], problem: Mapping[str, Any]) -> bool:
    """True if an override names the option, a part of it, or its section."""
    parts = [str(part) for part in problem["loc"]]
    # What is missing is named by nobody: the section that lacks it was.
    dotted = ".".join(parts[:-1] if problem["type"] == "missing" else parts)
    return any(
        f"{dotted}.".startswith(f"{name}.") or name.startswith(f"{dotted}.") for name in from_command_line
    )


def _finding(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "missing":
        return "none"
    return (
        "a section of options" if isinstance(problem["input"], (dict, BaseModel)) else repr(problem["input"])
    )


def _section_at(location: list[str], root: type[BaseModel]) -> type[Section] | None:
    """The section that the last part of a location stands in."""
    section: Any = root
    for part in location[:-1]:
        if hasattr(section, "model_fields"):
            if part not in section.model_fields:
                return None
            section = section.model_fields[part].annotation
        else:
            # dict[str, Section]: this part of the location is a name that the user chose.
            section = section.__args__[1]
    return section if isinstance(section, type) and issubclass(section, Section) else None


def _options_beside(location: list[str], root: type[BaseModel]) -> list[str]:
    section = _section_at(location, root)
    return sorted(section.model_fields) if section else []


_TYPES = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("dict_type", "model_type"), "a section of options"),
    "string_type": "a text",
    "list_type": "a list, such as [country]",
}
"""Plain names of the types in pydantic's messages."""


def _expectation(problem: Mapping[str, Any], location: list[str], root: type[BaseModel]) -> str:
    if problem["type"] == "missing":
        return "a value: it has no default"
    if problem["type"] in _TYPES:
        return _TYPES[problem["type"]]
    message = str(problem["msg"]).removeprefix("Input should be ")
    if problem["type"] not in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return message
    bounds = {
        name: value for item in _constraints(location, root) for name, value in _bounds_of(item).items()
    }
    low = f"[{bounds['ge']}" if "ge" in bounds else f"({bounds.get('gt', '-inf')}"
    high = f"{bounds['le']}]" if "le" in bounds else f"{bounds.get('lt', 'inf')})"
    return f"a value in {low}, {high}"


def _constraints(location: list[str], root: type[BaseModel]) -> Iterable[Any]:
    """Constraint of the value at a location: an option, or one value of an option's list or map."""
    section = _section_at(location, root)
    if section:
        return section.model_fields[location[-1]].metadata
    around = _section_at(location[:-1], root)
    kinds = get_args(around.model_fields[location[-2]].annotation) if around else ()
    return [item for kind in kinds for field in getattr(kind, "__metadata__", ()) for item in field.metadata]


def _bounds_of(constraint: Any) -> dict[str, Any]:
    return {name: getattr(constraint, name) for name in ("ge", "gt", "le", "lt") if hasattr(constraint, name)}
