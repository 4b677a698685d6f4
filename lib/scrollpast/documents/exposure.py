"""File ``exposure/part-….json`` of a day: how its negatives are distributed over ads."""

from __future__ import annotations

from pydantic import model_validator

from scrollpast.documents.document import Count, Document, Share


class Lorenz(Document):
    """Lorenz curve: the share ``ads`` of the ads with the fewest negatives has the share ``negatives`` of them."""

    ads: list[Share]
    negatives: list[Share]

    @model_validator(mode="after")
    def _equally_long(self) -> Lorenz:
        if len(self.ads) != len(self.negatives):
            raise ValueError("ads and negatives must be equally long")
        return self


class Slice(Document):
    """Some of the ads."""

    num_ads: Count
    num_negatives: Count
    num_positives: Count
    share_of_ads_with_negatives: Share | None
    """None where there are no ads."""


class ExposureDocument(Document):
    """Exposure of a day; what has no negatives to be computed from is None."""

    schema_version: int = 1
    catalogue: str
    """``ads``: the table of ads and further ads of the records; ``records``: ads of the records alone."""
    num_ads: Count
    num_negatives: Count
    num_positives: Count
    share_of_ads_with_negatives: Share | None
    gini: float | None
    top_1_percent_share: Share | None
    """Share of the negatives on the hundredth of the ads that has most."""
    lorenz: Lorenz | None
    slices: dict[str, Slice]
