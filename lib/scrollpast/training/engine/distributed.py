"""Processes that train together: torchrun's ranks, or this process alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from scrollpast.errors import ScrollpastError

_TIMEOUT = timedelta(minutes=10)
"""Time-out of a rank that waits for another: longer than any checkpoint, shorter than a night."""


_LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")
"""Messages of gloo on a rank whose peer has ended."""


@contextmanager
def process_group(device_type: str | None = None) -> Iterator[torch.device]:
    """Join the ranks that torchrun started, or run as a single process; yields this rank's device.

    Args:
        device_type: "cpu" or "cuda"; None = a GPU if there is one. gloo serves CPUs, nccl GPUs.

    Raises:
        ScrollpastError: another rank ended while this one waited for it.
    """
    if device_type is None:
        device_type = "cuda" if torch.cuda.is_available() else "cpu"
    if device_type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    # Objects and checkpoints are sent by gloo, tensors on a GPU by nccl.
    backend = "gloo" if device_type == "cpu" else "cpu:gloo,cuda:nccl"
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group(backend, timeout=_TIMEOUT)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=_TIMEOUT)
    try:
        yield device
    except RuntimeError as error:
        if any(mark in str(error) for mark in _LOST_PEER):
            raise _lost_peer() from error
        raise
    finally:
        dist.destroy_process_group()


def _lost_peer() -> ScrollpastError:
    return ScrollpastError(
        f"rank {dist.get_rank()}",
        expected=f"{dist.get_world_size()} ranks that run to the end",
        found="a rank that ended early",
        remedy="read that rank's error; the same command resumes from the last checkpoint",
    )


def local_world_size() -> int:
    """Ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Context in which an error of any rank is raised on all ranks; the first rank reports the reason.

    Without this context the ranks that succeeded would wait for the failed ranks until the time-out.
    """
    error: ScrollpastError | None = None
    try:
        yield
    except ScrollpastError as found:
        error = found
    errors: list[ScrollpastError | None] = [error]
    if dist.get_world_size() > 1:
        errors = [None] * dist.get_world_size()
        dist.all_gather_object(errors, error)
    failures = [failure for failure in errors if failure is not None]
    if failures and dist.get_rank() == 0:
        raise failures[0]
    if failures:
        raise SystemExit(failures[0].exit_code)
