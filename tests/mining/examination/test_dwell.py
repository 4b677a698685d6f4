"""The mixture behind dwell: seen and unseen, and the thresholds between."""

from __future__ import annotations

import numpy as np
import pytest

from scrollpast.mining.examination.dwell import BINS_PER_UNIT, NUM_BINS, Floats, fit_dwell

UNSEEN, SKIPPED, LINGERED = (150.0, 0.6), (1200.0, 0.5), (7000.0, 0.35)


def histogram(*parts: tuple[int, tuple[float, float]], seed: int = 0) -> Floats:
    """Counts of (number, (median ms, sigma)) of lognormal dwell, as they are counted in Spark."""
    random = np.random.Generator(np.random.Philox(seed))
    dwell_ms = np.concatenate([np.floor(random.lognormal(np.log(m), s, n)) for n, (m, s) in parts])
    bins = np.minimum(np.log1p(dwell_ms) * BINS_PER_UNIT, NUM_BINS - 1).astype(np.int64)
    return np.bincount(bins, minlength=NUM_BINS).astype(np.float64)


def test_three_kinds_of_dwell_are_told_apart() -> None:
    mixture = fit_dwell(histogram((60_000, UNSEEN), (35_000, SKIPPED), (5_000, LINGERED)))
    assert mixture is not None
    assert mixture.shares == pytest.approx([0.6, 0.35, 0.05], abs=0.01)
    assert mixture.typical_ms == pytest.approx([150, 1200, 7000], rel=0.1)
    skip, linger = mixture.thresholds_ms
    assert 400 < skip < 600
    assert 3000 < linger < 5000


@pytest.mark.parametrize("seed", range(5))
def test_what_was_seen_is_found_however_little_it_is(seed: int) -> None:
    """Most slots of a deep slate: the seen ones must not be taken for one wide component."""
    mixture = fit_dwell(histogram((60_000, UNSEEN), (11_000, SKIPPED), (2_500, LINGERED), seed=seed))
    assert mixture is not None
    assert mixture.shares == pytest.approx([0.816, 0.15, 0.034], abs=0.01)


def test_a_threshold_lies_where_both_sides_are_as_likely() -> None:
    """Equal shares and spreads: the geometric middle."""
    mixture = fit_dwell(histogram((50_000, (100.0, 0.5)), (50_000, (1600.0, 0.5))))
    assert mixture is not None
    assert mixture.thresholds_ms == [pytest.approx(400, rel=0.05)]


def test_one_kind_of_dwell_does_not_fall_apart() -> None:
    assert fit_dwell(histogram((100_000, SKIPPED))) is None


def test_kinds_that_overlap_are_not_told_apart() -> None:
    assert fit_dwell(histogram((50_000, (800.0, 0.6)), (50_000, (1200.0, 0.6)))) is None


def test_few_impressions_say_nothing() -> None:
    assert fit_dwell(histogram((40, UNSEEN), (40, SKIPPED))) is None


def test_the_shorter_a_dwell_the_surer_it_was_unseen() -> None:
    mixture = fit_dwell(histogram((50_000, UNSEEN), (50_000, SKIPPED)))
    assert mixture is not None
    unseen = mixture.unseen_given_bin()
    assert np.all(np.diff(unseen) <= 1e-9)
    assert (unseen[0], unseen[-1]) == (1.0, pytest.approx(0.0, abs=1e-6))
