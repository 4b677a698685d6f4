"""Comparison of a GPU's results with a processor's, before any timing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from scripts.bench.gpu.shapes import Shape, inputs_from, model_of
from scripts.bench.plain_torch import example_day, example_vocabulary

from scrollpast.training.engine.metrics_log import read_curve
from scrollpast.training.engine.resume import checkpoint_to_resume
from scrollpast.training.engine.trainer import Trainer

SHAPE = Shape(batch=256, dim=32, rows=20_000, num_random=128)
_STEPS = 30
_EXACT = ("model.precision=float32", "model.logits_precision=float32")


@dataclass(frozen=True)
class Check:
    """A measured difference, and the largest difference allowed."""

    name: str
    found: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.found <= self.allowed


def checks(device: torch.device, folder: Path) -> list[Check]:
    """All checks of this device, in order."""
    vocabulary = example_vocabulary(SHAPE.rows)
    day = example_day(str(folder), vocabulary, 4_000)
    cpu = torch.device("cpu")
    exact = _losses(cpu, vocabulary, day, folder / "cpu", *_EXACT)
    found = [
        Check("lookup and update, largest difference of a row", _update(device, vocabulary, day), 1e-5),
        Check(
            "loss of 30 steps in float32, largest relative difference from the processor's",
            _apart(_losses(device, vocabulary, day, folder / "float32", *_EXACT), exact),
            1e-3,
        ),
        Check(
            "the same in bfloat16",
            _apart(_losses(device, vocabulary, day, folder / "bfloat16", *_rounded()), exact),
            2e-2,
        ),
    ]
    whole = _losses(device, vocabulary, day, folder / "whole", *_rounded())
    _losses(device, vocabulary, day, folder / "halves", *_rounded(), "max_steps=13")
    halves = _losses(device, vocabulary, day, folder / "halves", *_rounded())
    # The device chooses the order in which gradients of a shared row are summed.
    found.append(
        Check("a run that was stopped and went on, from one that was not", _apart(halves, whole), 1e-3)
    )
    return found


def _rounded() -> Sequence[str]:
    return ("model.precision=bfloat16", "model.logits_precision=bfloat16")


def _losses(device: torch.device, vocabulary: Any, day: str, out: Path, *more: str) -> list[float]:
    settings = [f"max_steps={_STEPS}", "log_every_steps=1", "checkpoints.every_steps=10", "epochs=100", *more]
    if "max_steps=13" in more:
        settings.remove(f"max_steps={_STEPS}")
    options = SHAPE.options(*settings)
    facts = {"vocabulary": {"uri": "", "version": vocabulary.version}, "days": [day]}
    resumed = checkpoint_to_resume(str(out), options, vocabulary.version)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # a line a step
        Trainer(options, [day], vocabulary, str(out), device, facts=facts, resumed=resumed).train()
    return [point["loss"] for point in read_curve(str(out))]


def _apart(found: list[float], expected: list[float]) -> float:
    if len(found) != len(expected):
        raise RuntimeError(f"{len(found)} steps beside {len(expected)}")
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def _update(device: torch.device, vocabulary: Any, day: str) -> float:
    """One lookup and one update of every table, with the same gradients on both devices."""
    options = SHAPE.options(*_EXACT)
    (step,) = islice(inputs_from(day, vocabulary, options), 1)
    states = []
    for where in (torch.device("cpu"), device):
        model, step_model, _ = model_of(options, vocabulary, where)
        there = step.to(where)
        users = step_model.towers.user_tables(there.users)
        ads = step_model.towers.ad_tables(there.ads)
        rows = torch.cat([*users.to_dict().values(), *ads.to_dict().values()])
        generator = torch.Generator().manual_seed(3)
        rows.backward(torch.randn(rows.shape, generator=generator).to(where))
        state = model.state_dict()
        names = [name for name in state if hasattr(state[name], "local_shards")]
        states.append({name: state[name].local_shards()[0].tensor.detach().cpu() for name in names})
        del model, step_model
    return max(float((states[0][name] - states[1][name]).abs().max()) for name in states[0])


def table(found: list[Check]) -> str:
    """Table of the checks, a line for each."""
    return "".join(
        f"{'ok' if check.holds else 'WRONG':<7}{check.name:<84}{check.found:>10.2e}  ≤ {check.allowed:.0e}\n"
        for check in found
    )
