"""Weights of negatives: the probability that an impression was seen and its ad not wanted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scrollpast.mining.rules.bucket import Mask
from scrollpast.mining.rules.rules import Rules, SurfaceTable
from scrollpast.mining.spark.packed_columns import Columns


def negative_weights(
    rows: Columns, clicked_below: Mask, surfaces: SurfaceTable, rules: Rules
) -> NDArray[np.float32]:
    """Certainty that an impression was seen and not wanted, float32 [N] in (0, 1]: P(seen) × P(not wanted | seen).

    P(seen | dwell) holds at a position with the surface's mean examination probability. Elsewhere its odds are
    multiplied by the odds of the position over the odds of the mean (Bayes): a short dwell at the end of a slate is
    less likely a look than at its top. Where the dwell is unknown, P(seen) is the position's probability. With a click
    further down the slate, P(seen) is 1.
    """
    position, surface, dwell_ms = rows["position"], rows["surface"], rows["dwell_ms"]
    deepest = surfaces.examination.shape[1] - 1
    mean = surfaces.mean_examination[surface]
    examined = np.where(position >= 0, surfaces.examination[surface, np.clip(position, 0, deepest)], mean)
    shift = _odds(examined) / _odds(mean)
    # The user scrolled as far as the click: positions above the click have at least the mean probability.
    examined = np.where(clicked_below, 1.0, examined)
    shift = np.where(clicked_below, np.maximum(shift, 1.0), shift)
    seen, not_wanted = dwell_confidence(dwell_ms, surface, surfaces, rules)
    weight = not_wanted * np.where(dwell_ms >= 0, seen * shift / (seen * shift + 1 - seen), examined)
    # A probability may be estimated as 0; a negative of weight 0 would have no effect in training.
    return np.maximum(weight, np.finfo(np.float32).tiny).astype(np.float32)


def _odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(bounded / (1 - bounded))


def dwell_confidence(
    dwell_ms: NDArray[np.int32], surface: NDArray[np.int16], surfaces: SurfaceTable, rules: Rules
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities by dwell: P(seen) and P(not wanted | seen), float64 [N] each, in (0, 1].

    The first rises from ``floor`` at the shortest dwell that counts as seen to 1 at ``full_from_ms`` (an impression
    is viewable after one continuous second: MRC guidelines). The second falls from 1 at ``full_to_ms`` to ``floor`` at
    the dwell where lingering begins. For an unknown dwell the first is 1 and the second ``unknown``.
    """
    shape = rules.confidence
    dwell = dwell_ms.astype(np.float64)
    low = np.minimum(surfaces.min_dwell_ms, shape.full_from_ms)[surface]
    high = np.maximum(surfaces.max_dwell_ms, shape.full_to_ms)[surface]
    rise = np.clip((dwell - low) / np.maximum(shape.full_from_ms - low, 1), 0.0, 1.0)
    fall = np.clip((high - dwell) / np.maximum(high - shape.full_to_ms, 1), 0.0, 1.0)
    is_known = dwell_ms >= 0
    seen, not_wanted = (shape.floor + (1 - shape.floor) * part for part in (rise, fall))
    return np.where(is_known, seen, 1.0), np.where(is_known, not_wanted, shape.unknown)
