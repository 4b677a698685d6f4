"""Several ranks on this machine: a function runs in processes of their own, which form one gloo group."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes


def on_ranks(num_ranks: int, folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``work(*arguments)`` on every rank; returns what each rank returned.

    Args:
        folder: an empty place for what the ranks tell each other and this process.
        work: a function of a module, which every process imports.
    """
    folder.mkdir(parents=True)
    processes.spawn(_rank, (num_ranks, str(folder), work, arguments), nprocs=num_ranks)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"result-{rank}", weights_only=False) for rank in range(num_ranks)]


def _rank(
    rank: int, num_ranks: int, folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ["LOCAL_WORLD_SIZE"] = str(num_ranks)
    torch.set_num_threads(1)
    from scrollpast.training.engine.console import silence_libraries

    silence_libraries()
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=num_ranks)
    try:
        torch.save(work(*arguments), Path(folder) / f"result-{rank}")
    finally:
        dist.destroy_process_group()
