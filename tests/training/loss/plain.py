"""The loss and its sources written plainly: one candidate at a time, in float64, no masks but `if`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

Candidate = tuple[torch.Tensor, float, str]
"""An embedding, what is added to its logit, and the source."""


@dataclass
class Batch:
    """Anchors of one rank and what they are contrasted with, as lists."""

    users: list[int]
    rows: list[int]
    requests: list[int]
    known: list[list[int]]
    weights: list[float]
    hard_rows: list[list[int]]
    hard_weights: list[list[float]]
    hard_requests: list[list[int]]
    hard_log_q: list[list[float]]

    def tensor(self, name: str, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor(getattr(self, name), dtype=dtype)

    def known_tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [row for rows in self.known for row in rows]
        return torch.tensor(rows, dtype=torch.int64), torch.tensor([len(rows) for rows in self.known])


def random_batch(seed: int, num_anchors: int, num_hard: int, num_rows: int) -> Batch:
    """Few users, ads and requests, so that every mask has something to do; some hard negatives are absent."""
    draw = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, *shape: int) -> list[Any]:
        return torch.randint(low, high, shape, generator=draw).tolist()

    rows = integers(0, num_rows, num_anchors)
    present = integers(0, num_hard + 1, num_anchors)
    hard_weights = torch.rand(num_anchors, num_hard, generator=draw, dtype=torch.float64).clamp(min=0.05)
    hard_log_q = -3 * torch.rand(num_anchors, num_hard, generator=draw, dtype=torch.float64)
    for anchor, count in enumerate(present):
        hard_weights[anchor, count:] = 0
        hard_log_q[anchor, count:] = 0
    return Batch(
        users=integers(0, max(2, num_anchors // 2), num_anchors),
        rows=rows,
        requests=integers(0, num_anchors, num_anchors),
        known=[
            [row, *integers(0, num_rows, count)]
            for row, count in zip(rows, integers(0, 4, num_anchors), strict=True)
        ],
        weights=[0.0 if number == 0 else number / 4 for number in integers(0, 5, num_anchors)],
        hard_rows=integers(0, num_rows, num_anchors, num_hard),
        hard_weights=hard_weights.tolist(),
        hard_requests=integers(0, num_anchors, num_anchors, num_hard),
        hard_log_q=hard_log_q.tolist(),
    )  # fmt: skip


def is_draw(batch: Batch, anchor: int, other: int, rule: dict[str, bool]) -> bool:
    """True if the anchor ``other`` is an in-batch negative of ``anchor``, by its user and request."""
    if other == anchor:
        return False
    if rule["same_user"] and batch.users[other] == batch.users[anchor]:
        return False
    is_request = batch.requests[other] == batch.requests[anchor] and batch.requests[other] != 0
    return not (rule["same_request"] and is_request)


def is_positive(batch: Batch, anchor: int, row: int, rule: dict[str, bool]) -> bool:
    return row == batch.rows[anchor] or (rule["known"] and row in batch.known[anchor])


def in_batch(
    batch: Batch,
    anchor: int,
    ads: torch.Tensor,
    log_q: list[float] | None,
    weight: float,
    rule: dict[str, bool],
) -> Iterator[Candidate]:
    others = [other for other in range(len(batch.rows)) if is_draw(batch, anchor, other, rule)]
    for other in others:
        row = batch.rows[other]
        if not is_positive(batch, anchor, row, rule):
            offset = math.log(weight)
            if log_q is not None:
                offset -= math.log(len(others) * math.exp(log_q[row]))
            yield ads[other], offset, "in_batch"


def random_ads(
    batch: Batch,
    anchor: int,
    drawn: list[int],
    ads: torch.Tensor,
    log_q: list[float] | None,
    weight: float,
    rule: dict[str, bool],
) -> Iterator[Candidate]:
    for at, row in enumerate(drawn):
        if not is_positive(batch, anchor, row, rule):
            offset = math.log(weight)
            if log_q is not None:
                offset -= math.log(len(drawn) * math.exp(log_q[row]))
            yield ads[at], offset, "random"


def hard(
    batch: Batch,
    anchor: int,
    ads: torch.Tensor,
    weight: float,
    rule: dict[str, bool],
    correction: str,
    weighted: bool,
    log_q: list[float],
) -> Iterator[Candidate]:
    present = [at for at, sure in enumerate(batch.hard_weights[anchor]) if sure > 0]
    for at in present:
        row, request = batch.hard_rows[anchor][at], batch.hard_requests[anchor][at]
        if is_positive(batch, anchor, row, rule):
            continue
        if rule["hard_request"] and request == batch.requests[anchor] and request != 0:
            continue
        times = weight
        if weighted:
            times *= batch.hard_weights[anchor][at]
        if correction == "pool":
            # Draw k is in the k-th estimate of the sum with 1 / Q, and in every later one with 1.
            estimates = [1 / math.exp(batch.hard_log_q[anchor][at])] + [1 for later in present if later > at]
            times *= sum(estimates) / len(present)
        if correction == "uniform":
            times *= (len(log_q) - 1) / len(present)
        if correction == "popularity":
            times /= len(present) * math.exp(log_q[row])
        yield ads[at], math.log(times), "hard"


def loss_of(
    user: torch.Tensor,
    positive: torch.Tensor,
    scale: torch.Tensor,
    offset: float,
    candidates: list[Candidate],
) -> tuple[torch.Tensor, dict[str, float]]:
    """One anchor: −log of the positive's share, and the share of every source."""
    score = scale * sum(user[d] * positive[d] for d in range(len(user))) + offset
    total = torch.exp(score)
    parts: dict[str, float] = {}
    for ad, added, source in candidates:
        part = torch.exp(scale * sum(user[d] * ad[d] for d in range(len(user))) + added)
        parts[source] = parts.get(source, 0.0) + float(part.detach())
        total = total + part
    return torch.log(total) - score, {source: part / float(total.detach()) for source, part in parts.items()}
