"""Baselines of a comparison, measured on its users and left as results.

    OUT/baselines/<name>/vocabulary=<version>/result-<digest>.parquet

A baseline depends on no seed and on no option of training: it is fitted and measured once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch.distributed as dist

from scrollpast.config import ComparisonOptions, Training
from scrollpast.errors import UserError
from scrollpast.shards import filesystem as files
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.comparison.day_sets import DaySets
from scrollpast.training.comparison.results import Result, is_there, result_name
from scrollpast.training.engine.distributed import raise_on_all_ranks
from scrollpast.training.evaluation.baselines.baseline import Baseline
from scrollpast.training.evaluation.baselines.past import read_past
from scrollpast.training.evaluation.baselines.registry import BASELINES, measure_baselines
from scrollpast.training.evaluation.held_out import read_held_out


def refuse_own_arms_named_as_baselines(options: ComparisonOptions) -> None:
    """Check that a line of the table has one meaning.

    Raises:
        UserError: an arm of the configuration has the name of a baseline.
    """
    for name in options.own_arms:
        if name in BASELINES:
            raise UserError(
                f"comparison.own_arms.{name}",
                expected="a name that no baseline has",
                found=f"a baseline's ({', '.join(BASELINES.names)})",
                remedy="give the arm another name",
            )


def measured_baselines(
    options: ComparisonOptions, training: Training, days: DaySets, vocabulary: Vocabulary, out: str
) -> tuple[dict[str, Result], list[str]]:
    """Results of all baselines by name, and notes on those that are skipped. All ranks call this function together.

    Raises:
        UserError, CorruptShardError: as `read_held_out` and `read_past`.
    """
    name = result_name(options, training.evaluation.exposure_clip, days.evaluation, days.history)
    uris = {
        baseline.name: files.join(
            out, "baselines", _slug(baseline.name), f"vocabulary={vocabulary.version}", name
        )
        for baseline in BASELINES
    }
    notes = []
    with raise_on_all_ranks():
        if dist.get_rank() == 0:
            missing = [baseline for baseline in BASELINES if not is_there(uris[baseline.name])]
            notes = _measure(missing, options, training, days, vocabulary, uris)
    if dist.get_world_size() > 1:
        shared = [notes]
        dist.broadcast_object_list(shared)
        notes = shared[0]
    with raise_on_all_ranks():
        return {name: Result.read(uri) for name, uri in uris.items() if is_there(uri)}, notes


def _measure(
    baselines: Iterable[Baseline],
    options: ComparisonOptions,
    training: Training,
    days: DaySets,
    vocabulary: Vocabulary,
    uris: dict[str, str],
) -> list[str]:
    baselines = list(baselines)
    if not baselines:
        return []
    held_out = read_held_out(
        days.history,
        days.evaluation,
        vocabulary,
        data=training.data,
        max_users=options.max_users,
        exposure_clip=training.evaluation.exposure_clip,
    )
    past = read_past(days.history, vocabulary)
    found = measure_baselines(past, held_out, vocabulary, baselines=baselines)
    about = {"num_new_users": int(held_out.is_new.sum()), "num_ads": vocabulary.num_rows - 1}
    for name, numbers in found.per_user.items():
        Result({"baseline": name, **about}, held_out.user_id, numbers).write(uris[name])
    return found.notes


def _slug(name: str) -> str:
    """Name of a folder: letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
