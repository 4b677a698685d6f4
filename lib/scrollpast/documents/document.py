"""Base class of all documents, and their reading with errors that name the file and the field."""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scrollpast.errors import UserError
from scrollpast.shards import filesystem as files

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Document(BaseModel):
    """Fields of a JSON object. NaN and infinity are errors; fields of later versions are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Document)


def read_text(uri: str, remedy: str) -> str:
    """The text of a file.

    Raises:
        UserError: there is none, it cannot be read, or it is no UTF-8.
    """
    filesystem, path = files.resolve(uri)
    try:
        return files.read_all(filesystem, path).to_pybytes().decode()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        found = "no such file" if is_missing else str(error).splitlines()[0]
        raise UserError(uri, expected="a readable file", found=found, remedy=remedy) from error


def read_document(kind: type[Kind], uri: str, remedy: str) -> Kind:
    """A document of a kind.

    Raises:
        UserError: as `read_text`, or the content does not fit the kind.
    """
    try:
        content = json.loads(read_text(uri, remedy))
    except ValueError as error:
        raise UserError(uri, expected="JSON", found=str(error), remedy=remedy) from error
    return checked(kind, content, uri, remedy)


def checked(kind: type[Kind], content: object, place: str, remedy: str) -> Kind:
    """JSON values as a document.

    Raises:
        UserError: a field is missing or malformed; names the first one.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or kind.__name__.lower()
        raise UserError(
            f"{place}, {name}", expected=f"a document of {kind.__name__}", found=first["msg"], remedy=remedy
        ) from error
