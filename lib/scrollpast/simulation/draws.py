"""Counter-based draws inside compiled loops: any process can generate a request again from its number.

The generator is SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA
2014): a mixing function of a counter. A stream is one uint64 in an array of length 1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)
_UNIT = 2.0**-53


@njit(cache=True)
def mix(x):  # type: ignore[no-untyped-def]
    """Mix the 64 bits of a uint64."""
    x = np.uint64(x)
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


@njit(cache=True)
def key_of(seed, a, b):  # type: ignore[no-untyped-def]
    """uint64 key of a seed and two whole numbers."""
    return mix(mix(mix(np.uint64(seed) + _GOLDEN) ^ np.uint64(a)) + _GOLDEN ^ np.uint64(b))


@njit(cache=True)
def unit_of(key):  # type: ignore[no-untyped-def]
    """Top 53 bits of a key as a float64 in [0, 1)."""
    return np.float64(key >> _S11) * _UNIT


@njit(cache=True)
def draw(stream):  # type: ignore[no-untyped-def]
    """Next float64 in [0, 1) of a stream."""
    stream[0] += _GOLDEN
    return unit_of(mix(stream[0]))


@njit(cache=True)
def draw_lognormal(stream, median, sigma):  # type: ignore[no-untyped-def]
    """Next lognormal value, by Box and Muller's transform."""
    radius = math.sqrt(-2.0 * math.log(1.0 - draw(stream)))
    return median * math.exp(sigma * radius * math.cos(2.0 * math.pi * draw(stream)))


@njit(cache=True)
def draw_log_uniform(stream, low, high):  # type: ignore[no-untyped-def]
    """Next value whose logarithm is uniform between two positive bounds."""
    return low * math.exp(draw(stream) * math.log(high / low))


@njit(cache=True)
def alias_table(weights):  # type: ignore[no-untyped-def]
    """Walker's alias table of weights float64 [N]: (keep float64 [N], other int64 [N]); Vose's O(N) build."""
    n = weights.size
    keep = weights * (n / weights.sum())
    other = np.arange(n)
    small = np.empty(n, np.int64)
    large = np.empty(n, np.int64)
    num_small = num_large = 0
    for i in range(n):
        if keep[i] < 1.0:
            small[num_small] = i
            num_small += 1
        else:
            large[num_large] = i
            num_large += 1
    while num_small > 0 and num_large > 0:
        num_small -= 1
        poor, rich = small[num_small], large[num_large - 1]
        other[poor] = rich
        keep[rich] -= 1.0 - keep[poor]
        if keep[rich] < 1.0:
            num_large -= 1
            small[num_small] = rich
            num_small += 1
    for i in range(num_small):  # rounding left these slightly below 1
        keep[small[i]] = 1.0
    return keep, other


@njit(cache=True)
def pick(keep, other, unit):  # type: ignore[no-untyped-def]
    """Index drawn from an alias table by one unit draw: its whole part names a slot, its rest decides."""
    scaled = unit * keep.size
    slot = int(scaled)
    return slot if scaled - slot < keep[slot] else other[slot]
