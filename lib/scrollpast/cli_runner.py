"""Common frame of every job's ``main``: errors become one message and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable

from scrollpast import publications
from scrollpast.errors import ScrollpastError


def run_job(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], int | None],
    *,
    publishes: bool = False,
) -> int:
    """Parse the command line, do the work, and return the exit code.

    Exit codes: 0 done, 1 a failure, 2 a mistake of the user's (input, configuration, command line),
    3 a day held back by the gate, 130 interrupted. A traceback is printed with ``--debug`` only.

    Args:
        publishes: the job publishes days; a message about a failure then says which ones it did publish.
    """
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    arguments = parser.parse_args()
    publications.begin()

    def with_publications(message: str) -> str:
        return f"{message}; {publications.summary()}" if publishes else message

    try:
        return work(arguments) or 0
    except ScrollpastError as error:
        message = with_publications(str(error)) if error.exit_code == 1 else str(error)
        return _fail(parser.prog, message, error.exit_code, arguments.debug)
    except KeyboardInterrupt:
        return _fail(parser.prog, with_publications("interrupted"), 130, arguments.debug)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last resort: whatever it is, one line unless asked for more
        message = f"{type(error).__name__}: {_first_line(error)}; run again with --debug for the traceback"
        return _fail(parser.prog, with_publications(message), 1, arguments.debug)


def _fail(program: str, message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"{program}: error: {message}", file=sys.stderr)
    return exit_code


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
