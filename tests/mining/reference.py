"""The outcomes, decided row by row with plain loops: slow, obvious, and written from the contract alone.

Rows and engagements are dictionaries with the names of the input contract, times in microseconds.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from scrollpast.mining.rules.rules import DAY_US, Rules

Row = dict[str, Any]


def decide(
    rows: list[Row],
    engagements: list[Row],
    rules: Rules,
    advertiser: dict[int, int],
    created: dict[int, int] | None = None,
) -> list[str]:
    """The outcome of every row, in the order of ``rows``; without the caps' choice, which needs the hash.

    ``advertiser`` and ``created`` (microseconds) are by ad. A row that only a cap can take is returned as
    ``candidate``.
    """
    outcomes: list[str | None] = [None] * len(rows)
    by_user: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if (
            (
                row["user_id"] is None
                or row["ad_id"] is None
                or row["request_id"] is None
                or row["served_at"] is None
            )
            or (row["position"] or 0) < 0
            or (row["dwell_ms"] or 0) < 0
        ):
            outcomes[number] = "invalid"
        else:
            by_user[row["user_id"]].append(number)
    known = [
        e
        for e in engagements
        if e["kind"] in rules.kinds.names
        and e["engaged_at"] <= rules.window.as_of_us
        and None not in (e["user_id"], e["ad_id"])
    ]
    for user, numbers in by_user.items():
        theirs = [e for e in known if e["user_id"] == user]
        _decide_user(numbers, rows, theirs, rules, advertiser, created or {}, outcomes)
    return [str(outcome) for outcome in outcomes]


def _order(row: Row) -> tuple[Any, ...]:
    def null_first(value: int | None) -> int:
        return -1 if value is None else value

    rest = (null_first(row["position"]), null_first(row["dwell_ms"]), row["surface"] or "all")
    return (row["served_at"], row["request_hash"], row["ad_id"], *rest)


def _decide_user(  # noqa: C901 -- one user's whole story, told once, in the contract's order
    numbers: list[int],
    rows: list[Row],
    engagements: list[Row],
    rules: Rules,
    advertiser: dict[int, int],
    created: dict[int, int],
    outcomes: list[str | None],
) -> None:
    numbers = sorted(numbers, key=lambda n: _order(rows[n]))
    seen: set[tuple[Any, ...]] = set()
    duplicates = set()
    for n in numbers:
        exposure = (rows[n]["request_id"], rows[n]["ad_id"], rows[n]["position"])
        if exposure in seen:
            duplicates.add(n)
        seen.add(exposure)
    distinct = [n for n in numbers if n not in duplicates]

    codes = dict(zip(rules.kinds.names, rules.kinds.codes.tolist(), strict=True))
    is_positive = dict(zip(rules.kinds.names, rules.kinds.is_positive.tolist(), strict=True))
    reach = dict(zip(rules.kinds.names, rules.kinds.attribution_us.tolist(), strict=True))
    positive: dict[int, str] = {}
    explicit: dict[int, str] = {}
    for e in engagements:
        if e["request_id"] is not None:
            fitting = [
                n
                for n in distinct
                if rows[n]["request_id"] == e["request_id"]
                and rows[n]["ad_id"] == e["ad_id"]
                and rows[n]["served_at"] <= e["engaged_at"] + rules.clock_skew_us
            ]
        else:
            fitting = [
                n
                for n in distinct
                if rows[n]["ad_id"] == e["ad_id"] and rows[n]["served_at"] <= e["engaged_at"]
            ]
        if not fitting or e["engaged_at"] - rows[fitting[-1]]["served_at"] > reach[e["kind"]]:
            continue
        kinds = positive if is_positive[e["kind"]] else explicit
        before = kinds.get(fitting[-1])
        if before is None or codes[e["kind"]] > codes[before]:
            kinds[fitting[-1]] = e["kind"]

    per_day: dict[int, int] = defaultdict(int)
    for n in distinct:
        per_day[(rows[n]["served_at"] - rules.window.start_us) // DAY_US] += 1
    is_bot = max(per_day.values(), default=0) > rules.max_impressions_per_user_day
    likes = [e for e in engagements if is_positive[e["kind"]]]

    def is_guarded(row: Row) -> bool:
        def same(e: Row) -> bool:
            if e["ad_id"] == row["ad_id"]:
                return True
            mine, other = advertiser.get(row["ad_id"]), advertiser.get(e["ad_id"])
            return "advertiser_id" in rules.guard_keys and mine is not None and mine == other

        return any(
            same(e)
            and row["served_at"] - rules.guard_before_us
            <= e["engaged_at"]
            <= row["served_at"] + rules.guard_after_us
            for e in likes
        )

    def is_above_a_click(row: Row) -> bool:
        return row["position"] is not None and any(
            rows[p]["request_id"] == row["request_id"]
            and rows[p]["position"] is not None
            and rows[p]["position"] > row["position"]
            and outcomes[p] == "positive"
            for p in positive
        )

    def is_unseen(row: Row, limits: Any) -> bool:
        position, dwell_ms = row["position"], row["dwell_ms"]
        if position is not None and position > limits.max_position[0]:
            return True
        if dwell_ms is not None and dwell_ms < limits.min_dwell_ms[0]:
            return True
        return rules.examined.unknown == "drop" and (position is None or dwell_ms is None)

    def has_lingered(row: Row) -> bool:
        whole_ad = rules.examined.long_dwell_excludes == "ad"
        looked_at = [rows[n] for n in numbers if rows[n]["ad_id"] == row["ad_id"]] if whole_ad else [row]
        return any(
            r["dwell_ms"] is not None and r["dwell_ms"] > rules.on([r["surface"] or "all"]).max_dwell_ms[0]
            for r in looked_at
        )

    def is_too_new(row: Row) -> bool:
        created_us = created.get(row["ad_id"])
        return created_us is not None and row["served_at"] - created_us < rules.new_ad_quarantine_us

    for n in distinct:  # positives first: a click decides about the rows above it
        if positive and not is_bot and n in positive:
            outcomes[n] = "positive"
    left: list[int] = []
    for n in numbers:
        row, limits = rows[n], rules.on([rows[n]["surface"] or "all"])
        if not positive and not rules.keep_users_without_positive:
            outcomes[n] = "unanchored"
        elif n in duplicates:
            outcomes[n] = "duplicate"
        elif is_bot:
            outcomes[n] = "bot"
        elif n in positive:
            outcomes[n] = "positive"
        elif n in explicit:
            outcomes[n] = "explicit_negative"
        elif row["served_at"] + rules.maturity_us > rules.window.as_of_us:
            outcomes[n] = "immature"
        elif is_guarded(row):
            outcomes[n] = "engaged_elsewhere"
        elif is_unseen(row, limits) and not is_above_a_click(row):
            outcomes[n] = "not_examined"
        elif has_lingered(row):
            outcomes[n] = "lingered"
        elif is_too_new(row):
            outcomes[n] = "too_new"
        else:
            left.append(n)
    hidden = {rows[n]["ad_id"] for n in distinct if outcomes[n] == "explicit_negative"}
    latest = {rows[n]["ad_id"]: n for n in left}
    for n in left:
        is_kept = latest[rows[n]["ad_id"]] == n and rows[n]["ad_id"] not in hidden
        outcomes[n] = "candidate" if is_kept else "repeat"
