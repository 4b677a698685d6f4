#!/usr/bin/env python3
"""Speed of a training step beside plain PyTorch's, on the same batches in the same process, and of the data alone.

Peers have the same towers, candidates and loss in a plain implementation: nn.EmbeddingBag, a B × (B + N) matrix of
logits. The first peer updates its tables with dense Adagrad, the second with sparse gradients. Runs alternate; the
table shows medians and the spread of the runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from scripts.bench.benchmarking import RESULTS, save
from scripts.bench.plain_torch import example_day, example_vocabulary, plain_run

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import Training, load_config
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.sampling import Sampling
from scrollpast.training.data.stream import AnchorStream
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.engine.step_input import Preparation, StepInput
from scrollpast.training.engine.step_model import build
from scrollpast.training.engine.step_runner import PlainStepping, StepResult
from scrollpast.training.model.optimizers import TrainingOptimizer

OURS = "scrollpast"
DENSE, SPARSE = "PyTorch, dense Adagrad", "PyTorch, sparse gradients"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench_training.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--batch", type=whole_number(1), default=1024, metavar="B", help="anchors of a step (1024)"
    )
    parser.add_argument("--steps", type=whole_number(1), default=20, metavar="N", help="steps of a run (20)")
    parser.add_argument(
        "--runs", type=whole_number(1), default=5, metavar="N", help="runs of each, alternating (5)"
    )
    parser.add_argument(
        "--rows", type=whole_number(2), default=1_000_000, metavar="N", help="rows of every table (1e6)"
    )
    parser.add_argument(
        "--users", type=whole_number(1), default=40_000, metavar="N", help="users in the data (40,000)"
    )
    parser.add_argument(
        "--threads", type=whole_number(0), default=0, metavar="N", help="for all of them (all cores)"
    )
    parser.add_argument("--set", action="append", default=[], help="option of training")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the table (scripts/bench/results)"
    )
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    silence_libraries()
    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    settings = [f"data.batch_size={arguments.batch}", *arguments.set]
    options = load_config(None, [f"training.{setting}" for setting in settings]).training
    vocabulary = example_vocabulary(arguments.rows)
    with tempfile.TemporaryDirectory() as folder, process_group("cpu") as device:
        day = example_day(folder, vocabulary, arguments.users)
        stream = AnchorStream([day], vocabulary, options.data, Sampling.of(options))
        preparation = Preparation(vocabulary, options)
        batches = [preparation.of(batch, step) for step, batch in enumerate(islice(stream, arguments.steps))]
        group = dist.group.WORLD
        assert group is not None
        model = build(options, vocabulary, device, group)
        optimizer = TrainingOptimizer(model, options.optimizer)

        def forward(batch: StepInput) -> Any:
            loss, totals = model(batch)
            return loss, StepResult(batch, loss.detach(), totals)

        stepping = PlainStepping(forward, optimizer, device)

        def ours(inputs: Iterator[StepInput]) -> None:
            for _ in stepping.steps(inputs):
                pass

        runs: dict[str, Callable[[Iterator[StepInput]], None]] = {
            OURS: ours,
            DENSE: plain_run(vocabulary, options, sparse=False),
            SPARSE: plain_run(vocabulary, options, sparse=True),
        }
        speeds = {name: _speeds(run, batches, arguments) for name, run in _warmed(runs, batches)}
        for _ in range(arguments.runs - 1):
            for name, run in runs.items():
                speeds[name] += _speeds(run, batches, arguments)
        from_shards, from_memory = _data_speeds(day, vocabulary, options, arguments.runs)
        waited = [_share_waited(stepping, stream, preparation) for _ in range(arguments.runs)]
    table = _table(speeds, from_shards, from_memory, waited, arguments)
    print(table)
    figures = {
        "examples_per_s": speeds,
        "from_shards": from_shards,
        "from_cache": from_memory,
        "waited": waited,
    }
    save(arguments.results, f"training_{arguments.batch}", table, figures)
    return 0


def _warmed(runs: dict[str, Any], batches: list[StepInput]) -> Iterator[tuple[str, Any]]:
    for name, run in runs.items():
        run(iter(batches[:3]))
        yield name, run


def _speeds(run: Any, batches: list[StepInput], arguments: argparse.Namespace) -> list[float]:
    started = time.perf_counter()
    run(iter(batches))
    return [len(batches) * arguments.batch / (time.perf_counter() - started)]


def _data_speeds(
    day: str, vocabulary: Vocabulary, options: Training, num_runs: int
) -> tuple[list[float], list[float]]:
    """Anchors a second of the data set alone: decoded from the shards, and from its cache in later epochs."""
    from_shards: list[float] = []
    from_memory: list[float] = []
    for _ in range(num_runs):
        stream = AnchorStream([day], vocabulary, options.data, Sampling.of(options))
        for found in (from_shards, from_memory):
            started = time.perf_counter()
            count = sum(len(batch) for batch in stream)
            found.append(count / (time.perf_counter() - started))
    return from_shards, from_memory


def _share_waited(stepping: PlainStepping, stream: AnchorStream, preparation: Preparation) -> float:
    """Share of an epoch's time, as the job trains it, in which the step waits for a batch."""
    waited = 0.0

    def batches() -> Iterator[Any]:
        nonlocal waited
        asked = time.perf_counter()
        for batch in stream:
            waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    started = time.perf_counter()
    for _ in stepping.steps(preparation.steps(batches(), 0)):
        pass
    return waited / (time.perf_counter() - started)


def _table(
    speeds: dict[str, list[float]],
    from_shards: list[float],
    from_memory: list[float],
    waited: list[float],
    arguments: argparse.Namespace,
) -> str:
    rows = arguments.rows
    shape = f"batch {arguments.batch:,}, three tables of {rows:,} rows, {torch.get_num_threads()} threads"
    lines = [f"{shape}, {arguments.runs} runs of {arguments.steps} steps\n"]
    own = median(speeds[OURS])
    lines.append(f"{'training step':<30}{'examples/s':>12}{'slowest–fastest':>20}{'scrollpast is':>16}")
    for name, found in speeds.items():
        ratio = "" if name == OURS else f"{own / median(found):.2f} ×"
        spread = f"{min(found):,.0f}–{max(found):,.0f}"
        lines.append(f"{name:<30}{median(found):>12,.0f}{spread:>20}{ratio:>16}")
    lines.append(f"\n{'data set alone':<30}{'anchors/s':>12}{'slowest–fastest':>20}{'of the step':>16}")
    for name, found in (("from shards", from_shards), ("from its cache", from_memory)):
        spread, ratio = f"{min(found):,.0f}–{max(found):,.0f}", f"{median(found) / own:.1f} ×"
        lines.append(f"{name:<30}{median(found):>12,.0f}{spread:>20}{ratio:>16}")
    shares = f"{min(waited):.2%}–{max(waited):.2%}"
    lines.append(f"\n{'step waits for data':<30}{median(waited):>12.2%}{shares:>20}   of an epoch's time")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
