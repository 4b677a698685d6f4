"""Parts of a report: sections of paragraphs, facts, tables, plots and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class ReportTable:
    """Text by rows and columns; the first cell of a row is its header.

    ``text_columns`` are the places of columns that hold words; the others' numbers are aligned to the right.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: frozenset[int] = frozenset()
    total: Sequence[str] | None = None
    """A last row that sums up the others"""


@dataclass(frozen=True)
class Plot:
    """A picture for wide and one for narrow screens, its words for those who do not see it, and its numbers."""

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
    """One number with what it says."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """Numbers that matter most."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Missing:
    """Why there is nothing to show, and the command that makes it."""

    kind: ClassVar[str] = "missing"
    reason: str
    command: str
    purpose: str = "To have it"


Block = ReportTable | Plot | Paragraph | Tiles | Missing


@dataclass(frozen=True)
class ReportSection:
    """One heading and what stands below it; ``name`` is what links lead to."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    tiles: Tiles
    sections: Sequence[ReportSection]
