"""The options of neighbours: which of the ads nearest to a user become negatives."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scrollpast.config.base_model import Section


class Neighbours(Section):
    """Nearest-neighbour negatives: ads that trained towers place near a user, mined by jobs/mine_neighbours.py."""

    seed: int = Field(20_251_121, ge=0, lt=2**63)
    """Seed of the draw among the ads that qualify, and of ``--sample``."""
    first_rank: int = Field(101, ge=1)
    """Rank of the nearest ad considered, 1 = the nearest of all. Many ads before it are wanted: ranks 101 to 500 served
    best at Facebook (KDD 2020, arXiv 2006.11632). A larger value gives easier negatives."""
    last_rank: int = Field(500, ge=1, le=10_000)
    """Rank of the farthest ad considered."""
    relative_margin: float = Field(0.05, ge=0, lt=1)
    """Share of the positive's score s: an ad that scores above s − share · |s| is taken for a false negative
    (NV-Retriever, arXiv 2407.15831). A larger value gives easier negatives."""
    margin_from: Literal["lowest", "mean", "highest"] = "lowest"
    """Score that stands for several positives of a user. With lowest, a neighbour keeps the margin to every positive
    that it is contrasted with."""
    exact_up_to: int = Field(50_000, ge=0)
    """Largest number of ads of which every one is compared with every user; above it the index is searched, as widely
    as a sample of users needs."""
    negatives_per_user: int = Field(16, ge=1, le=1024)
    """Most neighbours in one user's record; the trainer draws from them for every anchor."""

    @model_validator(mode="after")
    def _some_rank(self) -> Neighbours:
        if self.first_rank > self.last_rank:
            raise ValueError(f"must have first_rank <= last_rank, got {self.first_rank} and {self.last_rank}")
        return self
