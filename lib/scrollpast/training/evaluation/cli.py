"""Command line of the evaluation: measures a checkpoint on later days, prints a table and writes metrics.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyarrow import fs

from scrollpast.config.training_options import EvaluationOptions, TrainingData
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import day_folder
from scrollpast.training.engine.checkpoint import chosen_checkpoint, vocabulary_of
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.evaluation.baselines.past import read_past
from scrollpast.training.evaluation.held_out import read_held_out
from scrollpast.training.evaluation.metrics_file import METRICS_NAME, SCHEMA_VERSION
from scrollpast.training.evaluation.ranking import Embeddings, Search
from scrollpast.training.evaluation.report import evaluate
from scrollpast.training.evaluation.truth import read_truth
from scrollpast.training.model.embedding import embed_ads, embed_users, read_towers

BuildSearch = Callable[[NDArray[np.float32]], Search]
"""Embeddings of ads float32 [R, D] → a search through the index that an export has of them."""


def evaluate_checkpoint(arguments: argparse.Namespace, exported: BuildSearch, index_kind: str) -> int:
    """Evaluate with the given arguments, print the table and write metrics.json; returns the exit code.

    Args:
        exported: builds the index that ``jobs/export_towers.py`` writes by default.
        index_kind: kind of this index, as in the export's ``index``.
    """
    if not arguments.debug:
        silence_libraries()
    checkpoint = chosen_checkpoint(arguments.checkpoint, arguments.metric)
    facts = checkpoint.facts
    vocabulary = vocabulary_of(checkpoint, arguments.vocabulary)
    days = [day_folder(day) for day in arguments.days]
    history = [day_folder(day) for day in arguments.history or facts["days"]]
    held_out = read_held_out(
        history,
        days,
        vocabulary,
        data=TrainingData.model_validate(facts["config"]["data"]),
        max_users=arguments.max_users,
        exposure_clip=EvaluationOptions.model_validate(facts["config"]["evaluation"]).exposure_clip,
        seed=arguments.seed,
    )
    towers, device = read_towers(checkpoint, vocabulary), torch.device("cpu")
    ad_RD, user_UD = embed_ads(towers, vocabulary, device), embed_users(towers, held_out, vocabulary, device)
    report = evaluate(
        Embeddings(user_UD, ad_RD),
        held_out,
        vocabulary,
        exported=exported(ad_RD.numpy()),
        index_kind=index_kind,
        truth=read_truth(arguments.truth, held_out, vocabulary, days) if arguments.truth else None,
        past=read_past(history, vocabulary),
        seed=arguments.seed,
    )
    about = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": checkpoint.uri,
        "step": checkpoint.step,
        "vocabulary": dict(facts["vocabulary"]),
        "trained_on": facts["days"],
        "history": history,
        "evaluated_on": days,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_ads": vocabulary.num_rows - 1,
        "num_known_targets": held_out.num_known_targets,
    }
    out = arguments.out or files.join(checkpoint.uri, METRICS_NAME)
    filesystem, path = files.resolve(out)
    content = report.to_json(about)
    is_new = not _says_the_same(filesystem, path, content)
    if is_new:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        files.write_atomically(filesystem, path, text.encode())
    if report.verdict is not None:
        print(report.verdict.line())
    print(
        f"{checkpoint.uri} on {', '.join(days)}: {len(held_out):,} users, "
        f"{int(held_out.is_new.sum()):,} of them new, and {vocabulary.num_rows - 1:,} ads"
    )
    print(report.table())
    print(f"wrote {out}" if is_new else f"{out} says the same already; nothing was written")
    return 0


def _says_the_same(filesystem: fs.FileSystem, path: str, content: Mapping[str, Any]) -> bool:
    """True if an earlier evaluation has the same content; its file and date are then kept."""
    try:
        before = json.loads(files.read_all(filesystem, path).to_pybytes())
    except (OSError, ValueError):
        return False
    return isinstance(before, dict) and {**before, "created_at": content["created_at"]} == dict(content)
