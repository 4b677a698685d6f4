"""The options of neighbours: which of the ads nearest to a user become negatives."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scrollpast.config.base_model import Section


class Neighbours(Section):
    """How ``jobs/mine_neighbours.py`` chooses."""

    seed: int = Field(20_251_121, ge=0, lt=2**63)
    """Of the draw among the ads that qualify, and of ``--sample``."""
    first_rank: int = Field(101, ge=1)
    """Nearest ad that is looked at, 1 = the nearest of all. Of those before it, too many are wanted: ranks 101 to
    500 served best at Facebook (KDD 2020, arXiv 2006.11632)."""
    last_rank: int = Field(500, ge=1, le=10_000)
    """Farthest ad that is looked at."""
    relative_margin: float = Field(0.05, ge=0, lt=1)
    """An ad that scores more than a positive's score less this share of it is taken for a false negative
    (NV-Retriever, arXiv 2407.15831). Of a score s below 0 the bound is s − share · |s|, so below it as well."""
    margin_from: Literal["lowest", "mean", "highest"] = "lowest"
    """Which score stands for several positives of a user. Below the lowest, a neighbour keeps the margin to
    whichever of them it is contrasted with."""
    exact_up_to: int = Field(50_000, ge=0)
    """Ads up to which every one is compared with every user; above, the index is searched as widely as a sample of
    users needs."""
    negatives_per_user: int = Field(16, ge=1, le=1024)
    """Most neighbours of one user's record; the trainer draws from them for every anchor."""

    @model_validator(mode="after")
    def _some_rank(self) -> Neighbours:
        if self.first_rank > self.last_rank:
            raise ValueError(f"must have first_rank <= last_rank, got {self.first_rank} and {self.last_rank}")
        return self
