"""Comparison of a new model with the current model on the same users of the same later days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrollpast.config.training_options import TrainingData
from scrollpast.training.comparison.verdicts import Judged, judge
from scrollpast.training.engine.checkpoint import Checkpoint, vocabulary_of
from scrollpast.training.evaluation.bootstrap import FEWEST_USERS, WORSE
from scrollpast.training.evaluation.held_out import read_held_out
from scrollpast.training.evaluation.metric_registry import maximised
from scrollpast.training.evaluation.ranking import Embeddings
from scrollpast.training.evaluation.report import measure
from scrollpast.training.model.embedding import embed_ads, embed_users, read_towers

NEW, CURRENT = "new", "current"


@dataclass(frozen=True, eq=False)
class Measured:
    """Metrics of the users of later days with one model."""

    user_id: NDArray[np.int64]
    """int64 [U], ascending"""
    numbers: Mapping[str, NDArray[np.float64]]
    """float64 [U] by metric; NaN where a user lacks the metric"""


def measure_checkpoint(
    checkpoint: Checkpoint,
    days: Sequence[str],
    history: Sequence[str],
    metrics: Sequence[str],
    *,
    max_users: int | None = None,
) -> Measured:
    """Measure a checkpoint on later days.

    Args:
        history: days of the users' histories, the same for both models: a serving model reads engagements after its
            training too.
        max_users: number of users, chosen by a hash.

    Raises:
        UserError: the days are not later, the vocabulary differs, no user is left, or a metric is unknown.
        ScrollpastError: the checkpoint cannot be read.
    """
    for name in metrics:
        maximised(name, "--metric")
    vocabulary = vocabulary_of(checkpoint, None)
    data = TrainingData.model_validate(checkpoint.facts["config"]["data"])
    held_out = read_held_out(history, days, vocabulary, data=data, max_users=max_users)
    towers, device = read_towers(checkpoint, vocabulary), torch.device("cpu")
    users, ads = embed_users(towers, held_out, vocabulary, device), embed_ads(towers, vocabulary, device)
    numbers = measure(Embeddings(users, ads), held_out, vocabulary)
    return Measured(held_out.user_id, {name: numbers[name] for name in metrics})


@dataclass(frozen=True, eq=False)
class Contest:
    """Differences of a new model from the current one, metric by metric."""

    num_users: int
    """Number of users measured with both models"""
    current: Mapping[str, Judged | None]
    new: Mapping[str, Judged | None]
    """Metrics of the new model; differences and verdicts are relative to the current model"""

    @staticmethod
    def of(new: Measured, current: Measured | None) -> Contest:
        """Compare a new model with the current model, if any, by a paired bootstrap over users.

        The users are those measured with both models. An ad in only one of the two vocabularies counts as a miss of the
        other model, also where the user engaged with the ad before.
        """
        numbers = {}
        common = new.user_id if current is None else np.intersect1d(new.user_id, current.user_id)
        for name, measured in ((NEW, new), *(((CURRENT, current),) if current is not None else ())):
            is_common = np.isin(measured.user_id, common)
            for metric, values in measured.numbers.items():
                numbers[name, metric] = values[is_common][None]
        judged = judge(numbers, NEW if current is None else CURRENT)
        of = {
            name: {metric: found for (arm, metric), found in judged.items() if arm == name}
            for name in (NEW, CURRENT)
        }
        return Contest(len(common), of[CURRENT], of[NEW])

    def why_not(self, largest_loss: float) -> str | None:
        """Reason against replacing the current model by the new model; None where the replacement is allowed.

        The replacement is refused where the new model is shown to be worse (joint 95 % intervals of all metrics), or
        where its loss exceeds ``largest_loss``, shown or not.

        Args:
            largest_loss: relative loss of the current model's value that is allowed unless it is shown.
        """
        reasons = []
        for metric, judged in self.new.items():
            before = self.current.get(metric)
            if judged is None or before is None or (difference := judged.difference) is None:
                continue
            low, high = difference.joint_interval.low, difference.joint_interval.high
            if difference.verdict == WORSE:
                reasons.append(f"{metric} is worse by {-difference.value:.4f} [{low:+.4f}, {high:+.4f}]")
            elif difference.value < -largest_loss * before.value:
                lost = -difference.value / before.value
                reasons.append(
                    f"{metric} loses {lost:.1%} of {before.value:.4f}, more than {largest_loss:.1%}"
                )
        return "; ".join(reasons) or None

    def to_json(self) -> dict[str, Any]:
        """Metrics of the new model, each with its difference from the current model."""
        found: dict[str, Any] = {}
        for metric, judged in self.new.items():
            found[metric] = judged and {
                "value": judged.value,
                "low": judged.interval.low,
                "high": judged.interval.high,
                "num_users": judged.num_users,
                "difference": judged.difference
                and {
                    "value": judged.difference.value,
                    "low": judged.difference.joint_interval.low,
                    "high": judged.difference.joint_interval.high,
                    "verdict": judged.difference.verdict,
                },
            }
        return found

    def table(self) -> str:
        """Text table with one line for each metric."""
        lines = [
            f"{f'{self.num_users:,} users':<28}{'new':>8}{'current':>10}{'difference':>12}{'95 %':>20}  verdict"
        ]
        for metric, judged in self.new.items():
            before = self.current.get(metric)
            line = f"  {metric:<26}" + (f"{judged.value:>8.4f}" if judged else f"{'–':>8}")
            if judged is not None and before is not None and (difference := judged.difference) is not None:
                joint = f"[{difference.joint_interval.low:+.4f}, {difference.joint_interval.high:+.4f}]"
                line += f"{before.value:>10.4f}{difference.value:>+12.4f}{joint:>20}  {difference.verdict}"
            lines.append(line)
        if self.num_users < FEWEST_USERS:
            lines.append(f"  fewer than {FEWEST_USERS} users show nothing: only --largest-loss decides")
        return "\n".join(lines)
