"""Every option: its default, its unit and its bounds.

``scripts/env/write_conf.py`` writes conf/base.yaml, conf/schema.json and the tables of conf/README.md from the options
and their docstrings.
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
    """Text of a YAML number or boolean in Spark's notation."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


Settings = dict[str, Annotated[str, BeforeValidator(_as_text)]]
"""Settings that are passed through unchanged; their names may hold dots."""


class InputTable(Section):
    """Place of one input table: a path with a format, or the name of a table in Spark's catalog."""

    path: str | None = None
    """Folder or file: local, s3://, gs://, hdfs://. Overridden by --impressions, --engagements, --ads or
    --users."""
    table: str | None = None
    """Name of a table in Spark's catalog, instead of a path."""
    format: str = "parquet"
    """Format of the path, as Spark names it: parquet, orc, csv, json, …"""
    columns: str | None = None
    """Columns and types as in ``CREATE TABLE``, such as ``user_id BIGINT, kind STRING``, for formats that carry none
    (csv, json)."""
    options: Settings = {}
    """Options of Spark's reader, such as ``header: true``; not used for Parquet."""

    @model_validator(mode="after")
    def _one_place(self) -> InputTable:
        if self.path is not None and self.table is not None:
            raise ValueError("must name a path or a table, got both")
        return self


class Log(InputTable):
    """A table whose rows have a time."""

    day_column: str | None = None
    """Column, or name of folders, that partitions the log by day (YYYY-MM-DD or YYYYMMDD), such as ds. Only partitions
    that may hold the window are read. null = read all."""
    day_slack: int = Field(1, ge=0, le=366)
    """Days by which a row's partition may differ from the day (UTC) of its time: late rows, other time zones. A larger
    value reads more partitions."""


class Impressions(Log):
    """The table of impressions. Rows served outside the window of days are not input."""

    first_position: int = Field(0, ge=0, le=1)
    """Number that the log gives the first slot. Positions are counted from 0 everywhere else."""
    dwell_unit: Literal["ms", "s"] = "ms"
    """Unit of ``dwell_ms`` in the log."""


class Input(Section):
    """Input tables: places, formats and units."""

    impressions: Impressions = Impressions()
    engagements: Log = Log()
    """The table of engagements, read as far as attribution and guard windows reach."""
    ads: InputTable = InputTable()
    """The table of ads. Needed only for ``mining.guard.keys``, ``mining.stratify_by`` and
    ``mining.exposure.new_ad_quarantine_h``; with it, new ads and ads that it lacks are counted apart."""
    users: InputTable = InputTable()
    """The table of users, one row a user, as it was before the mined days. Needed only for ``mining.user_history``, and
    for columns of ``mining.user_features`` that it holds."""
    null_ids: list[str] = [""]
    """Texts that stand for a missing id, such as "null", "None", "unknown", "-1", "0". Impressions with one are
    ``invalid``, engagements with one are ignored, and a request id among them counts as missing."""


class Output(Section):
    """Published days."""

    path: str | None = None
    """Folder of the published days: local, s3://, gs://, hdfs://. Overridden by --out."""
    orphan_grace_h: float = Field(24.0, ge=0)
    """Hours that a file stays after no manifest names it any more, for readers that still read the day before it. A
    larger value keeps more storage."""


class Kind(Section):
    """One kind of engagement."""

    code: int = Field(ge=1, le=99)
    """Number stored in ``positive_kind`` and ``negative_kind``; where kinds compete for an impression, the higher code
    wins."""
    role: Literal["positive", "explicit_negative"]
    """Role of an engagement for its impression: a positive, or an explicit negative (kept as a strong negative)."""
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
    """An ad that the user engaged with at another time is a false negative; the guard removes it."""

    before_h: float = Field(168.0, ge=0, le=24 * 365)
    """Hours before an impression in which an engagement with its ad guards it. A larger value removes more negatives.
    """
    after_h: float = Field(168.0, ge=0, le=24 * 365)
    """Hours after an impression in which an engagement with its ad guards it, as far as ``--as-of`` reaches. A larger
    value removes more negatives."""
    keys: list[str] = []
    """Columns of the table of ads, such as advertiser_id: an engagement guards every ad with the same value."""


class Thresholds(Section):
    """Thresholds of one surface; null takes the value of ``mining.examined``."""

    max_position: int | None = Field(None, ge=0)
    """Deepest position (0 = first slot) that counts as examined."""
    min_dwell_ms: int | None = Field(None, ge=0)
    """Shortest dwell, in milliseconds, that counts as examined."""
    max_dwell_ms: int | None = Field(None, ge=1)
    """Longest dwell, in milliseconds, of a negative."""


class ExaminedOptions(Thresholds):
    """Limits within which an impression counts as examined. A click further down the same slate counts as well."""

    max_position: int | None = Field(None, ge=0)
    """Deepest position (0 = first slot) that counts as examined; null = every position."""
    min_dwell_ms: int | None = Field(250, ge=0)
    """Shortest dwell, in milliseconds, that counts as examined; shorter dwell is scrolling past without looking. The
    default is one fixation of the eye (225 ms reading, 330 ms in scenes: Rayner, Psychological Bulletin 1998). null =
    no limit."""
    max_dwell_ms: int | None = Field(4000, ge=1)
    """Longest dwell, in milliseconds, of a negative; longer dwell is interest without a click, neither positive nor
    negative. null = no limit."""
    long_dwell_excludes: Literal["ad", "impression"] = "ad"
    """Impressions that a dwell above ``max_dwell_ms`` excludes: every impression of that ad to that user, or only that
    impression."""
    unknown: Literal["keep", "drop"] = "keep"
    """Impressions whose position or dwell is unknown: keep them, or drop them as ``not_examined``."""
    surfaces: dict[str, Thresholds] = {}
    """Other thresholds for single surfaces, such as ``search: {max_position: 3}``."""
    table: str | None = None
    """Parquet file of surface, position and probability, as ``jobs/estimate_examination.py`` writes it; null =
    probability 1 everywhere."""


class Confidence(Section):
    """Confidence by dwell that an ad was seen and not wanted: a ramp up, a plateau of 1, a ramp down."""

    floor: float = Field(0.25, gt=0, le=1)
    """Confidence at the shortest and at the longest dwell that counts."""
    full_from_ms: int = Field(1000, ge=0)
    """Dwell, in milliseconds, from which the confidence is 1: the second that makes an impression viewable (MRC)."""
    full_to_ms: int = Field(2500, ge=0)
    """Dwell, in milliseconds, up to which the confidence is 1; longer dwell is more and more interest."""
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
    """New ads, which few users have met: an impression without a click says little about them."""

    new_ad_h: float = Field(168.0, gt=0, le=24 * 365)
    """Hours: an ad created less than this before the mined days, or in them, counts as new, in the report of exposure
    and for the gate."""
    new_ad_quarantine_h: float | None = Field(None, ge=0, le=24 * 365)
    """Hours: an ad younger than this when it is served is no negative. Needs ``created_at`` in the table of ads. null =
    no quarantine."""


class Mining(Section):
    """Outcome rules, caps, weights and buckets."""

    num_buckets: int = Field(64, ge=1, le=100_000)
    """Buckets of users: one shard file a bucket and day. More buckets make smaller files and tasks that need less
    memory."""
    seed: int = Field(20_251_121, ge=0, lt=2**63)
    """Seed of every random choice; the same seed and input give the same bytes."""
    users_without_positive: Literal["drop", "keep"] = "drop"
    """Users without a positive: drop counts them where they are read, keep mines them as well."""
    require_engagements: bool = True
    """Refuse a window without one positive engagement: a missing feed would make every positive a negative."""
    max_impressions_per_user_day: int = Field(2000, ge=1)
    """Most impressions of one user on any day (UTC); a user with more is a bot."""
    kinds: dict[str, Kind] = DEFAULT_KINDS
    """Kinds of engagement. A kind named in a file changes the default kind of that name or adds one; null removes it.
    Kinds of the log that are not named are counted and ignored."""
    clock_skew_s: float = Field(60.0, ge=0, le=3600)
    """Seconds by which an engagement may precede the impression that its request id names."""
    maturity_h: float | None = Field(None, ge=0)
    """Hours after which an impression's label is final; null = the longest ``attribution_h``."""
    guard: Guard = Guard()
    examined: ExaminedOptions = ExaminedOptions()
    confidence: Confidence = Confidence()
    negatives_per_user: int = Field(64, ge=1, le=1024)
    """Most served negatives kept of one user; hides and reports are kept besides."""
    strategy: str = "uniform"
    """Choice of the kept negatives of a user above ``negatives_per_user``: uniform, recent, hardest (by weight, then
    score), stratified (by ``stratify_by``), or a registered strategy."""
    stratify_by: str | None = None
    """Column of the table of ads, such as advertiser_id, that ``stratified`` takes turns over."""
    score_column: str | None = None
    """Column of impressions with the ranker's score; ``hardest`` prefers a higher score at equal weight."""
    max_ad_share: float = Field(0.05, gt=0, le=1)
    """Largest share of all written negatives that one ad may have; 1 = no limit."""
    exposure: ExposureOptions = ExposureOptions()
    user_features: list[str] = []
    """Columns that describe the user, such as country, written as ``user_<name>``: of the table of users, or the latest
    value of impressions where that table lacks the column."""
    user_history: str | None = None
    """List column of the table of users: ids of ads in an order, oldest first, without times, such as what the user
    watched before the log begins. Written as ``history_ad_id``. It must hold nothing of the mined days. null = none."""
    user_history_length: int = Field(64, ge=1, le=100_000)
    """Most ads kept of ``user_history``, the latest. A larger value makes longer records."""

    @field_validator("kinds", mode="before")
    @classmethod
    def _over_the_default_kinds(cls, kinds: Any) -> Any:
        """Merge the named kinds over the default kinds; ``null`` removes a kind."""
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
        if self.user_history in self.user_features:
            raise ValueError(
                f"must name {self.user_history} as user_history or among user_features, got both: a history is a list"
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
    """Estimation of how probable it is that a position is looked at: jobs/estimate_examination.py. The labels are those
    of ``mining``.
    """

    num_groups: int = Field(50, ge=10, le=100_000)
    """Groups of users; the intervals follow from the differences between groups. More groups make steadier intervals.
    """
    num_positions: int = Field(100, ge=2, le=200)
    """Positions estimated, from the first; the last one stands for all below it."""
    num_strata: int = Field(100, ge=2, le=1000)
    """Quantiles of ``mining.score_column`` within which the regression takes impressions for alike."""
    min_clicks: int = Field(50, ge=1)
    """Clicks that compare positions, below which an estimator abstains."""
    max_relative_width: float = Field(0.2, gt=0)
    """Half of an interval's width over its probability, up to which an estimate counts as precise enough. A larger
    value accepts less precise estimates."""


class Revocation(Section):
    """Revocation of published negatives by later engagements: jobs/revoke_negatives.py. The kinds are those of
    ``mining``.
    """

    after_h: float = Field(720.0, ge=0, le=24 * 365)
    """Hours after an impression in which an engagement with its ad revokes the negative; before the impression,
    ``mining.guard.before_h``."""


class Spark(Section):
    """The Spark session."""

    master: str | None = None
    """Master of a session started by plain python; null = this machine, all cores, with retries."""
    conf: Settings = {}
    """Any Spark setting, such as ``spark.driver.memory: 8g``; those of spark-submit win."""
    rows_per_task: int = Field(2_000_000, ge=1)
    """Input rows that one task reads, about. A larger value makes fewer tasks that need more memory."""
    num_partitions: int | None = Field(None, ge=1, le=1_000_000)
    """Partitions of the scan and of the shuffle; null = from the input's size and the buckets."""


class Config(Section):
    """Every option with its default. A file of your own names only what differs (conf/local.yaml is one), and ``--set
    section.option=value`` overrides the file. The unit is in the name: _h hours, _s seconds, _ms milliseconds. null
    means: not set.
    """

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
