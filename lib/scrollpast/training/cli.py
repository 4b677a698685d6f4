"""The command line of the training job: days and a configuration in, checkpoints out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
import torch.distributed as dist
from pyarrow import fs

from scrollpast.config import Config, Training, load_config
from scrollpast.errors import UserError
from scrollpast.job_commands import mine_command
from scrollpast.shards import filesystem as files
from scrollpast.shards.constant_features import constant_feature_notes
from scrollpast.shards.manifest import MANIFEST_NAME, day_folder
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.shards.vocabulary_of_days import resolve_vocabulary
from scrollpast.training.engine.checkpoint import Checkpoint, best_checkpoint, published_checkpoints
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.engine.distributed import process_group, raise_on_all_ranks
from scrollpast.training.engine.resume import check_finished, checkpoint_to_resume, why_finished
from scrollpast.training.engine.trainer import Trainer, TrainingResult
from scrollpast.training.evaluation.while_training import evaluator_of

ENDED_BY_SIGTERM = 128 + 15
_REASONS = {
    "epochs": "all epochs are done",
    "max_steps": "training.max_steps is reached",
    "early_stop": "no better evaluation came",
}


def train(arguments: argparse.Namespace) -> int:
    """Train as the command line says and print where the checkpoint is; returns the exit code."""
    if not arguments.debug:
        silence_libraries()
    with process_group() as device:
        with raise_on_all_ranks():
            config = load_config(arguments.config, arguments.set)
            options, run_uri = config.training, arguments.out or config.training.path
            if run_uri is None:
                raise UserError(
                    "--out", expected="a folder", found="none", remedy="pass --out or set training.path"
                )
            days = _days(config, arguments.days)
            vocabulary, vocabulary_uri = resolve_vocabulary(days, options.vocabulary)
        for note in constant_feature_notes(vocabulary, vocabulary_uri) if dist.get_rank() == 0 else ():
            print(note, flush=True)
        outcome = train_to_the_end(options, days, vocabulary, vocabulary_uri, run_uri, device)
        if dist.get_rank() == 0:
            print(_summary(outcome, run_uri, options))
    return ENDED_BY_SIGTERM if outcome.reason == "stopped" else 0


def train_to_the_end(
    options: Training,
    days: Sequence[str],
    vocabulary: Vocabulary,
    vocabulary_uri: str,
    run_uri: str,
    device: torch.device,
) -> TrainingResult:
    """Begin a run, or go on from its last checkpoint; a finished run is left alone. All ranks call it together.

    Raises:
        UserError, CorruptShardError, NonFiniteLoss: as `Trainer`, `checkpoint_to_resume` and `check_finished`.
    """
    with raise_on_all_ranks():
        resumed = checkpoint_to_resume(run_uri, options, vocabulary.version)
        outcome = _outcome_before(options, days, resumed)
        evaluator = None if outcome is not None else evaluator_of(options, days, vocabulary, device)
    if outcome is not None:
        return outcome
    if resumed is not None and dist.get_rank() == 0:
        print(f"going on from {resumed.uri}", flush=True)
    facts = {
        "vocabulary": {"uri": files.absolute(vocabulary_uri), "version": vocabulary.version},
        "days": [files.absolute(day) for day in days],
        "num_ranks": dist.get_world_size(),
    }
    run = Trainer(
        options,
        days,
        vocabulary,
        run_uri,
        device,
        facts=facts,
        resumed=resumed,
        evaluator=evaluator,
    )
    return run.train()


def _days(config: Config, named: Sequence[str]) -> list[str]:
    """Folders of the days to train on, in the order of their dates."""
    days = [day_folder(day) for day in named or config.training.days]
    if days:
        return sorted(dict.fromkeys(days), key=lambda day: day.rstrip("/").rsplit("/", 1)[-1])
    root = config.output.path
    if root is None:
        raise UserError(
            "DAY",
            expected="published days to train on",
            found="none",
            remedy="name folders ds=… on the command line or in training.days, or set output.path",
        )
    kept_apart = {day_folder(day) for day in config.training.evaluation.days}
    filesystem, folder = files.resolve(root)
    infos = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    names = sorted(
        info.base_name
        for info in infos
        if info.base_name.startswith("ds=") and files.exists(filesystem, files.join(info.path, MANIFEST_NAME))
    )
    found = [files.join(root, name) for name in names if files.join(root, name) not in kept_apart]
    if not found:
        raise UserError(
            root,
            expected="published days ds=…",
            found="none",
            remedy="mine some: " + mine_command("DATE", 1, root, {}),
        )
    return found


def _outcome_before(
    options: Training, days: Sequence[str], resumed: Checkpoint | None
) -> TrainingResult | None:
    """The outcome of a run that is finished already; None where there is something left to train.

    Raises:
        UserError: as `check_finished`.
    """
    if resumed is None:
        return None
    facts = resumed.facts
    reason = why_finished(
        options,
        step=resumed.step,
        epoch=facts["data"]["epoch"],
        evaluations_since_best=facts["progress"]["evaluations_since_best"],
    )
    if reason is None:
        return None
    check_finished(resumed, options, days, num_ranks=dist.get_world_size())
    return TrainingResult(reason, resumed.step, resumed.uri, is_new=False)


def _summary(outcome: TrainingResult, run_uri: str, options: Training) -> str:
    if outcome.reason == "stopped":
        return (
            f"stopped by SIGTERM after step {outcome.step:,}; saved {outcome.checkpoint_uri}\n"
            "the same command goes on from there"
        )
    steps = f"{outcome.step:,} steps: {_REASONS[outcome.reason]}"
    if outcome.is_new:
        lines = [f"trained {steps}"]
    else:
        lines = [f"{run_uri} is finished already, after {steps}; nothing was trained"]
    best = best_checkpoint(published_checkpoints(run_uri), options.evaluation.metric)
    if best is not None:
        metric = options.evaluation.metric
        lines.append(f"best {metric} {best.facts['metrics'][metric]:.4f} at step {best.step:,}: {best.uri}")
    lines.append(f"last checkpoint {outcome.checkpoint_uri}")
    return "\n".join(lines)
