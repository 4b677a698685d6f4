"""The expansion of one anchor, written plainly: what a row of a batch has to be, whatever draws it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from tests.training.data.days import DAY_MS


def rows_of(batch: AnchorBatch) -> list[dict[str, Any]]:
    """A batch as one dict an anchor; ragged lists cut."""
    rows: list[dict[str, Any]] = []
    history_at, passed_at, known_at = 0, 0, 0
    for i in range(len(batch)):
        history_end = history_at + int(batch.history_lengths[i])
        passed_end = passed_at + int(batch.passed_lengths[i])
        known_end = known_at + int(batch.known_lengths[i])
        rows.append(
            {
                "user_id": int(batch.user_id[i]),
                "user_row": int(batch.user_row[i]),
                "age": int(batch.user_features["age"][i]),
                "history": batch.history_rows[history_at:history_end].tolist(),
                "passed": batch.passed_rows[passed_at:passed_end].tolist(),
                "ad_row": int(batch.ad_row[i]),
                "request": int(batch.request_hash[i]),
                "served_at_ms": int(batch.served_at_ms[i]),
                "kind": int(batch.kind[i]),
                "weight": float(batch.weight[i]),
                "known": batch.known_rows[known_at:known_end].tolist(),
                "origin": tuple(batch.origin[i].tolist()),
                "hard": [
                    {
                        "row": int(batch.hard.row[i, k]),
                        "weight": float(batch.hard.weight[i, k]),
                        "request": int(batch.hard.request[i, k]),
                        "log_q": float(batch.hard.log_q[i, k]),
                    }
                    for k in range(batch.hard.count)
                ],
                "neighbours": [
                    {
                        "row": int(batch.neighbour.row[i, j]),
                        "weight": float(batch.neighbour.weight[i, j]),
                        "log_q": float(batch.neighbour.log_q[i, j]),
                    }
                    for j in range(batch.neighbour.count)
                ],
            }
        )
        history_at, passed_at, known_at = history_end, passed_end, known_end
    assert history_at == len(batch.history_rows) and known_at == len(batch.known_rows)
    assert passed_at == len(batch.passed_rows)
    return rows


def anchors_of(shards: list[list[dict[str, Any]]]) -> list[int]:
    """The request hashes of all anchors, sorted: no two anchors of random records share one."""
    return sorted(request for rows in shards for row in rows for request in row["positive_request_hash"])


def anchors_in(record: dict[str, Any], merge_repeats: bool) -> list[int]:
    """Numbers of a record's positives that are anchors: all, or the first of every ad."""
    ads = record["positive_ad_id"]
    return [at for at, ad in enumerate(ads) if not (merge_repeats and ad in ads[:at])]


def listed_before(
    record: dict[str, Any], side: str, moment: int, most: int, merge_repeats: bool
) -> list[int]:
    """The latest ads of a side that were served before a moment, oldest first; of repeats the last where merged."""
    items = zip(record[f"{side}_ad_id"], record[f"{side}_served_at_ms"], record[f"{side}_kind"], strict=True)
    ads = [ad for ad, served_at, kind in items if served_at < moment and kind != 100]
    if merge_repeats:
        ads = [ad for at, ad in enumerate(ads) if ad not in ads[at + 1 :]]
    return ads[max(0, len(ads) - most) :]


def earlier_before(
    record: dict[str, Any], moment: int, merge_repeats: bool, known: dict[int, int]
) -> list[int]:
    """Ads with a row of the history before the log, oldest first, without those with a positive until the moment."""
    served = zip(record["positive_ad_id"], record["positive_served_at_ms"], strict=True)
    engaged = {ad for ad, served_at in served if served_at <= moment}
    ads = [ad for ad in record.get("history_ad_id", []) if ad in known and ad not in engaged]
    return [ad for at, ad in enumerate(ads) if not (merge_repeats and ad in ads[at + 1 :])]


def expected_of(
    record: dict[str, Any],
    at: int,
    vocabulary: Vocabulary,
    *,
    max_history: int,
    max_passed: int = 0,
    merge_repeats: bool = False,
    kind_weights: dict[int, float] | None = None,
    read_user_history: bool = True,
) -> dict[str, Any]:
    """Everything of the anchor ``at`` but its draws."""
    row_of = {int(ad): row for row, ad in enumerate(vocabulary.ad_ids) if row}
    ages = {int(text): code for code, text in enumerate(vocabulary.values["user_age"], 1)}
    ad, moment = record["positive_ad_id"][at], record["positive_served_at_ms"][at]
    factors = [(kind_weights or {}).get(kind, 1.0) for kind in record["positive_kind"]]
    same = [i for i, other in enumerate(record["positive_ad_id"]) if other == ad] if merge_repeats else [at]
    strongest = max(same, key=lambda i: (factors[i], -i))

    def rows(side: str, most: int) -> list[int]:
        ads = listed_before(record, side, moment, most, merge_repeats)
        return [row_of.get(ad, 0) for ad in ads]

    earlier = earlier_before(record, moment, merge_repeats, row_of) if read_user_history else []
    history = [row_of[ad] for ad in earlier] + rows("positive", len(record["positive_ad_id"]))
    return {
        "user_id": record["user_id"],
        "age": ages.get(record["user_age"], 0),
        "history": history[max(0, len(history) - max_history) :],
        "passed": rows("negative", max_passed),
        "ad_row": row_of.get(ad, 0),
        "request": record["positive_request_hash"][at],
        "served_at_ms": moment,
        "kind": record["positive_kind"][strongest],
        "weight": float(np.float32(record["positive_weight"][at]) * np.float32(factors[strongest])),
        "known": [row_of.get(ad, 0) for ad in record["positive_ad_id"]],
    }


def pool_of(record: dict[str, Any], at: int, explicit_boost: float) -> dict[int, float]:
    """Candidate hard negatives of the anchor ``at``: number of the negative → weight of its draw."""
    day_end_ms = (record["positive_served_at_ms"][at] // DAY_MS + 1) * DAY_MS
    pool = {}
    for number, ad in enumerate(record["negative_ad_id"]):
        kind, weight = record["negative_kind"][number], record["negative_weight"][number]
        if kind == 100 or ad in record["positive_ad_id"]:
            continue
        if record["negative_served_at_ms"][number] >= day_end_ms:
            continue
        if kind != 0:
            weight *= explicit_boost
        if weight > 0:
            pool[number] = weight
    return pool


def neighbours_of(record: dict[str, Any]) -> dict[int, float]:
    """Candidate neighbours of every anchor of the record: number of the negative → weight."""
    return {
        number: record["negative_weight"][number]
        for number, ad in enumerate(record["negative_ad_id"])
        if record["negative_kind"][number] == 100
        and ad not in record["positive_ad_id"]
        and record["negative_weight"][number] > 0
    }


def check_draws(
    draws: list[dict[str, Any]], record: dict[str, Any], pool: dict[int, float], vocabulary: Vocabulary
) -> list[int]:
    """Hold the draws of an anchor against its pool; returns the numbers drawn."""
    row_of = {int(ad): row for row, ad in enumerate(vocabulary.ad_ids) if row}
    left = dict(pool)
    drawn = []
    for draw in draws:
        if not left:
            assert set(draw.values()) == {0}
            continue
        number = _number_of(draw, record, left)
        assert draw["row"] == row_of.get(record["negative_ad_id"][number], 0)
        assert draw["weight"] == record["negative_weight"][number]
        assert math.isclose(
            draw["log_q"], math.log(left[number] / sum(left.values())), rel_tol=1e-5, abs_tol=1e-6
        )
        del left[number]
        drawn.append(number)
    return drawn


def _number_of(draw: dict[str, Any], record: dict[str, Any], left: dict[int, float]) -> int:
    """Number of the negative that was drawn: the weight identifies it, and the request of a hard one as well."""
    return next(
        number
        for number in left
        if record["negative_weight"][number] == draw["weight"]
        and draw.get("request", record["negative_request_hash"][number])
        == record["negative_request_hash"][number]
    )
