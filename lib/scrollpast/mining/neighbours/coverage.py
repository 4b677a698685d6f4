"""Choice of a search: exact in a small catalogue, else through as many lists of the index as a sample needs.

An index by inverted lists returns ads of the nearest lists only. Its ad at rank 101 is then not the ad of rank 101
in the catalogue, and ads of the wanted ranks are missing from the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrollpast.config import Neighbours
from scrollpast.mining.neighbours.retriever import Floats, Retriever

LEAST_COVERAGE = 0.95
"""Smallest share of the ads of the wanted ranks that have to be candidates."""
SAMPLE_USERS = 256


@dataclass(frozen=True)
class Search:
    """Search of an index: the lists that a query probes, and their coverage in a sample of users."""

    num_probes: int | None
    """Lists that a query probes; None = exact search over all ads."""
    coverage: float
    """Share of the ads of the wanted ranks that are candidates; 1 for an exact search."""
    num_users: int
    """Users of the sample; 0 for an exact search, which needs no sample."""

    @staticmethod
    def exact() -> Search:
        return Search(None, 1.0, 0)

    def __str__(self) -> str:
        if self.num_probes is None:
            return "every ad was compared with every user: all ads of these ranks are candidates"
        return (
            f"{self.num_probes:,} lists of the index were searched for a user: {self.coverage:.1%} of the ads of these "
            f"ranks are candidates, in a sample of {self.num_users:,} users"
        )


def is_exact(options: Neighbours, num_ads: int) -> bool:
    """True for a catalogue that is small enough for an exact search."""
    return num_ads <= options.exact_up_to


def choose_search(retriever: Retriever, user_UD: Floats, options: Neighbours) -> Search:
    """The smallest power of two of lists whose candidates hold `LEAST_COVERAGE` of the ads of the wanted ranks.

    An index below `LEAST_COVERAGE` with all of its lists, for example an index of quantised vectors, is not used.

    Args:
        user_UD: float32 [U, D], the sample.
    """
    if not retriever.num_lists or not len(user_UD):
        return Search.exact()

    def candidates(num_probes: int | None) -> NDArray[np.int64]:
        return retriever.search(user_UD, options.last_rank, num_probes)[:, options.first_rank - 1 :]

    wanted = candidates(None)
    num_probes = 1
    while True:
        num_probes = min(2 * num_probes, retriever.num_lists)
        covered = coverage(candidates(num_probes), wanted)
        if covered >= LEAST_COVERAGE:
            return Search(num_probes, covered, len(user_UD))
        if num_probes == retriever.num_lists:
            return Search.exact()


def coverage(found_UC: NDArray[np.int64], wanted_UC: NDArray[np.int64]) -> float:
    """Share of the wanted rows that were found; rows of 0 and below are no ads."""
    num_wanted = num_found = 0
    for found, wanted in zip(found_UC, wanted_UC, strict=True):
        wanted = wanted[wanted > 0]
        num_wanted += len(wanted)
        num_found += int(np.isin(wanted, found).sum())
    return num_found / num_wanted if num_wanted else 1.0
