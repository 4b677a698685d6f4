"""File ``examination.json``: how probable it is that a position is examined, by surface and estimator."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from scrollpast.documents.document import Count, Document, Share


class EstimateDocument(Document):
    """P(examined | position) of one surface by one estimator, with its 95 % interval; lists of equal length."""

    estimator: str | None = None
    positions: list[int]
    probability: list[Share]
    low: list[Share]
    high: list[Share]
    num_clicks: Count | None = None
    level: str | None = None
    """Origin of the curve's factor: dwell, or the first position."""

    @model_validator(mode="after")
    def _equally_long(self) -> EstimateDocument:
        if len({len(self.positions), len(self.probability), len(self.low), len(self.high)}) > 1:
            raise ValueError("positions, probability, low and high must be equally long")
        return self


class DwellMixtureDocument(Document):
    """Components of log(1 + dwell in ms), from short to long; the shares add up to 1."""

    shares: list[Share]
    means: list[float]
    spreads: list[Annotated[float, Field(gt=0)]]


class DwellHistogram(Document):
    """Impressions of known dwell without a click; ``dwell_ms`` are the middles of bins of equal ratio."""

    dwell_ms: list[float]
    num_impressions: list[Annotated[float, Field(ge=0)]]

    @model_validator(mode="after")
    def _equally_long(self) -> DwellHistogram:
        if len(self.dwell_ms) != len(self.num_impressions):
            raise ValueError("dwell_ms and num_impressions must be equally long")
        return self


class Surface(Document):
    """Estimates of one surface."""

    num_impressions: Count
    chosen: str | None
    """Estimator to use; None where no estimator has an estimate."""
    why: str
    estimates: dict[str, EstimateDocument]
    """Estimates by estimator."""
    abstained: dict[str, str]
    """Reasons of missing estimates, by estimator."""
    dwell: DwellMixtureDocument | None
    dwell_histogram: DwellHistogram
    thresholds_ms: dict[str, int]
    """Offered values of ``mining.examined``, by option."""

    @model_validator(mode="after")
    def _chosen_is_there(self) -> Surface:
        if self.chosen is not None and self.chosen not in self.estimates:
            raise ValueError(f"chosen is {self.chosen}, which is none of the estimates")
        return self


class ExaminationDocument(Document):
    """Estimates of all surfaces of a window that ends with the day ``ds``."""

    schema_version: int = 1
    ds: str
    window: dict[str, int] = {}
    """``start_us``, ``end_us`` and ``as_of_us``."""
    options: dict[str, Any] = {}
    """Section ``examination`` of the configuration."""
    surfaces: dict[str, Surface]
