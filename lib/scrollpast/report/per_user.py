"""Distribution of negatives over the day's users."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scrollpast.errors import CorruptShardError, UserError
from scrollpast.job_commands import job_command
from scrollpast.record_schema import NEGATIVE_FEATURES
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs, ReportedDay
from scrollpast.report.k_anonymity import are_few, fewer_than, joined
from scrollpast.report.sections import Block, Missing, Paragraph, ReportSection, ReportTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Negatives a user"
MOST_BYTES = 256 * 2**20
"""Bytes of shards that are read at most; buckets are hashes of users, so that any shards are a random sample."""
_FEATURE = "negative_ad_id"
_MOST_BARS = 40
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class NegativesByUser:
    """Users by their number of negatives: int64 [most negatives + 1]."""

    num_users: NDArray[np.int64]
    num_shards: int
    """Shards that were read"""
    num_all_shards: int

    @property
    def mean(self) -> float:
        return float((np.arange(len(self.num_users)) * self.num_users).sum() / self.num_users.sum())

    def quantile(self, level: float) -> int:
        """Number of negatives that this share of the users does not exceed."""
        passed = np.cumsum(self.num_users)
        return int(np.searchsorted(passed, level * passed[-1]))


def count_by_user(day: ReportedDay, most_bytes: int = MOST_BYTES) -> NegativesByUser:
    """Count the negatives of the records without revoked negatives, one shard at a time.

    Raises:
        UserError: a shard is missing or differs from its manifest entry.
    """
    # Decoding imports numba, which is slow.
    from scrollpast.shards.reader import decode_shard, published_shards, read_shard_content

    schema = pa.schema([(_FEATURE, NEGATIVE_FEATURES[_FEATURE])])
    num_users, num_bytes, num_shards = np.zeros(1, np.int64), 0, 0
    try:
        shards = published_shards(day.uri, day.manifest)
        for shard in shards:
            if num_shards and num_bytes + shard.entry.num_bytes > most_bytes:
                break
            content, frames = read_shard_content(shard)
            batch = decode_shard(shard, content, frames, schema)
            found = np.bincount(pc.list_value_length(batch[_FEATURE]).fill_null(0).to_numpy())
            longer = np.zeros(max(len(found), len(num_users)), np.int64)
            longer[: len(num_users)] += num_users
            longer[: len(found)] += found
            num_users, num_bytes, num_shards = longer, num_bytes + shard.entry.num_bytes, num_shards + 1
    except CorruptShardError as error:
        raise UserError(
            error.place, expected=error.expected, found=error.found, remedy=error.remedy
        ) from error
    return NegativesByUser(num_users, num_shards, len(shards))


def per_user(inputs: Inputs) -> ReportSection:
    """Section with the distribution of negatives over the users of the day's records."""
    day = inputs.day
    if not day.manifest.num_records:
        reason = "The day has no records: no user has a positive."
        return ReportSection("per-user", TITLE, [Missing(reason, day.mined_again)])
    found = count_by_user(day)
    num_users = int(found.num_users.sum())
    if num_users < inputs.floor:
        reason = f"The day has records of {fewer_than(inputs.floor)} users, which are not shown individually."
        return ReportSection(
            "per-user", TITLE, [Missing(reason, job_command("write_report", day.uri, "--floor", 1))]
        )
    most = day.options.get("negatives_per_user")
    cap = most if isinstance(most, int) else None
    rows, median = _bars(found.num_users, inputs.floor), _quantile(found, 0.5, inputs.floor)
    told = (
        f"{wording.plural(num_users, 'user')} with {found.mean:.1f} negatives in the mean and "
        f"{wording.count(median)} in the median."
    )
    if rows[0].high == 0:
        told += f" {wording.share(rows[0].num_users / num_users)} have none."
    if cap is not None:
        told += f" At most {cap:,} served negatives of a user are kept (mining.negatives_per_user)."
    if day.manifest.num_revoked:
        told += " Revoked negatives are not counted."
    blocks: list[Block] = [Paragraph(told)]
    if found.num_shards < found.num_all_shards:
        blocks.append(
            Paragraph(
                f"A sample of {found.num_shards:,} of {found.num_all_shards:,} shards was read. A user's shard follows "
                "from a hash of the user, so that shards differ by chance alone."
            )
        )
    numbers = ReportTable(
        "Users by their number of negatives",
        ("negatives", "users", "share"),
        [(bar.span, wording.count(bar.num_users), wording.share(bar.num_users / num_users)) for bar in rows],
    )
    quantiles = ReportTable(
        "Negatives that a share of the users does not exceed",
        ("users", *(f"{level:.0%}" for level in _QUANTILES), "all"),
        [
            (
                "negatives",
                *(wording.count(_quantile(found, level, inputs.floor)) for level in (*_QUANTILES, 1.0)),
            )
        ],
    )
    plot = plotting.plot(
        "per-user",
        "Users by their number of negatives",
        told,
        numbers,
        lambda figure, is_narrow: _paint(rows, median, figure, is_narrow=is_narrow),
        (260, 240),
    )
    return ReportSection("per-user", TITLE, [*blocks, plot, quantiles])


@dataclass(frozen=True)
class Bar:
    """Users with a number of negatives in a range."""

    low: int
    high: int | None
    """Upper end; None where it would reveal the number of few users."""
    num_users: int

    @property
    def span(self) -> str:
        if self.high is None:
            return f"{self.low:,} or more"
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"


def _bars(num_users: NDArray[np.int64], floor: int) -> list[Bar]:
    """Bars of the plot: users without negatives, then a readable number of ranges; no bar is below the floor."""
    width = max(1, -(-(len(num_users) - 1) // _MOST_BARS))
    starts = np.array([0, *range(1, len(num_users), width)])
    sizes = np.add.reduceat(num_users, starts)
    stops = np.append(starts[1:], starts[-1] + (width if len(starts) > 1 else 1))
    bars = [
        Bar(int(starts[first]), int(stops[last]) - 1, int(sizes[first : last + 1].sum()))
        for first, last in joined(sizes, floor)
    ]
    if are_few([num_users[-1]], floor):
        bars[-1] = replace(bars[-1], high=None)
    return bars


def _quantile(found: NegativesByUser, level: float, floor: int) -> int | None:
    """Number of negatives at a quantile; None where it would reveal the number of few users."""
    value = found.quantile(level)
    has_few_beside = min(found.num_users[: value + 1].sum(), found.num_users[value:].sum()) < floor
    return None if has_few_beside else value


def _paint(bars: list[Bar], median: int | None, figure: Figure, *, is_narrow: bool) -> None:
    axes = figure.subplots()
    ends = [bar.low if bar.high is None else bar.high for bar in bars]
    for bar, high in zip(bars, ends, strict=True):
        axes.bar(
            (bar.low + high) / 2,
            bar.num_users,
            width=(high - bar.low + 1) * 0.86,
            color=plotting.SERIES[0],
            linewidth=0,
            label=bar.span if bar.high is None else None,
        )
    if median is not None:
        axes.axvline(median, color=plotting.INK, linestyle="--", linewidth=1.4, label=f"median {median:,}")
    axes.set_xlim(-0.8, ends[-1] + 0.8)
    axes.yaxis.set_major_formatter(wording.brief)
    axes.locator_params(axis="x", integer=True, nbins=5 if is_narrow else 9)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("negatives")
    axes.set_ylabel("users")
    plotting.legend_above(figure, axes, 1)
