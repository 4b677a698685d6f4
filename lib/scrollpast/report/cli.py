"""Command line of the report: reads days and results, and writes one HTML file."""

from __future__ import annotations

import argparse

from scrollpast.errors import UserError
from scrollpast.report.inputs import read_inputs
from scrollpast.report.page import compose, render
from scrollpast.shards import filesystem as files

_NAME = "report.html"


def write_report(arguments: argparse.Namespace) -> int:
    """Write the report and print its path; returns the exit code.

    Raises:
        UserError: an input is missing or malformed, or the report cannot be written.
    """
    inputs = read_inputs(
        arguments.days,
        arguments.run,
        arguments.comparison,
        arguments.examination,
        arguments.purity,
        arguments.floor,
    )
    page = compose(inputs)
    out = arguments.out or files.join(files.absolute(inputs.day.uri).rpartition("/")[0], _NAME)
    filesystem, path = files.resolve(out)
    try:
        files.write_atomically(filesystem, path, render(page).encode())
    except OSError as error:
        raise UserError(
            out,
            expected="a place to write the report to",
            found=str(error),
            remedy="pass --out with a file in a writable folder",
        ) from error
    print(f"{page.title}: {len(page.sections)} sections; wrote {out}")
    return 0
