"""Command line of the examination job."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

import numpy as np

from scrollpast.config import load_config
from scrollpast.errors import UserError
from scrollpast.mining.examination.estimates import Estimate, SurfaceEstimate, estimate_surface
from scrollpast.mining.io.arguments import parse_days, with_paths
from scrollpast.mining.rules.rules import Window
from scrollpast.mining.spark.run_metrics import watch
from scrollpast.mining.spark.session import session_when_needed
from scrollpast.shards import filesystem

if TYPE_CHECKING:
    pass
from scrollpast.mining.examination.estimation import count_examination
from scrollpast.mining.examination.publication import publish

_SHOWN_POSITIONS = (0, 1, 2, 4, 9, 19, 29, 49, 99)


def estimate(arguments: argparse.Namespace) -> int:
    """Run the job with the given arguments and print the estimates; returns the exit code."""
    last_day, as_of = parse_days(arguments)
    window = Window.of_days(last_day, arguments.days, as_of)
    config = with_paths(load_config(arguments.config, arguments.set), arguments)
    if config.output.path is None:
        raise UserError("--out", expected="a folder", found="none", remedy="pass --out or set output.path")
    with (
        watch(config.metrics, "estimate_examination"),
        session_when_needed(config.spark, "scrollpast examination", debug=arguments.debug) as get_spark,
    ):
        counts = count_examination(config, window, get_spark)
    surfaces = [estimate_surface(surface, found, config.examination) for surface, found in counts.items()]
    folder = filesystem.join(config.output.path, "examination", f"ds={last_day.isoformat()}")
    uri = publish(surfaces, config, window, last_day, folder)
    print(summary(surfaces))
    if uri is None:
        print("no surface could be estimated: no table was written, and every position counts as looked at")
    else:
        option = shlex.quote(f"mining.examined.table={uri}")
        print(f"published {uri}; mine with --set {option}")
    return 0


def summary(surfaces: list[SurfaceEstimate]) -> str:
    """Summary of a run: the curves with their intervals, and the offered thresholds."""
    lines = []
    for found in surfaces:
        lines.append(f"{found.surface}: {found.num_impressions:,} impressions")
        for name, estimate in found.estimates.items():
            mark = f"  ← used: {found.why}" if name == found.chosen else ""
            lines.append(
                f"  {name:<12}{estimate.num_clicks:>11,} clicks, ± {estimate.relative_width:.1%} in the median{mark}"
            )
        lines += [f"  {name:<12}abstains: {reason}" for name, reason in found.abstained.items()]
        if found.chosen is not None:
            lines.append(_curve_in_words(found.estimates[found.chosen]))
        if found.dwell is not None:
            typical = ", ".join(
                f"{share:.0%} near {ms:,.0f} ms"
                for share, ms in zip(found.dwell.shares, found.dwell.typical_ms, strict=True)
            )
            offered = ", ".join(f"{name}: {value}" for name, value in found.thresholds_ms.items())
            lines.append(f"  dwell without a click: {typical}")
            lines.append(f"  offered, not imposed: mining.examined.surfaces.{found.surface}: {{{offered}}}")
        else:
            lines.append(
                "  dwell does not fall apart into seen and unseen: the first position counts as certain"
            )
        lines.append("")
    return "\n".join(lines)


def _curve_in_words(estimate: Estimate) -> str:
    shown = np.flatnonzero(np.isin(estimate.positions, _SHOWN_POSITIONS))
    cells = (
        f"{estimate.positions[at]}: {estimate.probability[at]:.3f} "
        f"[{estimate.low[at]:.3f}, {estimate.high[at]:.3f}]"
        for at in shown
    )
    return "  P(examined) at position " + ", ".join(cells)
