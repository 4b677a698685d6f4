"""Embeddings of all ranks on every rank, with gradients back to their owners."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def gather(tensor: torch.Tensor, group: dist.ProcessGroup | None = None) -> torch.Tensor:
    """Concatenate the tensors [B, …] of all ranks: [ranks · B, …], of the same shape on every rank.

    In the backward pass every rank gets the SUM of all ranks' gradients for its part. A mean would be wrong: the later
    data-parallel averaging already divides by the number of ranks.
    """
    if dist.get_world_size(group) == 1:
        return tensor
    gathered: torch.Tensor = _Gather.apply(tensor, group)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: dist.ProcessGroup | None) -> torch.Tensor:
        ctx.group = group
        size = dist.get_world_size(group)
        gathered = tensor.new_empty((size * tensor.shape[0], *tensor.shape[1:]))
        dist.all_gather_into_tensor(gathered, tensor.contiguous(), group=group)
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        size = dist.get_world_size(ctx.group)
        own = gradient.new_empty((gradient.shape[0] // size, *gradient.shape[1:]))
        dist.reduce_scatter_tensor(own, gradient.contiguous(), op=dist.ReduceOp.SUM, group=ctx.group)
        return own, None
