"""Peak copy and matrix speed of a device, and timing on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

_RUNS = 7


@dataclass(frozen=True)
class Speed:
    """Peak speeds of a device, from which the lower bound of each part of a step is computed."""

    copy_bytes_per_s: float
    """Bytes read plus bytes written."""
    matrix_flops_per_s: float
    """FLOPs a second of a large product in the towers' precision."""

    def least_seconds(self, num_bytes: float, flops: float) -> float:
        """Lower bound of the time: the larger of moving the bytes and computing the products."""
        return max(num_bytes / self.copy_bytes_per_s, flops / self.matrix_flops_per_s)


def measure(device: torch.device) -> Speed:
    """Measure the peak speeds by a copy and a product that are large for the device."""
    is_gpu = device.type == "cuda"
    size = (1 << 30) if is_gpu else (1 << 26)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = median(seconds(lambda _: target.copy_(source), device))
    side = 8192 if is_gpu else 1024
    kind = torch.bfloat16 if is_gpu else torch.float32
    # Random values, as in a model: a product of zeros draws less power and runs faster.
    factors = [torch.randn(side, side, device=device, dtype=kind) for _ in range(2)]
    multiplied = median(seconds(lambda _: factors[0] @ factors[1], device))
    return Speed(2 * size / copied, 2 * side**3 / multiplied)


def seconds(run: Callable[[int], object], device: torch.device, num_inputs: int = 1) -> list[float]:
    """Seconds of each of several runs, after a warm-up; ``run`` gets the number of the input, taken in turn.

    A GPU is timed by CUDA events, which include the host's work only where the device waits for the host.
    """
    for number in range(2 * num_inputs):
        run(number % num_inputs)
    found = []
    for number in range(max(_RUNS, num_inputs)):
        if device.type == "cuda":
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            run(number % num_inputs)
            ended.record()
            ended.synchronize()
            found.append(began.elapsed_time(ended) / 1e3)
        else:
            started = time.perf_counter()
            run(number % num_inputs)
            found.append(time.perf_counter() - started)
    return found


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """Peak memory of a GPU in a run, less the memory allocated before the run; None on a processor."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
