"""From counts to an estimate of a surface: which estimators can be identified, and which is used."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scrollpast.config import ExaminationOptions
from scrollpast.mining.examination.counts import SurfaceCounts
from scrollpast.mining.examination.dwell import NUM_BINS
from scrollpast.mining.examination.estimates import (
    FROM_DWELL,
    FROM_FIRST,
    HARVESTED,
    RANDOMISED,
    REGRESSED,
    SurfaceEstimate,
    estimate_surface,
)
from tests.mining.examination.test_dwell import SKIPPED, UNSEEN, histogram

THETA = 0.9 * np.exp(-np.arange(12) / 6)
GROUPS = 20
OPTIONS = ExaminationOptions(num_groups=GROUPS)


def counts_of(
    *, shown: int = 20_000, random: float = 0.0, harvested: float = 0.0, scored: float = 0.0
) -> SurfaceCounts:
    """Counts as the position-based model expects them; the shares say how much of the log each estimator sees."""
    positions = len(THETA)
    impressions = np.full((GROUPS, positions), float(shown))
    # Neighbouring groups differ by a tenth, or there would be no spread at all.
    keen = (1 + 0.1 * (-1.0) ** np.arange(GROUPS))[:, None]
    clicks = impressions * 0.05 * keen * THETA
    pairs = np.ones((positions, positions)) - np.eye(positions)
    weight = shown * harvested * pairs * np.ones((GROUPS, 1, 1))
    return SurfaceCounts(
        impressions=impressions,
        clicks=clicks,
        random_impressions=impressions * random,
        random_clicks=clicks * random,
        scored_impressions=impressions[:, None, :] * scored,
        scored_clicks=clicks[:, None, :] * scored,
        harvested=weight * 0.3 * (keen * THETA)[:, :, None],
        harvested_weight=weight,
        unclicked_dwell=np.zeros((GROUPS, NUM_BINS)),
    )


def estimate(counts: SurfaceCounts, **options: float) -> SurfaceEstimate:
    return estimate_surface("feed", counts, OPTIONS.model_copy(update=options))


def test_every_estimator_gives_the_curve_of_its_own_counts() -> None:
    found = estimate(counts_of(random=0.1, harvested=0.1, scored=0.5))
    assert set(found.estimates) == {RANDOMISED, HARVESTED, REGRESSED}
    for one in found.estimates.values():
        assert one.probability == pytest.approx(THETA / THETA[0], rel=0.05)


def test_the_one_that_assumes_least_is_used_where_it_is_precise() -> None:
    found = estimate(counts_of(random=0.1, harvested=0.1, scored=0.5), max_relative_width=1.0)
    assert (found.chosen, found.why) == (
        RANDOMISED,
        "fewest assumptions of the estimators that are precise enough",
    )


def test_the_most_precise_is_used_where_none_is_precise_enough() -> None:
    found = estimate(counts_of(random=0.1, harvested=0.1), max_relative_width=1e-9)
    best = min(found.estimates.values(), key=lambda one: one.relative_width)
    assert found.chosen == best.estimator
    assert found.why.startswith("the most precise")


def test_without_dwell_the_first_position_is_certain() -> None:
    one = estimate(counts_of(random=0.1)).estimates[RANDOMISED]
    assert one.level == FROM_FIRST
    assert (one.probability[0], one.low[0], one.high[0]) == (1.0, 1.0, 1.0)
    assert np.all(one.low[1:] < one.probability[1:])


def test_dwell_gives_the_level() -> None:
    """A share of the impressions was scrolled past unseen: what the curve has to be on average."""
    counts = counts_of(random=0.1)
    seen = float(THETA.mean())
    each = counts.impressions.sum(axis=1)[0]
    unclicked = each - counts.clicks.sum(axis=1)
    dwell = histogram((round(1e5 * (1 - seen)), UNSEEN), (round(1e5 * (seen - 0.05 * seen)), SKIPPED))
    counts = dataclasses.replace(counts, unclicked_dwell=dwell / dwell.sum() * unclicked[:, None])
    one = estimate(counts).estimates[RANDOMISED]
    assert one.level == FROM_DWELL
    assert one.probability == pytest.approx(THETA, rel=0.05)


def test_a_surface_with_one_position_abstains_and_says_why() -> None:
    everything = counts_of(random=0.1, harvested=0.1, scored=0.5)
    at_first = np.arange(len(THETA)) == 0
    cut = {name: values * at_first for name, values in vars(everything).items() if name != "unclicked_dwell"}
    found = estimate(dataclasses.replace(everything, **cut))
    assert (found.chosen, found.estimates) == (None, {})
    assert set(found.abstained.values()) == {"every impression of the surface has the same position"}


def test_ads_that_never_change_their_position_say_nothing() -> None:
    """No random slot, no ad met at two positions, no score."""
    found = estimate(counts_of())
    assert found.chosen is None
    assert found.abstained == {
        RANDOMISED: "no slot was filled at random (is_random)",
        HARVESTED: "no user clicked an ad that was shown to the user at two positions",
        REGRESSED: "no impression has a score (mining.score_column)",
    }


def test_few_clicks_are_told() -> None:
    found = estimate(counts_of(shown=10, random=0.1))
    assert "fewer than 50" in found.abstained[RANDOMISED]


def test_of_positions_that_cannot_be_compared_the_largest_set_is_estimated() -> None:
    counts = counts_of(harvested=0.1)
    apart = np.ones((len(THETA), len(THETA)))
    apart[:3, 3:] = apart[3:, :3] = 0
    cut = {name: getattr(counts, name) * apart for name in ("harvested", "harvested_weight")}
    assert estimate(dataclasses.replace(counts, **cut)).estimates[HARVESTED].positions.tolist() == list(
        range(3, 12)
    )
