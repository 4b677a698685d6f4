"""Speed of the whole step, beside plain PyTorch's and the device's upper bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import torch
from scripts.bench.gpu.meter import Speed
from scripts.bench.gpu.shapes import Shape, inputs_of, model_of, work_of
from scripts.bench.plain_torch import plain_run

from scrollpast.training.engine.step_input import StepInput
from scrollpast.training.engine.step_runner import PlainStepping, SparseDistStepping, StepResult

PLAIN = "PyTorch, nn.EmbeddingBag, sparse gradients"
_RUNS = 3
_INPUTS = 8


@dataclass(frozen=True)
class Step:
    """Speed of a program in steps of a shape."""

    program: str
    shape: str
    examples_per_s: float
    slowest: float
    fastest: float
    bound: float
    """Upper bound of examples a second, by the slower of moving bytes and computing products."""
    note: str = ""


def steps_of(
    shape: Shape, speed: Speed, device: torch.device, folder: str, num_steps: int, *more: str
) -> Iterator[Step]:
    """Measure scrollpast with both pipelines, then the peer, on the same inputs."""
    options = shape.options(*more)
    vocabulary, _, inputs = inputs_of(shape, options, folder, _INPUTS)
    work = work_of(inputs, options)
    bound = shape.batch / speed.least_seconds(work.table_bytes, work.flops)
    ready = [step.pin_memory() for step in inputs] if device.type == "cuda" else inputs
    for name, wanted in (
        ("scrollpast, plain", PlainStepping),
        ("scrollpast, sparse_dist", SparseDistStepping),
    ):
        model, _, optimizer = model_of(options, vocabulary, device)

        def forward(
            batch: StepInput, model: Any = model, optimizer: Any = optimizer
        ) -> tuple[torch.Tensor, StepResult]:
            optimizer.at_step(batch.step)
            loss, totals = model(batch)
            return loss, StepResult(batch, loss.detach(), totals)

        stepping = (
            PlainStepping(forward, optimizer, device)
            if wanted is PlainStepping
            else SparseDistStepping(model, forward, optimizer, device)
        )

        def ours(given: Iterator[StepInput], stepping: Any = stepping) -> None:
            for _ in stepping.steps(given):
                pass

        yield _timed(name, ours, ready, shape, bound, device, num_steps)
        del model, optimizer, stepping, ours, forward
        _free(device)
    try:
        peer = plain_run(vocabulary, options, sparse=True, device=device)

        def theirs(given: Iterator[StepInput]) -> None:
            peer(step.to(device, non_blocking=True) for step in given)

        yield _timed(PLAIN, theirs, ready, shape, bound, device, num_steps)
    except torch.OutOfMemoryError as error:
        yield Step(
            PLAIN, str(shape), float("nan"), float("nan"), float("nan"), bound, str(error).split(".")[0]
        )
    _free(device)


def _timed(
    program: str, run: Callable[[Iterator[StepInput]], None], inputs: list[StepInput], shape: Shape, bound: float,
    device: torch.device, num_steps: int,
) -> Step:  # fmt: skip
    def some(count: int) -> Iterator[StepInput]:
        return islice((inputs[number % len(inputs)] for number in range(count)), count)

    run(some(len(inputs)))
    rates = []
    for _ in range(_RUNS):
        _wait(device)
        started = time.perf_counter()
        run(some(num_steps))
        _wait(device)
        rates.append(num_steps * shape.batch / (time.perf_counter() - started))
    return Step(program, str(shape), median(rates), min(rates), max(rates), bound)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def table(steps: list[Step]) -> str:
    """Table of the programs by shape, a line for each."""
    lines = [
        f"{'whole step':<44}{'':<36}{'examples/s':>13}{'slowest–fastest':>24}{'of the bound':>14}{'÷ PyTorch':>11}"
    ]
    peers = {step.shape: step.examples_per_s for step in steps if step.program == PLAIN}
    for step in steps:
        peer = peers.get(step.shape)
        ratio = f"{step.examples_per_s / peer:.2f}" if peer and step.program != PLAIN else ""
        spread = f"{step.slowest:,.0f}–{step.fastest:,.0f}"
        lines.append(
            f"{step.program:<44}{step.shape:<36}{step.examples_per_s:>13,.0f}{spread:>24}"
            f"{step.examples_per_s / step.bound:>14.1%}{ratio:>11}  {step.note}".rstrip()
        )
    return "\n".join(lines) + "\n"
