"""Count of the host's waits for the device inside the loop, from a profiler's trace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from scripts.bench.gpu.checks import SHAPE
from scripts.bench.plain_torch import example_day, example_vocabulary

from scrollpast.training.engine.trainer import Trainer

_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


def waits_of(
    folder: Path, device: torch.device, num_steps: int, pipeline: str, trace: Path | None
) -> Counter[str]:
    """Number of calls in which the host waits, by name, over ``num_steps`` steps in the middle of a run.

    One ``cudaEventSynchronize`` a step is expected: the host reads the metrics of two steps before.

    Args:
        trace: file of the profiler's trace, for a browser; None writes no trace.
    """
    vocabulary = example_vocabulary(SHAPE.rows)
    day = example_day(str(folder), vocabulary, 20_000)
    options = SHAPE.options(
        f"max_steps={num_steps + 20}", "epochs=100", f"log_every_steps={10**9}", f"pipeline={pipeline}",
        f"checkpoints.every_steps={10**9}",
    )  # fmt: skip
    facts = {"vocabulary": {"uri": "", "version": vocabulary.version}, "days": [day]}
    run = Trainer(options, [day], vocabulary, str(folder / "run"), device, facts=facts)
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    profiler = torch.profiler.profile(
        activities=kinds, schedule=torch.profiler.schedule(wait=5, warmup=5, active=num_steps, repeat=1)
    )
    conclude = run._conclude  # noqa: SLF001 - a step's end is the profiler's tick

    def tick(reading: object) -> bool:
        profiler.step()
        return conclude(reading)  # type: ignore[arg-type]

    run._conclude = tick  # type: ignore[method-assign,assignment]  # noqa: SLF001
    with profiler:
        run.train()
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    return Counter({event.key: event.count for event in profiler.key_averages() if event.key in _WAITS})


def table(waits: dict[str, Counter[str]], num_steps: int) -> str:
    """Table of the pipelines, a line for each."""
    return "".join(
        f"host waits in {num_steps} steps, {pipeline}: "
        + (", ".join(f"{name} {count}" for name, count in found.items()) or "never")
        + "\n"
        for pipeline, found in waits.items()
    )
