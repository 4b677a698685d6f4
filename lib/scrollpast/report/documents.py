"""The JSON documents that a report is made from, as far as it reads them, checked on the way in.

Their fields are described where they are written: the estimation of examination, the mining of exposure, the
evaluation, the comparison, the gate. What a later version adds is passed over.
"""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scrollpast.errors import UserError
from scrollpast.shards import filesystem as files

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Document(BaseModel):
    """Numbers of JSON; NaN and infinity are none."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class EstimateDocument(Document):
    """P(examined | position) of one surface by one estimator, with its 95 % interval; lists of equal length."""

    positions: list[int]
    probability: list[Share]
    low: list[Share]
    high: list[Share]
    num_clicks: Count | None = None
    level: str | None = None

    @model_validator(mode="after")
    def _equally_long(self) -> EstimateDocument:
        if len({len(self.positions), len(self.probability), len(self.low), len(self.high)}) > 1:
            raise ValueError("positions, probability, low and high must be equally long")
        return self


class DwellMixtureDocument(Document):
    """Components of log(1 + dwell in ms)."""

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
    why: str
    estimates: dict[str, EstimateDocument]
    abstained: dict[str, str]
    dwell: DwellMixtureDocument | None
    dwell_histogram: DwellHistogram
    thresholds_ms: dict[str, int]

    @model_validator(mode="after")
    def _chosen_is_there(self) -> Surface:
        if self.chosen is not None and self.chosen not in self.estimates:
            raise ValueError(f"chosen is {self.chosen}, which is none of the estimates")
        return self


class ExaminationDocument(Document):
    """``examination.json``."""

    ds: str
    surfaces: dict[str, Surface]


class Lorenz(Document):
    """The ads with the fewest negatives come first: a share of the ads has such a share of the negatives."""

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


class ExposureDocument(Document):
    """The file ``exposure/part-….json`` of a day."""

    catalogue: str
    num_ads: Count
    num_negatives: Count
    num_positives: Count
    share_of_ads_with_negatives: Share | None
    gini: float | None
    top_1_percent_share: Share | None
    lorenz: Lorenz | None
    slices: dict[str, Slice]


class FigureDocument(Document):
    """A number of a day; a share is one of ``cases``, a count has none."""

    value: float
    cases: Count | None


class BandDocument(Document):
    """Expected range of a metric."""

    median: float
    low: float
    high: float


class BreachDocument(Document):
    """A figure that was elsewhere. Without a median a bound of the configuration said so."""

    figure: str
    value: float
    low: float | None
    high: float | None
    median: float | None


class GateDocument(Document):
    """Result of the gate for a day."""

    trailing_days: list[str]
    breaches: list[BreachDocument]
    bands: dict[str, BandDocument] = {}


class HealthDocument(Document):
    """The part ``health`` of a manifest."""

    figures: dict[str, FigureDocument]
    gate: GateDocument | None = None


class Estimated(Document):
    """A metric: its mean over users, and the 95 % interval."""

    mean: float
    low: float
    high: float
    num_users: Count


class IndexDocument(Document):
    """The index of ads that the metrics ``quantised/…`` were measured through."""

    kind: str


class Metrics(Document):
    """``metrics.json`` of a checkpoint; one without ``index`` is older, and measured an index of codes."""

    checkpoint: str
    step: Count
    num_users: Count
    evaluated_on: list[str]
    metrics: dict[str, Estimated | None]
    index: IndexDocument | None = None
    notes: list[str] = []


class CellDocument(Document):
    """The line of the baseline."""

    arm: str
    ratio: Count


class SkippedDocument(Document):
    """An arm that was asked for and is not in the table."""

    arm: str
    reason: str


class Direction(Document):
    """Direction of a metric: higher or lower is better."""

    better: str


class Row(Document):
    """One arm in one metric."""

    metric: str
    arm: str
    ratio: Count
    value: float | None
    low: float | None
    high: float | None
    num_users: Count
    difference: float | None
    joint_low: float | None
    joint_high: float | None
    verdict: str | None

    @property
    def name(self) -> str:
        """Of the arm and its ratio."""
        return f"{self.arm}, {self.ratio} own" if self.ratio else self.arm


class ComparisonDocument(Document):
    """``comparison.json``."""

    baseline: CellDocument
    num_verdicts: Count
    seeds: list[int]
    num_users: Count
    num_new_users: Count
    num_ads: Count
    evaluated_on: list[str]
    metrics: dict[str, Direction]
    skipped: list[SkippedDocument]
    notes: list[str]
    rows: list[Row]


class MinedArm(Document):
    """A way of mining, where the truth is known."""

    num_negatives: Count
    share_of_naive: float
    false_share: float


class Purity(Document):
    """``quality.json`` of ``scripts/bench/bench_quality.py``."""

    num_logs: Count
    num_rows: Count
    arms: dict[str, MinedArm]
    yields: list[float]
    purity: dict[str, list[float | None]]
    """By what is kept first, for every yield; None where there are not so many"""

    @model_validator(mode="after")
    def _one_for_every_yield(self) -> Purity:
        if any(len(values) != len(self.yields) for values in self.purity.values()):
            raise ValueError("expected a value for every yield")
        return self


Kind = TypeVar("Kind", bound=Document)


def read_text(uri: str, remedy: str) -> str:
    """The text of a file.

    Raises:
        UserError: there is none, it cannot be read, or it is no UTF-8.
    """
    filesystem, path = files.resolve(uri)
    try:
        return files.read_all(filesystem, path).to_pybytes().decode()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        found = "no such file" if is_missing else str(error).splitlines()[0]
        raise UserError(uri, expected="a readable file", found=found, remedy=remedy) from error


def read_document(kind: type[Kind], uri: str, remedy: str) -> Kind:
    """A document of a kind.

    Raises:
        UserError: as `read_text`, or the content is not what the kind has.
    """
    try:
        content = json.loads(read_text(uri, remedy))
    except ValueError as error:
        raise UserError(uri, expected="JSON", found=str(error), remedy=remedy) from error
    return checked(kind, content, uri, remedy)


def checked(kind: type[Kind], content: object, place: str, remedy: str) -> Kind:
    """JSON values as a document.

    Raises:
        UserError: a field is missing or malformed; names the first one.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or kind.__name__.lower()
        raise UserError(
            f"{place}, {name}", expected=f"a document of {kind.__name__}", found=first["msg"], remedy=remedy
        ) from error
