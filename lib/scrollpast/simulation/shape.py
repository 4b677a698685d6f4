"""Shape of a simulated log: every rate, size and delay, with its unit and its bounds."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping

from scrollpast.errors import UserError

SURFACES = ("feed", "search", "related")


def _within(default: float, low: float, high: float) -> float:
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


@dataclasses.dataclass(frozen=True)
class LogShape:
    """Shape of the simulated users, ads, slates and pipeline.

    Raises:
        UserError: a value is out of its bounds, or two values contradict each other.
    """

    impressions_per_user: float = _within(150.0, 1, 1e6)
    """Mean number of impressions of a user over all days: the number of users is rows over this."""
    ads_exponent: float = _within(0.6, 0.1, 1.0)
    """The number of ads is rows to this power (2e6 rows: 6,034 ads; 1e8: 63,096), at least 50."""
    user_skew: float = _within(1.1, 0.0, 3.0)
    """Exponent of the Zipf-Mandelbrot law of the users' activity; its offset is 1 % of the users."""
    ad_skew: float = _within(0.9, 0.0, 3.0)
    """Exponent of the Zipf law of the ads' popularity."""
    share_of_users_who_click: float = _within(0.5, 0.0, 1.0)
    """Share of users who click. Other users look at ads and engage by accident only, as most users of a real log."""
    pool_ads: int = _within(64, 1, 1024)  # type: ignore[assignment]
    """Ads that campaigns target at one user at a time, which causes repeated exposures of an ad to a user."""
    pool_days: int = _within(7, 1, 365)  # type: ignore[assignment]
    """Days after which an ad of the pool is replaced; each slot is replaced on its own day."""
    min_slate: int = _within(10, 1, 200)  # type: ignore[assignment]
    """Fewest positions of a request."""
    max_slate: int = _within(30, 1, 200)  # type: ignore[assignment]
    """Most positions of a request."""
    served_relevance: float = _within(0.08, 0.001, 0.9)
    """Mean probability, over served impressions, that the user wants the ad."""
    relevance_spread: float = _within(2.5, 0.0, 20.0)
    """Effect of taste on the log-odds of relevance; 0 makes every ad as relevant as any other."""
    user_noise: float = _within(0.5, 0.0, 5.0)
    """Standard deviation, in each of 8 dimensions, of a user's taste around two categories of length 1. With a larger
    value, features explain less of the taste."""
    feature_purity: float = _within(0.0, 0.0, 1.0)
    """Probability that a feature of the table of users (`interest`, `age_band`) depends on the user's taste; it is
    uniform otherwise. At 0 the features are independent of taste."""
    watched_ads: float = _within(0.0, 0.0, 1000.0)
    """Mean number of ads that a user who clicks engaged with before the log (column `watched` of the table of users);
    the distribution is geometric."""
    watched_purity: float = _within(1.0, 0.0, 1.0)
    """Share of the ads of `watched` that are drawn by popularity and P(want); the others are drawn by popularity."""
    ranker_noise: float = _within(0.7, 0.0, 20.0)
    """Scale of the logistic noise that the ranker adds to the log-odds before it sorts a slate."""
    new_ad_share: float = _within(0.1, 0.0, 0.9)
    """Share of ads created inside the window; an ad is not served before its creation."""
    random_slot_share: float = _within(0.02, 0.0, 1.0)
    """Share of positions that show a uniformly random ad, with the propensity 1 / number of ads alive."""
    click_given_want: float = _within(0.35, 0.0, 1.0)
    """P(click | examined, relevant, a user who clicks): below 1, so that not clicking is not disinterest."""
    accidental_click: float = _within(0.002, 0.0, 1.0)
    """P(click | examined, not relevant), of every user; see the accidental mode of Yahoo's dwell times."""
    long_click_given_click: float = _within(0.45, 0.0, 1.0)
    """Share of wanted clicks that the user stays on."""
    save_given_click: float = _within(0.08, 0.0, 1.0)
    """Share of wanted clicks followed by a save, minutes later."""
    conversion_given_click: float = _within(0.06, 0.0, 1.0)
    """Share of wanted clicks followed by a conversion, minutes to weeks later."""
    conversion_cap_days: float = _within(30.0, 2.0, 365.0)
    """Longest delay of a conversion; 35 % come within 1 h and 50 % within 24 h (Criteo)."""
    organic_given_want: float = _within(0.25, 0.0, 1.0)
    """P(the user comes back to the ad by another way | examined, relevant, not clicked); no request id."""
    organic_cap_days: float = _within(5.0, 0.01, 365.0)
    """Longest delay of a return without a request; log-uniform from one minute."""
    save_without_request: float = _within(0.4, 0.0, 1.0)
    """Share of saves without a request id."""
    conversion_without_request: float = _within(0.8, 0.0, 1.0)
    """Share of conversions without a request id."""
    hide_given_unwanted: float = _within(0.0015, 0.0, 0.5)
    """P(hide | examined, not relevant, not clicked)."""
    report_given_unwanted: float = _within(0.0003, 0.0, 0.5)
    """P(report | examined, not relevant, not clicked)."""
    engagement_days_after: float = _within(7.0, 0.0, 365.0)
    """Days after the last day whose late engagements are written; ``--as-of`` limits their use."""
    dwell_missing: float = _within(0.03, 0.0, 1.0)
    """Share of impressions whose dwell the client never sent."""
    bot_rows: float = _within(0.01, 0.0, 0.5)
    """Share of impressions shown to bots, which examine nothing and click at random."""
    bot_impressions_per_day: float = _within(5000.0, 1, 1e9)
    """Impressions of one bot a day; with the share of bots this gives the number of bots, at least one."""
    bot_click: float = _within(0.05, 0.0, 1.0)
    """P(click) of a bot on any impression."""
    duplicates: float = _within(0.005, 0.0, 0.2)
    """Share of exact re-deliveries: half of them close by, half as whole slates in the next file."""
    broken: float = _within(0.002, 0.0, 0.5)
    """Share of rows with a null user, ad, request or time, or a negative dwell or position."""
    rows_per_file: int = _within(1_000_000, 100, 10_000_000)  # type: ignore[assignment]
    """Approximate rows of one Parquet file; bounds the memory of a process (about 300 bytes a row)."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            low, high = field.metadata["low"], field.metadata["high"]
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise UserError(
                    field.name,
                    expected=f"a value in [{low:g}, {high:g}]",
                    found=f"{value:g}",
                    remedy="pass --set with a value inside the bounds",
                )
        if self.min_slate > self.max_slate:
            raise UserError(
                "min_slate",
                expected=f"at most max_slate ({self.max_slate})",
                found=str(self.min_slate),
                remedy="set both",
            )

    @property
    def mean_slate(self) -> float:
        """Mean number of positions of a request."""
        return (self.min_slate + self.max_slate) / 2


def shape_from(settings: Iterable[str], world: Mapping[str, float] | None = None) -> LogShape:
    """Build a shape from ``name=value`` texts; all other values are those of the world, or their defaults.

    Args:
        settings: texts; the last one of a name applies.
        world: values of a preset, such as ``WORLDS.find("tastes", option).settings``.

    Raises:
        UserError: a text has no ``=``, an unknown name (suggests the nearest), no number, or a value out of bounds.
    """
    fields = {field.name: field for field in dataclasses.fields(LogShape)}
    values: dict[str, float] = dict(world or {})
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UserError(
                f"--set {setting}",
                expected="name=value",
                found=repr(setting),
                remedy="write for example broken=0.05",
            )
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.0)[0]
            raise UserError(
                f"--set {setting}",
                expected="the name of a parameter",
                found=f"unknown name {name!r}",
                remedy=f"did you mean {near}?",
            )
        whole = fields[name].type == "int"
        try:
            values[name] = int(text) if whole else float(text)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            raise UserError(
                f"--set {setting}",
                expected=kind,
                found=repr(text),
                remedy=f"the default is {fields[name].default}",
            ) from None
    return LogShape(**values)  # type: ignore[arg-type]
