"""A run of real size, as in the job: an epoch of training from shards on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from scripts.bench.gpu.shapes import Shape, inputs_from
from scripts.bench.plain_torch import NUM_POSITIVES, example_day, example_vocabulary

from scrollpast.training.engine.trainer import Trainer

_SAMPLE_S = 0.5
_K = 100


@dataclass(frozen=True)
class LargeRun:
    """Speed, utilisation, waiting and recall of an epoch."""

    device: str
    num_anchors: int
    examples_per_s: float
    utilisation: float | None
    """Share of the time in which the GPU computed, as the driver reports it; None on a processor."""
    waiting: float
    """Share of the time in which the host had no input for the next step."""
    recall: float
    """Share of the positives of held-out users that are among the 100 nearest of all ads."""


def large_run(shape: Shape, device: torch.device, folder: Path, num_anchors: int, *more: str) -> LargeRun:
    """Write ``num_anchors`` anchors, train an epoch of them, and measure on held-out users."""
    options = shape.options("log_every_steps=200", f"checkpoints.every_steps={10**9}", *more)
    vocabulary = example_vocabulary(shape.rows)
    num_buckets = max(8, num_anchors // 1_000_000)
    day = example_day(str(folder), vocabulary, num_anchors // NUM_POSITIVES, num_buckets)
    held_out = example_day(str(folder / "held-out"), vocabulary, 2_000)
    facts = {"vocabulary": {"uri": "", "version": vocabulary.version}, "days": [day]}
    run = Trainer(options, [day], vocabulary, str(folder / "run"), device, facts=facts)
    waited = _Waiting(run)
    with _Utilisation(device) as utilisation:
        started = time.perf_counter()
        run.train()
        taken = time.perf_counter() - started
    recall = _recall(run, vocabulary, held_out, device, options)
    return LargeRun(
        str(device), num_anchors, num_anchors / taken, utilisation.share, waited.seconds / taken, recall
    )


class _Waiting:
    """Sums the seconds that the loop waits for inputs."""

    def __init__(self, run: Trainer) -> None:
        self.seconds = 0.0
        give = run._inputs  # noqa: SLF001 - measured from outside, so that the loop has no clock in it

        def inputs() -> Iterator[Any]:
            given = give()
            try:
                while True:
                    asked = time.perf_counter()
                    try:
                        made = next(given)
                    except StopIteration:
                        return
                    self.seconds += time.perf_counter() - asked
                    yield made
            finally:
                given.close()

        run._inputs = inputs  # type: ignore[method-assign,assignment]  # noqa: SLF001


class _Utilisation(threading.Thread):
    """Samples the GPU's utilisation from the driver, every ``_SAMPLE_S`` seconds."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(daemon=True)
        self._device, self._ended = device, threading.Event()
        self._samples: list[float] = []

    def __enter__(self) -> _Utilisation:
        if self._device.type == "cuda":
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._samples.append(torch.cuda.utilization(self._device) / 100)

    @property
    def share(self) -> float | None:
        return mean(self._samples) if self._samples else None


@torch.no_grad()
def _recall(run: Trainer, vocabulary: Any, day: str, device: torch.device, options: Any) -> float:
    """Share of a day's positives that are among the user's nearest ads, by the current towers."""
    towers = run.step_model.towers
    from scrollpast.training.model.features import AdFeatures

    features = AdFeatures(vocabulary, options.model)
    rows = torch.arange(min(vocabulary.num_rows, 1_000_000))
    ads = torch.cat([towers.ads(features.of(part).to(device)) for part in rows.split(65_536)])
    found = total = 0
    for step in islice(inputs_from(day, vocabulary, options), 8):
        users = towers.users(step.users.to(device))
        row = step.anchors.ad_row.to(device)
        own = (users * towers.ads(features.of(step.anchors.ad_row).to(device))).sum(1)
        for user, positive, score in zip(users.split(512), row.split(512), own.split(512), strict=True):
            rank = (user @ ads.T > score[:, None]).sum(1)
            found += int((rank < _K)[positive > 0].sum())
            total += int((positive > 0).sum())
    return found / max(1, total)


def table(runs: list[LargeRun]) -> str:
    """Table of the runs, a line for each."""
    lines = [
        f"{'an epoch':<10}{'anchors':>14}{'examples/s':>14}{'GPU busy':>10}{'waiting':>9}{'recall@100':>12}"
    ]
    for run in runs:
        busy = "" if run.utilisation is None else f"{run.utilisation:.1%}"
        lines.append(
            f"{run.device:<10}{run.num_anchors:>14,}{run.examples_per_s:>14,.0f}{busy:>10}{run.waiting:>9.2%}"
            f"{run.recall:>12.4f}"
        )
    return "\n".join(lines) + "\n"
