"""Every option: its default, its unit and its bounds.

``conf/base.yaml`` lists all of it for people to read and is held equal to this module by a test.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from scrollpast.config.base_model import Section
from scrollpast.config.comparison_options import ComparisonOptions
from scrollpast.config.gate_options import GateOptions
from scrollpast.config.metrics_options import RunMetrics
from scrollpast.config.neighbour_options import Neighbours
from scrollpast.config.privacy_options import Privacy
from scrollpast.config.training_options import Training

SERVED_CODE = 0
"""Code of a served negative in ``negative_kind``; the kinds of engagements use the codes from 1 on."""
NEIGHBOUR_CODE = 100
"""Code of a nearest-neighbour negative, which has no impression behind it."""


def _as_text(value: Any) -> Any:
    """A number or a truth value of YAML as Spark writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


Settings = dict[str, Annotated[str, BeforeValidator(_as_text)]]
"""Settings that are handed on as they are; their names may hold dots."""


class InputTable(Section):
    """Where one input table is: a path with a format, or the name of a table in Spark's catalog."""

    path: str | None = None
    """Folder or file; local, s3://, gs://, hdfs://."""
    table: str | None = None
    """Name in Spark's catalog, instead of a path."""
    format: str = "parquet"
    """Format of the path, as Spark names it."""
    columns: str | None = None
    """Columns as in ``CREATE TABLE``, for formats that carry no types: ``user_id BIGINT, kind STRING, …``."""
    options: Settings = {}
    """Options of Spark's reader, for formats other than Parquet."""

    @model_validator(mode="after")
    def _one_place(self) -> InputTable:
        if self.path is not None and self.table is not None:
            raise ValueError("must name a path or a table, got both")
        return self


class Log(InputTable):
    """A table whose rows have a time."""

    day_column: str | None = None
    """Column, or name of folders, by which the log is kept by day: YYYY-MM-DD or YYYYMMDD. Only partitions that may
    hold the window are looked at."""
    day_slack: int = Field(1, ge=0, le=366)
    """Days by which a row's partition may differ from the day (UTC) of its time: late rows, other time zones."""


class Impressions(Log):
    """The table of impressions."""

    first_position: int = Field(0, ge=0, le=1)
    """Number that the log gives the first slot; positions are counted from 0 everywhere else."""
    dwell_unit: Literal["ms", "s"] = "ms"
    """Unit of ``dwell_ms`` in the log."""


class Input(Section):
    impressions: Impressions = Impressions()
    engagements: Log = Log()
    ads: InputTable = InputTable()
    """Needed only for ``mining.guard.keys``, ``mining.stratify_by`` and ``mining.exposure.new_ad_quarantine_h``; where
    it is given, new ads and those that it does not hold are counted apart."""
    null_ids: list[str] = [""]
    """Ids that stand for no id, such as "", "null", "None", "unknown", "-1", "0". Impressions with one are ``invalid``;
    engagements with one are ignored; a request id among them counts as not named."""


class Output(Section):
    path: str | None = None
    """Folder of the published days; local, s3://, gs://, hdfs://."""
    orphan_grace_h: float = Field(24.0, ge=0)
    """Hours that a file no manifest names is left alone, for readers that still hold the day before it."""


class Kind(Section):
    """One kind of engagement."""

    code: int = Field(ge=1, le=99)
    """Stored in ``positive_kind`` and ``negative_kind``; where kinds compete, the higher code wins."""
    role: Literal["positive", "explicit_negative"]
    """Role of the kind: its impression becomes a positive or an explicit negative."""
    attribution_h: float = Field(gt=0, le=24 * 90)
    """Hours after an impression within which an engagement of this kind is attributed to it."""
    weight: float = Field(1.0, gt=0, le=1)
    """``positive_weight`` of a positive of this kind."""


DEFAULT_KINDS = {
    "click": Kind(code=1, role="positive", attribution_h=24, weight=0.5),
    "long_click": Kind(code=2, role="positive", attribution_h=24, weight=0.8),
    "save": Kind(code=3, role="positive", attribution_h=24, weight=0.9),
    "conversion": Kind(code=4, role="positive", attribution_h=24, weight=1.0),
    "hide": Kind(code=11, role="explicit_negative", attribution_h=24),
    "report": Kind(code=12, role="explicit_negative", attribution_h=24),
}


class Guard(Section):
    """An ad that the user engaged with at another time is a false negative."""

    before_h: float = Field(168.0, ge=0, le=24 * 365)
    """Hours before an impression in which an engagement guards it."""
    after_h: float = Field(168.0, ge=0, le=24 * 365)
    """Hours after an impression in which an engagement guards it, as far as ``--as-of`` knows."""
    keys: list[str] = []
    """Columns of the ads table, such as advertiser_id: an engagement guards every ad with the same value."""


class Thresholds(Section):
    """When an ad counts as seen; on one surface, what is left out is taken from ``mining.examined``."""

    max_position: int | None = Field(None, ge=0)
    """Deepest position (0 = first slot) that counts as examined by itself."""
    min_dwell_ms: int | None = Field(None, ge=0)
    """Shorter dwell is scrolling past without looking."""
    max_dwell_ms: int | None = Field(None, ge=1)
    """Longer dwell is interest without a click: neither positive nor negative."""


class ExaminedOptions(Thresholds):
    max_position: int | None = Field(None, ge=0)
    min_dwell_ms: int | None = Field(250, ge=0)
    """About one fixation of the eye (225 ms reading, 330 ms in scenes: Rayner, Psychological Bulletin 1998)."""
    max_dwell_ms: int | None = Field(4000, ge=1)
    long_dwell_excludes: Literal["ad", "impression"] = "ad"
    """What a long dwell rules out: every impression of that ad to that user, or only the one."""
    unknown: Literal["keep", "drop"] = "keep"
    """What becomes of an impression whose position or dwell is unknown; ``drop`` makes it ``not_examined``."""
    surfaces: dict[str, Thresholds] = {}
    """Other thresholds for single surfaces."""
    table: str | None = None
    """Parquet of surface, position, probability (as ``estimate_examination`` writes it); without it, 1."""


class Confidence(Section):
    """How surely a dwell means 'looked at and not wanted': a ramp up, a plateau of 1, a ramp down."""

    floor: float = Field(0.25, gt=0, le=1)
    """Confidence at the two thresholds."""
    full_from_ms: int = Field(1000, ge=0)
    """From here on 1: the second that makes an impression viewable (MRC)."""
    full_to_ms: int = Field(2500, ge=0)
    """Up to here 1; beyond, longer dwell is more and more interest."""
    unknown: float = Field(0.5, gt=0, le=1)
    """Confidence where the dwell is unknown."""

    @model_validator(mode="after")
    def _in_order(self) -> Confidence:
        if self.full_from_ms > self.full_to_ms:
            raise ValueError(
                f"must have full_from_ms <= full_to_ms, got {self.full_from_ms} and {self.full_to_ms}"
            )
        return self


class ExposureOptions(Section):
    """What becomes of new ads, which few users have met, and what counts as one."""

    new_ad_h: float = Field(168.0, gt=0, le=24 * 365)
    """An ad created less than this before the days that are mined, or in them, is new: to the report of exposure
    and to the gate."""
    new_ad_quarantine_h: float | None = Field(None, ge=0, le=24 * 365)
    """An ad younger than this when it is served is no negative. Needs ``created_at`` in the table of ads."""


class Mining(Section):
    num_buckets: int = Field(64, ge=1, le=100_000)
    """Buckets of users; one shard file a bucket and day."""
    seed: int = Field(20_251_121, ge=0, lt=2**63)
    """Seed of every random choice."""
    users_without_positive: Literal["drop", "keep"] = "drop"
    """Users without a positive: counted where they are read, or mined all the same."""
    require_engagements: bool = True
    """Refuse a window without one positive engagement: a missing feed would make every positive a negative."""
    max_impressions_per_user_day: int = Field(2000, ge=1)
    """A user with more impressions on any day (UTC) is a bot."""
    kinds: dict[str, Kind] = DEFAULT_KINDS
    """Kinds of engagement; others in the log are counted and ignored."""
    clock_skew_s: float = Field(60.0, ge=0, le=3600)
    """Seconds by which an engagement may precede the impression that its request id names."""
    maturity_h: float | None = Field(None, ge=0)
    """Hours after which an impression's label is final; the longest attribution window if left out."""
    guard: Guard = Guard()
    examined: ExaminedOptions = ExaminedOptions()
    confidence: Confidence = Confidence()
    negatives_per_user: int = Field(64, ge=1, le=1024)
    """Most served negatives kept for one user; hides and reports are kept beside them."""
    strategy: str = "uniform"
    """Order in which negatives of a user above that are kept; `scrollpast.mining.rules.strategies` has the names."""
    stratify_by: str | None = None
    """Column of the ads table that ``stratified`` goes round, such as advertiser_id."""
    score_column: str | None = None
    """Column of impressions with the ranker's score; ``hardest`` prefers a higher one at equal weight."""
    max_ad_share: float = Field(0.05, gt=0, le=1)
    """Largest share of a data set's negatives, as they are written, that one ad may have; 1 = no limit."""
    exposure: ExposureOptions = ExposureOptions()
    user_features: list[str] = []
    """Columns of impressions that describe the user; the latest value is written as ``user_<name>``."""

    @field_validator("kinds", mode="before")
    @classmethod
    def _over_the_default_kinds(cls, kinds: Any) -> Any:
        """A kind that is named changes what it says of the default kind; ``null`` removes the kind."""
        if not isinstance(kinds, dict):
            return kinds
        merged: dict[str, Any] = {name: kind.model_dump() for name, kind in DEFAULT_KINDS.items()}
        for name, kind in kinds.items():
            merged[name] = {**merged.get(name, {}), **kind} if isinstance(kind, dict) else kind
        return {name: kind for name, kind in merged.items() if kind is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Mining:
        if self.strategy == "stratified" and self.stratify_by is None:
            raise ValueError(
                "must name stratify_by (a column of ads) for the strategy 'stratified', got null"
            )
        of_code: dict[int, str] = {}
        for name, kind in self.kinds.items():
            if kind.code in of_code:
                first = of_code[kind.code]
                raise ValueError(
                    f"must give every kind its own code, got {kind.code} for {first} and {name}; "
                    f"choose another code, or remove a kind that the log does not have with '{first}: null'"
                )
            of_code[kind.code] = name
        if not any(kind.role == "positive" for kind in self.kinds.values()):
            raise ValueError("must hold at least one kind with the role 'positive', got none")
        for place, limits in {"examined": self.examined, **self.examined.surfaces}.items():
            low = limits.min_dwell_ms if limits.min_dwell_ms is not None else self.examined.min_dwell_ms
            high = limits.max_dwell_ms if limits.max_dwell_ms is not None else self.examined.max_dwell_ms
            if low is not None and high is not None and low > high:
                raise ValueError(f"must have min_dwell_ms <= max_dwell_ms in {place}, got {low} and {high}")
        return self


class ExaminationOptions(Section):
    """What ``estimate_examination`` goes by; the labels are those of ``mining``."""

    num_groups: int = Field(50, ge=10, le=100_000)
    """Groups of users; how far they differ is what the intervals are made of."""
    num_positions: int = Field(100, ge=2, le=200)
    """Positions that are estimated, from the first; the last one stands for all below."""
    num_strata: int = Field(100, ge=2, le=1000)
    """Quantiles of ``mining.score_column`` within which impressions are alike for the regression."""
    min_clicks: int = Field(50, ge=1)
    """Clicks that compare positions, below which an estimator abstains."""
    max_relative_width: float = Field(0.2, gt=0)
    """Half of an interval's width over its probability, up to which an estimate is precise enough."""


class Revocation(Section):
    """When an engagement takes back a negative that was published before it was known."""

    after_h: float = Field(720.0, ge=0, le=24 * 365)
    """Hours after an impression in which an engagement with its ad revokes it; before, ``mining.guard.before_h``."""


class Spark(Section):
    master: str | None = None
    """Master of a session started by plain python; null = local with all cores and retries."""
    conf: Settings = {}
    """Any Spark setting; those of spark-submit win."""
    rows_per_task: int = Field(2_000_000, ge=1)
    """Input rows that one task reads, about."""
    num_partitions: int | None = Field(None, ge=1, le=1_000_000)
    """Partitions of the scan and of the shuffle; from the input's size and the buckets if left out."""


class Config(Section):
    input: Input = Input()
    output: Output = Output()
    mining: Mining = Mining()
    examination: ExaminationOptions = ExaminationOptions()
    revocation: Revocation = Revocation()
    gate: GateOptions = GateOptions()
    neighbours: Neighbours = Neighbours()
    spark: Spark = Spark()
    privacy: Privacy = Privacy()
    metrics: RunMetrics = RunMetrics()
    training: Training = Training()
    comparison: ComparisonOptions = ComparisonOptions()
