"""Options of the gate: fixed limits and bands of a day's metrics."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator
from pydantic.config import JsonDict

from scrollpast.config.base_model import Section

_OF_THE_REST = "of the impressions that no outcome before it took"

FIGURES = {
    "impressions": "impressions of the window",
    "recorded": "positives and negatives that the day's records hold",
    "engagement_rate": "positives, of all impressions that are not invalid",
    "invalid_share": "invalid impressions, of all",
    "unanchored_share": f"unanchored, {_OF_THE_REST}",
    "duplicate_share": f"duplicates, {_OF_THE_REST}",
    "bot_share": f"of bots, {_OF_THE_REST}",
    "positive_share": f"positives, {_OF_THE_REST}",
    "explicit_negative_share": f"hidden or reported, {_OF_THE_REST}",
    "engaged_elsewhere_share": f"engaged with at another time, {_OF_THE_REST}",
    "not_examined_share": f"not examined, {_OF_THE_REST}",
    "lingered_share": f"lingered on, {_OF_THE_REST}",
    "too_new_share": f"of ads in quarantine, {_OF_THE_REST}",
    "repeat_share": f"repeats, {_OF_THE_REST}",
    "over_cap_share": f"over a cap, {_OF_THE_REST}",
    "matched_share": "engagements of positive kinds in the window whose impression is there",
    "prompt_share": "attributed positive engagements that came within a quarter of an hour",
    "false_negative_rate": "would-be negatives that only the outer halves of the guard windows took: about as many "
    "as windows twice as long would still take",
    "hardness": "pairs of a negative and a positive of one surface in which the negative stood higher; 0.5 = the "
    "ranker could not tell them apart",
    "new_ad_share": "positives and negatives whose ad is new",
    "unknown_ad_share": "positives and negatives whose ad the table of ads does not hold",
    "seen_before_share": "impressions that one of the trailing days had already",
}
"""Day metrics and their descriptions."""


class Bounds(Section):
    """Fixed limits of a day metric."""

    low: float | None = None
    """Smallest value that passes; null = no limit."""
    high: float | None = None
    """Largest value that passes; null = no limit."""

    @model_validator(mode="after")
    def _in_order(self) -> Bounds:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"must have low <= high, got {self.low} and {self.high}")
        return self


DEFAULT_BOUNDS = {
    "recorded": Bounds(low=1),
    "engagement_rate": Bounds(low=0.00001, high=0.9),
    "invalid_share": Bounds(high=0.2),
    "duplicate_share": Bounds(high=0.3),
    "bot_share": Bounds(high=0.5),
    "matched_share": Bounds(low=0.1),
    "false_negative_rate": Bounds(high=0.2),
    "unknown_ad_share": Bounds(high=0.5),
    "seen_before_share": Bounds(high=0.1),
}

Deviation = Annotated[float, Field(ge=0)]

_BY_FIGURE: JsonDict = {"propertyNames": {"enum": [*FIGURES]}}
"""Names that a map of metrics may hold, for the schema and conf/base.yaml."""


class GateOptions(Section):
    """A day whose metrics leave their bands or bounds is kept as ``held/ds=…`` instead of published (exit code 3). The
    metrics are in the manifest under ``health``. They are compared with those of the trailing days: published days
    before it that were mined with the same options, about as long after their end.
    """

    enabled: bool = True
    """Hold days; false writes the metrics and publishes every day."""
    trailing_days: int = Field(28, ge=1, le=3650)
    """Days (windows, where several days are mined as one) before a day among which its trailing days are looked for."""
    min_trailing_days: int = Field(7, ge=2)
    """Fewest comparable trailing days that make a band; with fewer, only the bounds are checked, and a note says so."""
    max_lag_difference_h: float = Field(6.0, ge=0)
    """Hours by which comparable days may differ in how long after their end they were mined. Beyond the longest reach
    of an engagement (attribution, guard) all lags count as the same."""
    deviations: float = Field(5.0, gt=0)
    """Half the width of a band around the median of the trailing days, in robust standard deviations. A larger value
    holds fewer days."""
    least_deviation: float = Field(0.05, ge=0)
    """Smallest standard deviation from day to day that a band assumes, in logits (logarithms of odds): 0.05 is about
    one twentieth of a small share. A larger value holds fewer days."""
    least_deviations: dict[str, Deviation] = Field({"impressions": 0.1}, json_schema_extra=_BY_FIGURE)
    """Smallest standard deviations of single metrics, in place of ``least_deviation``; that of impressions is in
    logarithms."""
    least_difference: float = Field(0.01, ge=0, lt=1)
    """Difference from the median that a share may always have; not used for engagement_rate, which is small by nature.
    """
    min_cases: int = Field(100, ge=1)
    """Fewest cases of a share that is judged."""
    bounds: dict[str, Bounds] = Field(DEFAULT_BOUNDS, json_schema_extra=_BY_FIGURE)
    """Fixed limits of single metrics, checked without trailing days as well. A metric named in a file changes the
    default bounds of that name or adds some; null removes them. The lower limit of engagement_rate is not used where
    ``mining.require_engagements`` is false."""

    @field_validator("bounds", mode="before")
    @classmethod
    def _over_the_default_bounds(cls, bounds: Any) -> Any:
        """Merge the named limits over the default limits; ``null`` removes a metric's limits."""
        if not isinstance(bounds, dict):
            return bounds
        merged: dict[str, Any] = {name: default.model_dump() for name, default in DEFAULT_BOUNDS.items()}
        for name, own in bounds.items():
            merged[name] = {**merged.get(name, {}), **own} if isinstance(own, dict) else own
        return {name: own for name, own in merged.items() if own is not None}

    @model_validator(mode="after")
    def _known_figures(self) -> GateOptions:
        unknown = sorted({*self.bounds, *self.least_deviations} - FIGURES.keys())
        if unknown:
            raise ValueError(f"must name figures ({', '.join(FIGURES)}), got {', '.join(unknown)}")
        return self
