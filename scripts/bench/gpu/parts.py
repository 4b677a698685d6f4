"""Time of each part of a step: tables, towers, loss, data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from scripts.bench.gpu.meter import Speed, peak_bytes, seconds
from scripts.bench.gpu.shapes import Shape, inputs_from, inputs_of, model_of, work_of

_INPUTS = 4


@dataclass(frozen=True)
class Part:
    """Measured time of a part, and its lower bound."""

    name: str
    shape: str
    seconds: float
    least_seconds: float
    note: str = ""

    @property
    def share(self) -> float:
        """Share of the device's peak speed that the part reaches."""
        return self.least_seconds / self.seconds


def parts_of(shape: Shape, speed: Speed, device: torch.device, folder: str, *more: str) -> Iterator[Part]:
    """Measure every part of a step of this shape."""
    options = shape.options(*more)
    vocabulary, day, inputs = inputs_of(shape, options, folder, _INPUTS)
    work = work_of(inputs, options)
    _, step_model, _ = model_of(options, vocabulary, device)
    moved = [made.to(device) for made in inputs]
    towers = step_model.towers

    def tables(number: int) -> None:
        step = moved[number]
        users, ads = towers.user_tables(step.users).values(), towers.ad_tables(step.ads).values()
        torch.autograd.backward([users, ads], [users, ads])

    found = median(seconds(tables, device, _INPUTS))
    least = work.table_bytes / speed.copy_bytes_per_s
    rate = work.table_bytes / found / 1e9
    yield Part("tables, lookup and update", str(shape), found, least, f"{rate:,.0f} GB/s")

    num_anchors, num_ads = shape.batch, moved[0].ads.stride()
    user_rows = torch.randn(num_anchors, 2 * shape.dim, device=device, requires_grad=True)
    ad_rows = torch.randn(num_ads, shape.dim, device=device, requires_grad=True)

    def layers(_: int) -> None:
        users, ads = towers.user_tower(user_rows), towers.ad_tower(ad_rows)
        torch.autograd.backward([users, ads], [users.detach(), ads.detach()])

    found = median(seconds(layers, device))
    least = work.tower_flops / speed.matrix_flops_per_s
    yield Part("towers", str(shape), found, least, f"{work.tower_flops / found / 1e12:,.1f} TFLOP/s")

    users = torch.nn.functional.normalize(torch.randn(num_anchors, shape.dim, device=device)).requires_grad_()
    ads = torch.nn.functional.normalize(torch.randn(num_ads, shape.dim, device=device)).requires_grad_()

    def loss(number: int) -> None:
        step_model.contrast(users, ads, moved[number])[0].backward()

    found = median(seconds(loss, device, _INPUTS))
    least = work.logit_flops / speed.matrix_flops_per_s
    taken = peak_bytes(lambda: loss(0), device)
    whole = 4 * num_anchors * (num_anchors + shape.num_random)
    note = f"{work.logit_flops / found / 1e12:,.1f} TFLOP/s"
    if taken is not None:
        note += f", {taken / 2**20:,.0f} MiB over its inputs; all logits at once: {whole / 2**20:,.0f}"
    yield Part("loss", str(shape), found, least, note)

    started, count = time.perf_counter(), 0
    for made in inputs_from(day, vocabulary, options):
        count += len(made.anchors)
    taken_s = (time.perf_counter() - started) / count * num_anchors
    yield Part("data, made ready", str(shape), taken_s, 0.0, f"{num_anchors / taken_s:,.0f} anchors/s")


def table(parts: list[Part]) -> str:
    """Table of the parts, a line for each."""
    lines = [f"{'part of a step':<28}{'':<36}{'ms':>9}{'at least':>10}{'reached':>9}  "]
    for part in parts:
        least = f"{1e3 * part.least_seconds:.2f}" if part.least_seconds else ""
        reached = f"{part.share:.0%}" if part.least_seconds else ""
        lines.append(
            f"{part.name:<28}{part.shape:<36}{1e3 * part.seconds:>9.2f}{least:>10}{reached:>9}  {part.note}"
        )
    return "\n".join(lines) + "\n"


def figures(parts: list[Part]) -> list[dict[str, Any]]:
    """The parts as JSON objects."""
    return [vars(part) for part in parts]
