"""Command line of the export job."""

from __future__ import annotations

import argparse

from scrollpast.training.engine.checkpoint import (
    chosen_checkpoint,
    vocabulary_of,
)
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.export.towers import BuildIndex, _check_free, write_export


def export_checkpoint(arguments: argparse.Namespace, build_index: BuildIndex) -> int:
    """Export with the given arguments and print a summary; returns the exit code."""
    if not arguments.debug:
        silence_libraries()
    _check_free(arguments.out, is_overwriting=arguments.overwrite)
    checkpoint = chosen_checkpoint(arguments.checkpoint, arguments.metric)
    vocabulary = vocabulary_of(checkpoint, arguments.vocabulary)
    about = write_export(checkpoint, vocabulary, arguments.out, build_index, index_kind=arguments.index)
    print(
        f"exported {checkpoint.uri} to {arguments.out}: {about['num_ads']:,} ads, "
        f"{about['num_user_rows']:,} rows of users, {about['output_dim']} dimensions"
    )
    return 0
