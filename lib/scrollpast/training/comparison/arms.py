"""Arms of a comparison, and the training options of each arm.

All arms share the anchors and all other options of ``training``; they differ in their negatives only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from scrollpast.config import ComparisonOptions, Config, Training
from scrollpast.config.validation_errors import explain
from scrollpast.errors import UserError

RANDOM = "random"
"""Arm that equals every other arm at ratio 0."""

_OFF = {"enabled": False}
_EASY = {"in_batch": {"enabled": True}, "random": {"enabled": True}, "hard": _OFF, "neighbour": _OFF}
_NO_SERVED_TERMS = {"served": {"weight": 0}, "exposure": {"weight": 0}}
"""Served negatives of an arm are those of its sources alone; an own arm may set a term's weight."""
_ALIKE = {"enabled": True, "is_weighted": False, "sample_by_weight": False}
_BY_WEIGHT = {"enabled": True, "is_weighted": True, "sample_by_weight": True}


@dataclass(frozen=True)
class Arm:
    """Arm: a name, days and training options."""

    name: str
    days: tuple[str, ...]
    """Sets of days that the arm can use, the preferred set first."""
    sources: tuple[str, ...]
    """Sources of the user's own negatives; each draws ``ratio`` negatives. None: the arm has ratio 0 only."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``training`` that differ from the configuration's."""


def _arm(name: str, days: tuple[str, ...], **sources: Mapping[str, Any]) -> Arm:
    own = tuple(source for source in ("hard", "neighbour") if sources.get(source, _OFF)["enabled"])
    return Arm(name, days, own, {"negatives": {**_EASY, **sources}, "loss": _NO_SERVED_TERMS})


# The first two arms draw no own negatives: they use any given days.
_ANY = ("filtered", "naive", "neighbours")
BUILT_IN = {
    arm.name: arm
    for arm in (
        _arm("in_batch", _ANY, random=_OFF),
        _arm(RANDOM, _ANY),
        _arm("naive", ("naive",), hard=_ALIKE),
        _arm("filtered", ("filtered",), hard=_ALIKE),
        _arm("weighted", ("filtered",), hard=_BY_WEIGHT),
        _arm("neighbours", ("neighbours",), neighbour={"enabled": True}),
        _arm("all", ("neighbours",), hard=_BY_WEIGHT, neighbour={"enabled": True}),
    )
}
"""Built-in arms, in the order of the table."""


@dataclass(frozen=True, order=True)
class Cell:
    """Arm at a ratio: one line of the table."""

    arm: str
    ratio: int
    """Draws of each of the arm's own sources for one positive."""

    @property
    def name(self) -> str:
        """``weighted@2``; the name of the arm alone for in_batch and random, which have no ratio."""
        return f"{self.arm}@{self.ratio}" if self.ratio else self.arm


@dataclass(frozen=True)
class Skipped:
    """Requested arm that is not compared."""

    arm: str
    reason: str


@dataclass(frozen=True)
class Planned:
    """Arms to train, in the order of the table, and arms that are skipped."""

    arms: Mapping[str, Arm]
    cells: tuple[Cell, ...]
    baseline: Cell
    skipped: tuple[Skipped, ...]


def plan(options: ComparisonOptions, day_sets: Collection[str]) -> Planned:
    """Plan the cells of a comparison.

    Built-in arms come first, in the order of `BUILT_IN`, then the configuration's own arms.

    Args:
        day_sets: names of the given sets of days.

    Raises:
        UserError: no arm is left to compare, or the baseline is not among the cells.
    """
    known = {**BUILT_IN, **{name: _own(name, options) for name in options.own_arms}}
    wanted = [name for name in known if name in options.arms]
    skipped, cells = [], set()
    for name in wanted:
        arm = known[name]
        if not set(arm.days) & set(day_sets):
            needed = " or ".join(arm.days)
            skipped.append(
                Skipped(name, f"the arm needs days of the set {needed}, and no such days are given")
            )
        elif not arm.sources:
            cells.add(Cell(name, 0))
        else:
            # Without own draws every arm equals the arm `random`, which is trained once.
            cells |= {Cell(name, ratio) if ratio else Cell(RANDOM, 0) for ratio in options.ratios}
    order = list(known)
    ordered = tuple(sorted(cells, key=lambda cell: (order.index(cell.arm), cell.ratio)))
    baseline = next((cell for cell in ordered if options.baseline == cell.name), None)
    if baseline is None:
        raise UserError(
            f"comparison.baseline {options.baseline}",
            expected=f"one of {', '.join(cell.name for cell in ordered) or 'the arms that have days'}",
            found="none of them",
            remedy="pass --baseline with one of these, or add the baseline's arm to --arms, ratio to --ratios "
            "and days to --days",
        )
    if len(ordered) < 2:
        raise UserError(
            "comparison.arms",
            expected=f"an arm to compare with {baseline.name}",
            found="nothing else",
            remedy="name more arms in --arms, ratios in --ratios, or days in --days",
        )
    return Planned({cell.arm: known[cell.arm] for cell in ordered}, ordered, baseline, tuple(skipped))


def training_of(training: Training, arm: Arm, ratio: int, seed: int) -> Training:
    """Training options of an arm.

    Raises:
        UserError: a configured arm names an unknown option, or an invalid value.
    """
    draws = {source: {"count": ratio} for source in arm.sources}
    for changes in (arm.changes, {"negatives": draws, "seed": seed}):
        options = _merged(training.model_dump(mode="json"), changes)
        try:
            training = Config.model_validate({"training": options}).training
        except ValidationError as error:
            raise explain(error, f"comparison.own_arms.{arm.name}", set()) from None
    return training


def _own(name: str, options: ComparisonOptions) -> Arm:
    own = options.own_arms[name]
    like = BUILT_IN[own.like]
    return Arm(name, like.days, like.sources, _merged(like.changes, own.training))


def _merged(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the changes applied, section by section."""
    merged = dict(options)
    for name, value in changes.items():
        before = merged.get(name)
        is_section = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[name] = _merged(before, value) if is_section else value  # type: ignore[arg-type]
    return merged
