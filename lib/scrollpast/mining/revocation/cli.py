"""Command line of the revocation job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scrollpast.config import load_config
from scrollpast.mining.io.arguments import parse_as_of, with_paths
from scrollpast.mining.spark.run_metrics import watch
from scrollpast.mining.spark.session import session_when_needed

if TYPE_CHECKING:
    pass
from scrollpast.mining.revocation.revoke import revoke_negatives


def revoke(arguments: argparse.Namespace) -> int:
    """Run the job with the given arguments and print the revoked negatives; returns the exit code."""
    config = with_paths(load_config(arguments.config, arguments.set), arguments)
    as_of = parse_as_of(arguments)
    with (
        watch(config.metrics, "revoke_negatives"),
        session_when_needed(config.spark, "scrollpast revocation", debug=arguments.debug) as get_spark,
    ):
        days = revoke_negatives(config, arguments.days, as_of, get_spark)
    for day in days:
        share = day.num_revoked / max(day.num_negatives, 1)
        reasons = ", ".join(f"{count:,} {kind}" for kind, count in day.reasons.items()) or "none"
        print(
            f"{day.uri}: {day.num_revoked:,} of {day.num_negatives:,} negatives revoked ({share:.3%}): {reasons}"
        )
        print(
            f"nothing new as of {day.as_of}: the negatives are unchanged"
            if not day.num_new
            else f"published, with {day.num_new:,} new revocations"
        )
    return 0
