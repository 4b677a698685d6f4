"""Runs of a comparison: each run is trained, measured and written as a result, unless its result exists.

Runs are sequential in one process (or on the ranks of torchrun), which reads the later days and imports PyTorch once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from scrollpast.config import ComparisonOptions, Training
from scrollpast.errors import ScrollpastError
from scrollpast.shards import filesystem as files
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.cli import train_to_the_end
from scrollpast.training.comparison.arms import Cell, Planned, training_of
from scrollpast.training.comparison.day_sets import DaySets
from scrollpast.training.comparison.results import Result, is_there, result_name, run_folder
from scrollpast.training.engine.checkpoint import chosen_checkpoint
from scrollpast.training.engine.distributed import raise_on_all_ranks
from scrollpast.training.evaluation.held_out import HeldOut, read_held_out
from scrollpast.training.evaluation.ranking import Embeddings
from scrollpast.training.evaluation.report import measure
from scrollpast.training.model.embedding import embed_ads, embed_users, read_towers


@dataclass(frozen=True)
class PlannedRun:
    """Run with the places of its files."""

    cell: Cell
    options: Training
    days: tuple[str, ...]
    folder: str
    result: str


def planned_runs(
    planned: Planned,
    training: Training,
    options: ComparisonOptions,
    days: DaySets,
    vocabulary: Vocabulary,
    out: str,
) -> list[PlannedRun]:
    """All runs in order: every arm with the first seed, then every arm with the next seed.

    Raises:
        UserError: a configured arm has invalid options.
    """
    name = result_name(options, training.evaluation.exposure_clip, days.evaluation, days.history)
    runs = []
    for seed in sorted(options.seeds):
        for cell in planned.cells:
            arm = planned.arms[cell.arm]
            own, of_arm = training_of(training, arm, cell.ratio, seed), days.of(arm)
            folder = run_folder(out, cell, own, of_arm, vocabulary.version, num_ranks=dist.get_world_size())
            runs.append(PlannedRun(cell, own, of_arm, folder, files.join(folder, name)))
    return runs


class Execution:
    """Execution of unfinished runs. All ranks have an instance with the same arguments."""

    def __init__(
        self,
        options: ComparisonOptions,
        days: DaySets,
        vocabulary: Vocabulary,
        vocabulary_uri: str,
        device: torch.device,
    ) -> None:
        self._options, self._days, self._device = options, days, device
        self._vocabulary, self._vocabulary_uri = vocabulary, vocabulary_uri
        self._held_out: dict[tuple[int, int, bool, float], HeldOut] = {}
        self._is_first = dist.get_rank() == 0

    def finish(self, runs: list[PlannedRun]) -> bool:
        """Train and measure runs without a result; returns False after SIGTERM.

        Raises:
            ScrollpastError: a run failed; the results of earlier runs stay.
        """
        for number, run in enumerate(runs, 1):
            name = f"{run.cell.name}, seed {run.options.seed} ({number} of {len(runs)})"
            if _agreed(is_there(run.result)):
                self._say(f"{name}: kept {run.result}")
                continue
            self._say(f"{name}: training in {run.folder}")
            outcome = train_to_the_end(
                run.options, run.days, self._vocabulary, self._vocabulary_uri, run.folder, self._device
            )
            if outcome.reason == "stopped":
                return False
            self._measure(run, outcome.step)
        return True

    def _measure(self, run: PlannedRun, step: int) -> None:
        with raise_on_all_ranks():
            checkpoint = chosen_checkpoint(run.folder, run.options.evaluation.metric)
            towers, held_out = read_towers(checkpoint, self._vocabulary), self._later_users(run)
        # On the CPU, as in the evaluation job: metrics do not depend on the device of the training.
        device = torch.device("cpu")
        users, ads = (
            embed_users(towers, held_out, self._vocabulary, device),
            embed_ads(towers, self._vocabulary, device),
        )
        with raise_on_all_ranks():
            if self._is_first:
                numbers = measure(Embeddings(users, ads), held_out, self._vocabulary)
                facts = {
                    "arm": run.cell.arm,
                    "ratio": run.cell.ratio,
                    "seed": run.options.seed,
                    "steps": step,
                    "checkpoint": checkpoint.uri,
                    "num_new_users": int(held_out.is_new.sum()),
                    "num_ads": self._vocabulary.num_rows - 1,
                }
                Result(facts, held_out.user_id, numbers).write(run.result)

    def _later_users(self, run: PlannedRun) -> HeldOut:
        """The users to measure on: read once, as long as arms look at lists of the same length."""
        data = run.options.data
        clip = run.options.evaluation.exposure_clip
        key = (data.max_history, data.max_passed, data.merge_repeats, clip)
        if key not in self._held_out:
            self._held_out = {
                key: read_held_out(
                    self._days.history,
                    self._days.evaluation,
                    self._vocabulary,
                    data=data,
                    max_users=self._options.max_users,
                    exposure_clip=clip,
                )
            }
        return self._held_out[key]

    def _say(self, text: str) -> None:
        if self._is_first:
            print(text, flush=True)


def read_results(runs: Sequence[PlannedRun]) -> list[Result]:
    """Read the results of finished runs, which have to cover the same users.

    Raises:
        CorruptShardError: a file is not a result.
        ScrollpastError: the users of two results differ.
    """
    results = [Result.read(run.result) for run in runs]
    for run, result in zip(runs, results, strict=True):
        if not np.array_equal(result.user_id, results[0].user_id):
            raise ScrollpastError(
                run.result,
                expected=f"the users of {runs[0].result}",
                found="others",
                remedy="move the file away and run again to compute it",
            )
    return results


def _agreed(value: bool) -> bool:
    """Value of the first rank on all ranks: other ranks may not see a file that the first rank has just written."""
    values = [value]
    if dist.get_world_size() > 1:
        dist.broadcast_object_list(values)
    return values[0]
