"""Command line of the publication: compares a new model, and writes ``current.json`` unless the model is worse."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from scrollpast.errors import UserError
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import day_folder, read_manifest
from scrollpast.training.engine.checkpoint import Checkpoint, chosen_checkpoint
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.publication.champion_challenger import Contest, measure_checkpoint
from scrollpast.training.publication.current import CurrentModel


def publish_model(arguments: argparse.Namespace) -> int:
    """Compare with the given arguments, publish the new model unless it is worse, and print; returns the exit code."""
    if not arguments.debug:
        silence_libraries()
    checkpoint = chosen_checkpoint(files.absolute(arguments.model), arguments.metric[0])
    days = [files.absolute(day_folder(day)) for day in arguments.days]
    current = CurrentModel.read(arguments.models)
    until = _trained_until(checkpoint)
    if current is not None and current.checkpoint == checkpoint.uri:
        print(f"{checkpoint.uri} is the current model already; nothing was done")
        return 0
    is_older = current is not None and _moment(until) < _moment(current.trained_until)
    if current is not None and is_older and not arguments.force:
        print(
            f"kept {current.checkpoint}: it is trained until {current.trained_until}, "
            f"{checkpoint.uri} until {until}; --force goes back"
        )
        return 0
    contest = _contest(checkpoint, current, days, arguments)
    print(f"{checkpoint.uri} on {', '.join(days)}\n{contest.table()}")
    reason = contest.why_not(arguments.largest_loss)
    if reason is not None and current is not None and not arguments.force:
        print(f"kept {current.checkpoint}: {reason}")
        return 0
    _check_unmoved(arguments.models, current)
    published = CurrentModel(
        checkpoint=checkpoint.uri,
        trained_on=tuple(checkpoint.facts["days"]),
        trained_until=until,
        vocabulary=checkpoint.facts["vocabulary"],
        evaluated_on=tuple(days),
        metrics=contest.to_json(),
        replaced=current.checkpoint if current is not None else None,
        published_at=datetime.now(UTC).isoformat(timespec="seconds"),
    ).write(arguments.models)
    instead = f" instead of {current.checkpoint}" if current is not None else ""
    print(f"published {published}: {checkpoint.uri}{instead}")
    return 0


def _contest(
    checkpoint: Checkpoint, current: CurrentModel | None, days: list[str], arguments: argparse.Namespace
) -> Contest:
    history, metrics = checkpoint.facts["days"], arguments.metric
    new = measure_checkpoint(checkpoint, days, history, metrics, max_users=arguments.max_users)
    if current is None or arguments.force:
        # --force has to work where the current model is corrupt or missing.
        return Contest.of(new, None)
    before = Checkpoint.read(current.checkpoint)
    return Contest.of(new, measure_checkpoint(before, days, history, metrics, max_users=arguments.max_users))


def _trained_until(checkpoint: Checkpoint) -> str:
    return max((read_manifest(day).window_end for day in checkpoint.facts["days"]), key=_moment)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _check_unmoved(models: str, seen: CurrentModel | None) -> None:
    """Check that the current model is still the compared model."""
    now = CurrentModel.read(models)
    if now != seen:
        raise UserError(
            files.join(models, "current.json"),
            expected=f"{seen.checkpoint}, which was compared with" if seen else "no current model",
            found=now.checkpoint if now else "none",
            remedy="another publication replaced it meanwhile; run again to compare with the new current model",
        )
