"""Command line of the vocabulary job."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from scrollpast.config import InputTable, load_config
from scrollpast.errors import UserError
from scrollpast.mining.spark.run_metrics import watch
from scrollpast.mining.spark.session import session_when_needed
from scrollpast.shards.constant_features import constant_feature_notes
from scrollpast.shards.manifest import Manifest, read_manifest
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.shards.vocabulary_of_days import name_vocabulary

if TYPE_CHECKING:
    pass
from scrollpast.mining.vocabulary.build import build_vocabulary


def build(arguments: argparse.Namespace) -> int:
    """Run the job with the given arguments and print a summary of the vocabulary; returns the exit code."""
    config = load_config(arguments.config, arguments.set)
    out = arguments.out or config.output.path
    if out is None:
        raise UserError("--out", expected="a folder", found="none", remedy="pass --out or set output.path")
    ads = config.input.ads if arguments.ads is None else InputTable(path=arguments.ads)
    days = [read_manifest(uri) for uri in arguments.days]
    with (
        watch(config.metrics, "build_vocabulary"),
        session_when_needed(config.spark, "scrollpast vocabulary", debug=arguments.debug) as get_spark,
    ):
        vocabulary = build_vocabulary(
            config,
            arguments.days,
            ads,
            get_spark,
            features=arguments.feature,
            num_user_rows=arguments.num_user_rows,
            max_codes=arguments.max_codes,
            parent=Vocabulary.read(arguments.parent) if arguments.parent else None,
        )
    uri = vocabulary.write(out)
    num_named = sum(name_vocabulary(*day, uri) for day in zip(arguments.days, days, strict=True))
    features = ", ".join(f"{name} ({count:,})" for name, count in vocabulary.features.items()) or "none"
    num_seen = int(np.count_nonzero(vocabulary.counts))
    for note in constant_feature_notes(vocabulary, ads.path or ads.table or "none"):
        print(note)
    print(
        f"{vocabulary.num_rows - 1:,} ads, {num_seen:,} of them with positives in {days_of(days)}; "
        f"{vocabulary.num_user_rows:,} rows of users; "
        f"codes of features: {features}\n"
        f"named in the manifests of the days, newly in {num_named} of them\n"
        f"published {uri}"
    )
    return 0


def days_of(manifests: Sequence[Manifest]) -> str:
    """Text with the number of days that the windows of data sets cover."""
    covered: set[date] = set()
    for manifest in manifests:
        start, end = (datetime.fromisoformat(text) for text in (manifest.window_start, manifest.window_end))
        # Some manifests end a window with its last second, other manifests with the moment after it.
        num_days = max(1, round((end - start) / timedelta(days=1)))
        covered.update(start.date() + timedelta(days=number) for number in range(num_days))
    return f"{len(covered):,} day{'s' if len(covered) != 1 else ''}"
