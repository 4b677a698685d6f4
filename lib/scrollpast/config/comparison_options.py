"""Options of the comparison of negatives: arms, days, baseline, metrics."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from scrollpast.config.base_model import Section

ArmName = Literal["in_batch", "random", "naive", "filtered", "weighted", "neighbours", "all"]
"""The arms that there are without being described; `scrollpast.training.comparison.arms` says what each one is."""

DaySet = Literal["filtered", "naive", "neighbours"]
"""What days were mined with: the default rules, none of them, or the default rules and nearest neighbours."""

Ratio = Annotated[int, Field(ge=0, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class OwnArm(Section):
    """An arm derived from a built-in one."""

    like: ArmName
    """Built-in arm whose days and negatives it takes over."""
    training: dict[str, Any] = {}
    """Options of ``training`` that differ, such as ``{negatives: {hard: {weight: 0.1}}}``."""


class ComparisonOptions(Section):
    """Comparison of negatives: arms that differ only in their negatives, evaluated on the same later days
    (jobs/compare_negatives.py). All arms share the options of ``training``, except its days and path, which are not
    used.
    """

    path: str | None = None
    """Folder of the runs, their results and the table. Overridden by --out."""
    arms: list[str] = list(get_args(ArmName))
    """Arms to compare, built in or from ``own_arms``. in_batch: only the positives of other anchors. random: those and
    random ads, as every arm below. naive: served ads without an engagement. filtered: served negatives of the default
    rules, all alike. weighted: the same by their weights. neighbours: nearest neighbours. all: weighted and neighbours.
    """
    own_arms: dict[str, OwnArm] = {}
    """Further arms by name, such as ``heavy: {like: weighted, training: {negatives: {hard: {weight: 0.1}}}}``."""
    ratios: list[Ratio] = [0, 1, 2, 4, 8]
    """Draws of the user's own negatives for one positive. An arm with own negatives is trained with each ratio; ratio 0
    is the arm ``random``."""
    seeds: list[Seed] = [0, 1, 2]
    """Seeds of the first weights, the order and the draws. Every arm is trained with each, and intervals include the
    difference between seeds; more seeds narrow them."""
    baseline: str = "random"
    """Arm that all others are compared with: in_batch, random, or an arm and a ratio, such as naive@2."""
    days: dict[DaySet, list[str]] = {}
    """Published days to train on, by the rules that they were mined with: ``{filtered: […], naive: […], neighbours:
    […]}``. Overridden by --days."""
    evaluation_days: list[str] = []
    """Published days to evaluate on, later than the training days. Overridden by --evaluate."""
    max_users: int | None = Field(None, ge=1)
    """Users of the evaluation, chosen by a hash; null = all."""
    metrics: list[str] = ["recall@10", "recall@100", "ndcg@100", "auc"]
    """Metrics of the verdicts. All share the 5 % of error: each further metric widens every interval a little."""

    @field_validator("arms", "ratios", "seeds", "metrics")
    @classmethod
    def _once_each(cls, values: list[Any]) -> list[Any]:
        if not values or len(set(values)) < len(values):
            raise ValueError(f"must name one or more, each once, got {values}")
        return values

    @field_validator("own_arms")
    @classmethod
    def _plain_names(cls, arms: dict[str, OwnArm]) -> dict[str, OwnArm]:
        for name in arms:
            # It names folders, and stands before an @ and a ratio.
            if not re.fullmatch(r"[a-z0-9_]{1,18}", name) or name in get_args(ArmName):
                raise ValueError(
                    f"must name arms in 1 to 18 of a-z, 0-9 and _, otherwise than the built-in ones, got {name!r}"
                )
        return arms

    @model_validator(mode="after")
    def _known_arms(self) -> ComparisonOptions:
        known = [*get_args(ArmName), *self.own_arms]
        for name in self.arms:
            if name not in known:
                raise ValueError(f"must hold in arms some of {', '.join(known)}, got {name!r}")
        return self
