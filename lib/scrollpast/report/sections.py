"""Parts of a report: sections of paragraphs, facts, tables, plots and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class ReportTable:
    """Table of text; the first cell of a row is its header.

    ``text_columns`` are the indices of columns of text; all other columns hold numbers, aligned to the right.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: frozenset[int] = frozenset()
    total: Sequence[str] | None = None
    """Last row with the totals"""


@dataclass(frozen=True)
class Plot:
    """Picture for wide and picture for narrow screens, a text alternative, and a table of the numbers."""

    kind: ClassVar[str] = "plot"
    title: str
    description: str
    wide: Markup
    narrow: Markup
    numbers: ReportTable


@dataclass(frozen=True)
class Paragraph:
    """Text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Tile:
    """One number with its label and note."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """Row of the main numbers."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Missing:
    """Reason for missing data, and the command that makes the data."""

    kind: ClassVar[str] = "missing"
    reason: str
    command: str
    purpose: str = "To have it"


Block = ReportTable | Plot | Paragraph | Tiles | Missing


@dataclass(frozen=True)
class ReportSection:
    """Heading and its blocks; ``name`` is the target of links."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """Report: title and sections."""

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    tiles: Tiles
    sections: Sequence[ReportSection]
