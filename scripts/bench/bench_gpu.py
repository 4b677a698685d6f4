#!/usr/bin/env python3
"""The trainer on a GPU: results compared with a processor's, then times of each part and of the whole step.

    checks   a lookup and an update; losses in float32 and bfloat16 beside the processor's; a resumed run
    waits    number of times that the host waits for the device inside the loop
    parts    time of tables, towers, loss and data, beside the lower bound of each
    steps    time of the whole step by both pipelines, beside plain PyTorch's and the lower bound
    run      an epoch of many anchors from shards on disk: speed, use of the GPU, waiting, recall; then a small
             run on the processor

The lower bound of a step is the larger of two times: moving the bytes of its tables at the speed of a copy, and
computing its products at the speed of a large product. Both speeds are measured first. Without a GPU all sections run
on the processor in small sizes: a check that the code works, not a measurement.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from scripts.bench.benchmarking import RESULTS, save
from scripts.bench.gpu import checks, large_run, meter, parts, waits, whole
from scripts.bench.gpu.shapes import Shape

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.engine.distributed import process_group

SECTIONS = ("checks", "waits", "parts", "steps", "run")
_WAITED_STEPS = 40


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench_gpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections (all)")
    option(
        "--batches",
        nargs="+",
        type=whole_number(1),
        metavar="B",
        help="anchors of a step (8192 32768 131072)",
    )
    option("--dims", nargs="+", type=whole_number(1), metavar="D", help="length of a table row (64 128)")
    option("--rows", nargs="+", type=whole_number(2), metavar="N", help="rows of each of three tables (1e7)")
    option("--steps", type=whole_number(1), metavar="N", help="steps of a timed run (50)")
    option("--anchors", type=whole_number(1), metavar="N", help="anchors of the large run (1e8)")
    option("--set", action="append", default=[], metavar="OPTION=VALUE", help="set an option of training")
    option("--folder", type=Path, metavar="DIR", help="folder of shards (a temporary folder)")
    option("--trace", type=Path, metavar="FILE", help="file of the profiler's trace")
    option("--results", type=Path, default=RESULTS, help=f"folder of the table ({os.path.relpath(RESULTS)})")
    return run_job(parser, measure)


def measure(arguments: argparse.Namespace) -> int:
    silence_libraries()
    is_gpu = torch.cuda.is_available()
    shapes = _shapes(arguments, is_gpu)
    num_steps = arguments.steps or (50 if is_gpu else 4)
    figures: dict[str, Any] = {}
    texts: list[str] = []

    def told(name: str, text: str, found: Any) -> None:
        print(text, flush=True)
        texts.append(text)
        figures[name] = found

    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as temporary,
        process_group("cuda" if is_gpu else "cpu") as device,
    ):
        folder = Path(temporary)
        speed = meter.measure(device)
        about = torch.cuda.get_device_name(device) if is_gpu else "a processor: no GPU was found"
        told(
            "device",
            f"{about}, PyTorch {torch.__version__}\n{_best(speed)}",
            {"name": about, **asdict(speed)},
        )
        if "checks" in arguments.only:
            found = checks.checks(device, folder / "checks")
            told("checks", checks.table(found), [asdict(check) for check in found])
            if not all(check.holds for check in found):
                return 1
        if "waits" in arguments.only and is_gpu:
            by_pipeline: dict[str, Counter[str]] = {
                name: waits.waits_of(folder / f"waits-{name}", device, _WAITED_STEPS, name, arguments.trace)
                for name in ("plain", "sparse_dist")
            }
            told("waits", waits.table(by_pipeline, _WAITED_STEPS), by_pipeline)
        if "parts" in arguments.only:
            measured = [
                part
                for number, shape in enumerate(shapes)
                for part in parts.parts_of(
                    shape, speed, device, str(folder / f"parts-{number}"), *arguments.set
                )
            ]
            told("parts", parts.table(measured), parts.figures(measured))
        if "steps" in arguments.only:
            taken = [
                step
                for number, shape in enumerate(shapes)
                for step in whole.steps_of(
                    shape, speed, device, str(folder / f"steps-{number}"), num_steps, *arguments.set
                )
            ]
            told("steps", whole.table(taken), [asdict(step) for step in taken])
        if "run" in arguments.only:
            runs = _runs(arguments, shapes[0], device, folder)
            told("run", large_run.table(runs), [asdict(run) for run in runs])
    save(arguments.results, "gpu" if is_gpu else "gpu_without", "\n".join(texts), figures)
    return 0


def _shapes(arguments: argparse.Namespace, is_gpu: bool) -> list[Shape]:
    batches = arguments.batches or ([8192, 32768, 131072] if is_gpu else [256])
    dims = arguments.dims or ([64, 128] if is_gpu else [16])
    rows = arguments.rows or ([10_000_000] if is_gpu else [10_000])
    num_random = 1024 if is_gpu else 64
    return [
        Shape(batch, dim, count, num_random=num_random) for count in rows for dim in dims for batch in batches
    ]


def _runs(
    arguments: argparse.Namespace, shape: Shape, device: torch.device, folder: Path
) -> list[large_run.LargeRun]:
    """The large run, and the same model and data in small on a processor and on this device."""
    is_gpu = device.type == "cuda"
    small = Shape(256, 32, 20_000, num_random=128)
    num_small = 100_000 if is_gpu else 20_000
    cpu = torch.device("cpu")
    workers = ("data.num_workers=8",) if is_gpu else ()
    runs = [large_run.large_run(small, cpu, folder / "run-cpu", num_small)]
    if is_gpu:
        runs.append(large_run.large_run(small, device, folder / "run-small", num_small))
        count = arguments.anchors or 100_000_000
        runs.append(large_run.large_run(shape, device, folder / "run-large", count, *workers, *arguments.set))
    return runs


def _best(speed: meter.Speed) -> str:
    return (
        f"copy {speed.copy_bytes_per_s / 1e9:,.0f} GB/s read and written, "
        f"matrix product {speed.matrix_flops_per_s / 1e12:,.1f} TFLOP/s\n"
    )


if __name__ == "__main__":
    sys.exit(main())
