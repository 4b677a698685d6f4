"""Blocks of a report's section, by kind."""

from __future__ import annotations

from collections.abc import Sequence

from scrollpast.report.sections import Paragraph, Plot, ReportSection, ReportTable


def table_of(section: ReportSection) -> ReportTable:
    (table,) = (block for block in section.blocks if isinstance(block, ReportTable))
    return table


def plots_of(section: ReportSection) -> list[Plot]:
    return [block for block in section.blocks if isinstance(block, Plot)]


def text_of(section: ReportSection) -> str:
    return " ".join(block.text for block in section.blocks if isinstance(block, Paragraph))


def row(table: ReportTable, first: str) -> Sequence[str]:
    return next(row for row in table.rows if row[0] == first)
