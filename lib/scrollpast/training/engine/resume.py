"""Resumption of a run: its last checkpoint, the options that may differ from it, and the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scrollpast.config.training_options import Training
from scrollpast.errors import UserError
from scrollpast.shards.reader import ShardReader
from scrollpast.training.engine.checkpoint import FACTS_NAME, Checkpoint, published_checkpoints

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
    "model.compile",
    "checkpoints",
    "evaluation",
)
"""Options that may differ when a run is resumed: places, duration and ranks, which do not change what is learned. The
days and the vocabulary are compared by their content."""

_WITHOUT_EFFECT = (
    "days",
    "vocabulary",
    "path",
    "log_every_steps",
    "pipeline",
    "data.cache_bytes",
    "data.num_workers",
    "data.prefetch_batches",
    "data.verify",
    "model.sharding",
    "model.compile",
    "checkpoints",
)
"""Options that may differ when a finished run is started again: they change the execution of a run, not its result. The
days and the vocabulary are compared by their content."""


def checkpoint_to_resume(run_uri: str, options: Training, vocabulary_version: str) -> Checkpoint | None:
    """Last checkpoint of a run; None for a new run.

    Raises:
        UserError: the checkpoint belongs to another configuration or vocabulary.
    """
    checkpoints = published_checkpoints(run_uri)
    if not checkpoints:
        return None
    last = checkpoints[-1]
    expected = last.facts["vocabulary"]["version"]
    remedy = "use the options and vocabulary of the run, or start a new run in another --out"
    if expected != vocabulary_version:
        raise UserError(
            f"{last.uri}/{FACTS_NAME}",
            expected=f"vocabulary {expected}",
            found=vocabulary_version,
            remedy=f"{remedy} (training.start_from takes over the weights)",
        )
    _check_options(last, options, may_differ=_MAY_CHANGE, remedy=remedy)
    return last


def check_finished(finished: Checkpoint, options: Training, days: Sequence[str], *, num_ranks: int) -> None:
    """Refuse options and days that would change the result of a finished run.

    Args:
        finished: the run's last checkpoint.
        days: folders of the requested days.
        num_ranks: requested ranks; the anchors of a step are compared over all ranks.

    Raises:
        UserError: an option that changes the result, or a record of the days, differs.
        CorruptShardError: a manifest is not readable.
    """
    step_before = finished.facts["config"]["data"]["batch_size"] * finished.facts.get("num_ranks", num_ranks)
    is_same_step = step_before == options.data.batch_size * num_ranks
    _check_options(
        finished,
        options,
        may_differ=(*_WITHOUT_EFFECT, *(("data.batch_size",) if is_same_step else ())),
        remedy="the run is finished and nothing was trained: name another --out for these options "
        "(a larger training.epochs or training.max_steps alone trains the finished run longer)",
    )
    if ShardReader(days).state()["shards"] != finished.facts["data"]["shards"]:
        raise UserError(
            f"{finished.uri}/{FACTS_NAME}",
            expected=f"the unchanged days of the run: {', '.join(finished.facts['days'])}",
            found=f"{', '.join(days)} with other records or revocations",
            remedy="the run is finished and nothing was trained: name another --out to train on these days",
        )


def why_finished(options: Training, *, step: int, epoch: int, evaluations_since_best: int) -> str | None:
    """Reason of the end of a run: "early_stop", "max_steps" or "epochs"; None before the end.

    Args:
        step: steps done.
        epoch: epoch of the next batch.
    """
    patience = options.evaluation.patience
    if patience is not None and evaluations_since_best >= patience:
        return "early_stop"
    if options.max_steps is not None and step >= options.max_steps:
        return "max_steps"
    return "epochs" if epoch >= options.epochs else None


def _check_options(before: Checkpoint, options: Training, *, may_differ: Sequence[str], remedy: str) -> None:
    """Compare all options with those of a checkpoint, except for ``may_differ``, and name every difference.

    Raises:
        UserError: an option differs.
    """
    # An option missing from the checkpoint was added later: the run was trained with its default.
    defaults, asked = (dict(_flat(of.model_dump(mode="json"))) for of in (Training(), options))
    known = {**defaults, **dict(_flat(before.facts["config"]))}
    differing = [
        name
        for name in sorted({*known, *asked})
        if known.get(name) != asked.get(name)
        and not any(name == option or name.startswith(f"{option}.") for option in may_differ)
    ]
    if differing:
        raise UserError(
            f"{before.uri}/{FACTS_NAME}",
            expected=", ".join(f"training.{name}={known.get(name)!r}" for name in differing),
            found=", ".join(f"training.{name}={asked.get(name)!r}" for name in differing),
            remedy=remedy,
        )


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
