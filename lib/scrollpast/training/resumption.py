"""What a run goes on from, and which options may be others then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scrollpast.config.training_options import Training
from scrollpast.errors import UserError
from scrollpast.training.checkpoint import FACTS_NAME, Checkpoint, published_checkpoints
from scrollpast.training.data.options import DataOptions

_MAY_CHANGE = (
    "days",
    "vocabulary",
    "path",
    "start_from",
    "epochs",
    "max_steps",
    "log_every_steps",
    "pipeline",
    "data.batch_size",
    "data.num_lanes",
    "data.cache_bytes",
    "data.num_workers",
    "data.prefetch_batches",
    "data.verify",
    "model.sharding",
    "model.precision",
    "model.logits_precision",
    "model.is_compiled",
    "checkpoints",
    "evaluation",
)
"""Options that a resumed run may have otherwise: they say where things are, how long to train and on how many
ranks, but not what is learned. The days and the vocabulary are compared by what they hold."""


def data_options(options: Training) -> DataOptions:
    """How a run's batches are read."""
    negatives = options.negatives
    return DataOptions(
        **options.data.model_dump(),
        seed=options.seed,
        num_hard=negatives.hard.count if negatives.hard.enabled else 0,
        is_hard_drawn_by_weight=negatives.hard.is_drawn_by_weight,
        num_neighbours=negatives.neighbour.count if negatives.neighbour.enabled else 0,
    )


def checkpoint_to_resume(run_uri: str, options: Training, vocabulary_version: str) -> Checkpoint | None:
    """The last checkpoint of a run; None where there is none, and the run begins.

    Raises:
        UserError: the checkpoint is that of another configuration or vocabulary.
    """
    checkpoints = published_checkpoints(run_uri)
    if not checkpoints:
        return None
    last = checkpoints[-1]
    expected = last.facts["vocabulary"]["version"]
    remedy = "go on with what the run began with, or begin another one in another --out"
    if expected != vocabulary_version:
        raise UserError(
            f"{last.uri}/{FACTS_NAME}",
            expected=f"vocabulary {expected}",
            found=vocabulary_version,
            remedy=f"{remedy} (training.start_from takes over the weights)",
        )
    # An option that the checkpoint does not know is younger than it: it was trained as by default.
    defaults, now = (dict(_flat(of.model_dump(mode="json"))) for of in (Training(), options))
    before = {**defaults, **dict(_flat(last.facts["config"]))}
    for name in sorted({*before, *now}):
        if not _may_change(name) and before.get(name) != now.get(name):
            raise UserError(
                f"training.{name}",
                expected=f"{before.get(name)!r} as in {last.uri}",
                found=repr(now.get(name)),
                remedy=remedy,
            )
    return last


def why_finished(options: Training, *, step: int, epoch: int, evaluations_since_best: int) -> str | None:
    """Why a run is over: "early_stop", "max_steps" or "epochs"; None while it is not.

    Args:
        step: steps done.
        epoch: that of the next batch.
    """
    patience = options.evaluation.patience
    if patience is not None and evaluations_since_best >= patience:
        return "early_stop"
    if options.max_steps is not None and step >= options.max_steps:
        return "max_steps"
    return "epochs" if epoch >= options.epochs else None


def _may_change(name: str) -> bool:
    return any(name == option or name.startswith(f"{option}.") for option in _MAY_CHANGE)


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
