"""Laws of the mining kernels, on random logs: equal to the plain reference, exact, and order-free."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.hashing import hash_column
from scrollpast.mining.rules.attributes import AdAttributes
from scrollpast.mining.rules.strategies import STRATEGIES
from scrollpast.outcomes import Outcome
from tests.mining import reference
from tests.mining.in_process import (
    DAY_START_US,
    HOUR_US,
    SECOND_US,
    engagements_of,
    impressions_of,
    mine,
    rules_of,
)

Log = tuple[list[dict[str, Any]], list[dict[str, Any]]]

ADVERTISER_OF = {ad: ad // 2 for ad in range(6)}
CREATED_US = {ad: DAY_START_US - 4 * HOUR_US * ad for ad in range(5)}  # of the last ad it is not known
USERS = st.integers(0, 2)
ADS = st.integers(0, 5)
# Requests belong to one user, as in a real log: request 10 * user + k.
SLATES = st.integers(0, 2)
# Few distinct moments, so that ties of time occur; some before and after the day.
MOMENTS = st.sampled_from([-HOUR_US, 0, SECOND_US, 5 * HOUR_US, 12 * HOUR_US, 24 * HOUR_US - 1, 24 * HOUR_US])
DELAYS = st.sampled_from([-HOUR_US, -30 * SECOND_US, 0, SECOND_US, 2 * HOUR_US, 30 * HOUR_US, 90 * HOUR_US])
POSITIONS = st.sampled_from([None, 0, 1, 2, 3, 7])
DWELLS = st.sampled_from([None, 0, 249, 250, 900, 4000, 4001])


@st.composite
def logs(draw: st.DrawFn, with_broken: bool = True) -> Log:
    """Impressions and engagements of three users and six ads, ties, repeats and broken rows included."""
    rows = []
    for _ in range(draw(st.integers(1, 25))):
        user = draw(USERS)
        row: dict[str, Any] = {
            "request_id": 10 * user + draw(SLATES),
            "user_id": user,
            "ad_id": draw(ADS),
            "served_at": DAY_START_US + draw(MOMENTS),
            "surface": draw(st.sampled_from([None, "feed", "search"])),
            "position": draw(POSITIONS),
            "dwell_ms": draw(DWELLS),
        }
        if with_broken and draw(st.integers(0, 9)) == 0:
            broken = draw(
                st.sampled_from(["request_id", "user_id", "ad_id", "served_at", "position", "dwell_ms"])
            )
            row[broken] = -1 if broken in ("position", "dwell_ms") else None
        rows.append(row)
    events = []
    for _ in range(draw(st.integers(0, 8))):
        row = draw(st.sampled_from(rows))
        user = row["user_id"] if row["user_id"] is not None else 0
        events.append(
            {
                "user_id": user,
                "ad_id": draw(st.sampled_from([row["ad_id"], draw(ADS)])),
                "kind": draw(st.sampled_from(["click", "save", "conversion", "hide", "report", "glance"])),
                "engaged_at": (row["served_at"] or DAY_START_US) + draw(DELAYS),
                "request_id": draw(st.sampled_from([row["request_id"], None, 99])),
            }
        )
    return rows, events


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "users_without_positive": st.sampled_from(["drop", "keep"]),
        "max_impressions_per_user_day": st.integers(3, 12),
        "maturity_h": st.sampled_from([0, 1, 24]),
        "exposure": st.just({"new_ad_quarantine_h": 12}),
        "guard": st.fixed_dictionaries(
            {"before_h": st.sampled_from([0, 6]), "after_h": st.sampled_from([0, 20])},
            optional={"keys": st.just(["advertiser_id"])},
        ),
        "examined": st.fixed_dictionaries(
            {"unknown": st.sampled_from(["keep", "drop"])},
            optional={
                "max_position": st.integers(0, 3),
                "long_dwell_excludes": st.sampled_from(["ad", "impression"]),
                "surfaces": st.just({"search": {"min_dwell_ms": 800, "max_position": 2}}),
            },
        ),
    },
)
AS_OF = st.sampled_from(
    [DAY_START_US + 13 * HOUR_US, DAY_START_US + 30 * HOUR_US, DAY_START_US + 240 * HOUR_US]
)
ATTRIBUTES = AdAttributes.of(
    [
        {
            "ad": np.arange(6),
            "advertiser_id": np.array(list(ADVERTISER_OF.values())),
            "created_at": np.array([*CREATED_US.values(), -1]),
        }
    ],
    ["advertiser_id", "created_at"],
)


def _in_window(row: dict[str, Any]) -> bool:
    return row["served_at"] is None or 0 <= row["served_at"] - DAY_START_US < 24 * HOUR_US


@settings(max_examples=300, deadline=None)
@given(log=logs(), options=OPTIONS, as_of_us=AS_OF)
def test_every_outcome_equals_the_plain_reference(log: Log, options: dict[str, Any], as_of_us: int) -> None:
    rows, events = log
    rows = [row for row in rows if _in_window(row)]
    rules = rules_of(as_of_us=as_of_us, **options)
    hashes = hash_column(pa.array([row["request_id"] for row in rows], pa.int64())) & np.int64(2**63 - 1)
    hashed = [{**row, "request_hash": int(h)} for row, h in zip(rows, hashes, strict=True)]
    expected = reference.decide(hashed, events, rules, ADVERTISER_OF, CREATED_US)

    with TemporaryDirectory() as day:
        mined = mine(
            [impressions_of(rows)], [engagements_of(events)], rules, Path(day), attributes=ATTRIBUTES
        )

    cells: Counter[tuple[str, str, int | None]] = Counter()
    for row, outcome in zip(rows, expected, strict=True):
        # A negative position is no position: the ledger counts the row under unknown.
        position = row["position"] if row["position"] is None or row["position"] >= 0 else None
        cells[outcome, row["surface"] or "all", position] += 1
    found: Counter[tuple[str, str, int | None]] = Counter()
    for (outcome, surface, position), count in mined.ledger.cells.items():
        # With room in every cap, each candidate is a negative.
        label = "candidate" if outcome == Outcome.NEGATIVE else outcome.label
        found[label, surface, position] += count
    assert +found == cells


@settings(max_examples=100, deadline=None)
@given(log=logs(), options=OPTIONS, cap=st.integers(1, 3), share=st.sampled_from([0.1, 0.3, 1.0]))
def test_the_ledger_adds_up_whatever_the_log_and_the_caps(
    log: Log, options: dict[str, Any], cap: int, share: float
) -> None:
    rows, events = log
    rules = rules_of(**options, negatives_per_user=cap, max_ad_share=share)
    with TemporaryDirectory() as day:
        mined = mine(
            [impressions_of(rows)], [engagements_of(events)], rules, Path(day), attributes=ATTRIBUTES
        )
    mined.ledger.check(sum(_in_window(row) for row in rows))
    assert mined.num_impressions == sum(_in_window(row) for row in rows)


@settings(max_examples=60, deadline=None)
@given(
    log=logs(),
    options=OPTIONS,
    strategy=st.sampled_from(STRATEGIES.names),
    num_tasks=st.integers(1, 5),
    num_parts=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_any_split_and_order_of_the_input_gives_the_same_shards(
    log: Log, options: dict[str, Any], strategy: str, num_tasks: int, num_parts: int, seed: int
) -> None:
    rows, events = log
    rules = rules_of(
        **options, strategy=strategy, stratify_by="advertiser_id", negatives_per_user=2, max_ad_share=0.4
    )
    chance = random.Random(seed)
    shuffled = chance.sample(rows, len(rows))
    tasks = [impressions_of(shuffled[number::num_tasks]) for number in range(num_tasks)]
    feeds = [engagements_of(part) for part in (events[::2], events[1::2])]
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        plain = mine(
            [impressions_of(rows)], [engagements_of(events)], rules, Path(one), attributes=ATTRIBUTES
        )
        split = mine(tasks, feeds, rules, Path(other), attributes=ATTRIBUTES, order=chance, parts=num_parts)
    assert split.shards == plain.shards
    assert split.quarantine_files == plain.quarantine_files
    assert split.ledger == plain.ledger
    assert split.health == plain.health
    assert split.exposure.to_json() == plain.exposure.to_json()


@settings(max_examples=60, deadline=None)
@given(log=logs(with_broken=False), cap=st.integers(1, 4), share=st.sampled_from([0.1, 0.25, 0.5]))
def test_no_user_and_no_ad_exceeds_its_cap(log: Log, cap: int, share: float) -> None:
    rows, events = log
    rules = rules_of(users_without_positive="keep", negatives_per_user=cap, max_ad_share=share)
    unlimited = rules_of(users_without_positive="keep", negatives_per_user=cap)
    with TemporaryDirectory() as day:
        mined = mine([impressions_of(rows)], [engagements_of(events)], rules, Path(day))
        before = mine([impressions_of(rows)], [engagements_of(events)], unlimited, Path(day))
    num_before = before.ledger.totals()[Outcome.NEGATIVE]
    kept = mined.ledger.totals()[Outcome.NEGATIVE]
    assert kept <= num_before <= cap * 3
    assert kept >= min(num_before, 1)
    assert kept <= max(1, int(share * num_before)) * len({row["ad_id"] for row in rows})
