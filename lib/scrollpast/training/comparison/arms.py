"""The arms of a comparison, and the options of training that each of them is trained with.

All arms have the anchors and everything else of ``training`` in common; they differ in their negatives alone.
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
"""The arm that every other one is at ratio 0."""

_OFF = {"enabled": False}
_EASY = {"in_batch": {"enabled": True}, "random": {"enabled": True}, "hard": _OFF, "neighbour": _OFF}
_ALIKE = {"enabled": True, "is_weighted": False, "sample_by_weight": False}
_BY_WEIGHT = {"enabled": True, "is_weighted": True, "sample_by_weight": True}


@dataclass(frozen=True)
class Arm:
    """A name, and what it trains with."""

    name: str
    days: tuple[str, ...]
    """Sets of days that serve it, the preferred one first."""
    sources: tuple[str, ...]
    """Sources of the user's own negatives; each draws as many as the ratio says. None: it has no ratio but 0."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``training`` that differ from the configuration's."""


def _arm(name: str, days: tuple[str, ...], **sources: Mapping[str, Any]) -> Arm:
    own = tuple(source for source in ("hard", "neighbour") if sources.get(source, _OFF)["enabled"])
    return Arm(name, days, own, {"negatives": {**_EASY, **sources}})


# Negatives that are not drawn do not matter: the first two take the days that there are.
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
"""In the order of the table."""


@dataclass(frozen=True, order=True)
class Cell:
    """An arm at a ratio: one line of the table."""

    arm: str
    ratio: int
    """Draws of each of the arm's own sources for one positive."""

    @property
    def name(self) -> str:
        """``weighted@2``; in_batch and random, which have no ratio, by their names alone."""
        return f"{self.arm}@{self.ratio}" if self.ratio else self.arm


@dataclass(frozen=True)
class Skipped:
    """An arm that was asked for and is not compared."""

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
    """The cells of a comparison.

    The arms come in the order of `BUILT_IN`, then the configuration's own, whatever order they are named in.

    Args:
        day_sets: names of the sets of days that there are.

    Raises:
        UserError: nothing is left to compare, or the baseline is none of the cells.
    """
    known = {**BUILT_IN, **{name: _own(name, options) for name in options.own_arms}}
    wanted = [name for name in known if name in options.arms]
    skipped, cells = [], set()
    for name in wanted:
        arm = known[name]
        if not set(arm.days) & set(day_sets):
            needed = " or ".join(arm.days)
            skipped.append(Skipped(name, f"it needs days of the set {needed}, and none are given"))
        elif not arm.sources:
            cells.add(Cell(name, 0))
        else:
            # Without draws of its own an arm is the one that has none: it is trained once for all of them.
            cells |= {Cell(name, ratio) if ratio else Cell(RANDOM, 0) for ratio in options.ratios}
    order = list(known)
    ordered = tuple(sorted(cells, key=lambda cell: (order.index(cell.arm), cell.ratio)))
    baseline = next((cell for cell in ordered if options.baseline == cell.name), None)
    if baseline is None:
        raise UserError(
            f"comparison.baseline {options.baseline}",
            expected=f"one of {', '.join(cell.name for cell in ordered) or 'the arms that have days'}",
            found="none of them",
            remedy="choose one with --baseline, or name its arm in --arms, its ratio in --ratios, its days in --days",
        )
    if len(ordered) < 2:
        raise UserError(
            "comparison.arms",
            expected=f"something to hold against {baseline.name}",
            found="nothing else",
            remedy="name more arms in --arms, ratios in --ratios, or days in --days",
        )
    return Planned({cell.arm: known[cell.arm] for cell in ordered}, ordered, baseline, tuple(skipped))


def training_of(training: Training, arm: Arm, ratio: int, seed: int) -> Training:
    """The options that an arm is trained with.

    Raises:
        UserError: an arm of the configuration's own names an option that there is not, or a value that does not fit.
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
    """The options with the changes over them, section by section."""
    merged = dict(options)
    for name, value in changes.items():
        before = merged.get(name)
        is_section = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[name] = _merged(before, value) if is_section else value  # type: ignore[arg-type]
    return merged
