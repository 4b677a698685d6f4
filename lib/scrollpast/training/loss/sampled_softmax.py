"""Sampled softmax over several sources of negatives: one logsumexp over all of them, in bounded memory.

B anchors of this rank, N candidates that all of them share (in-batch, random), K of each anchor's own (hard),
D the dimension of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name


@dataclass(frozen=True)
class Blocks:
    """Size of a block of the computation: a block of logits in float32, and at most half a block beside it."""

    cells: int
    """Logits of a block."""
    slices: int
    """Parts of a block that are masked one after another: a mask takes three times the memory of its part."""


_BLOCKS = {"cpu": Blocks(1 << 20, 1), "cuda": Blocks(1 << 26, 8)}
"""Sizes by kind of device: a processor's caches hold a few times 4 MiB; a GPU needs work for all its cores."""

_LOWEST = -80.0
"""Lower limit of exponents: at most 2e-35 of a softmax is lost. Below −87 the exponential of float32 is subnormal, and
that of −inf is a special case: both take a processor 20 to 100 times as long.
"""


class Columns(Protocol):
    """Protocol of candidates that all anchors share, for example `InBatchColumns` and `RandomColumns`."""

    def add_offsets(self, logits_NB: torch.Tensor, start: int, stop: int) -> None:
        """Add to the logits of these anchors, a column each, in place; at least `masks.FAR` less where masked."""
        ...


@dataclass(frozen=True)
class Shared:
    """A source whose candidates are the same for all anchors."""

    name: str
    embedding_ND: torch.Tensor
    columns: Columns


@dataclass(frozen=True)
class Own:
    """A source with K candidates for each anchor."""

    name: str
    embedding_BKD: torch.Tensor
    offset_BK: torch.Tensor
    """Offsets of the logits; −inf where masked."""


def sampled_softmax(
    user_BD: torch.Tensor,
    positive_BD: torch.Tensor,
    scale: torch.Tensor,
    weight_B: torch.Tensor,
    sources: Sequence[Shared | Own],
    positive_offset_B: torch.Tensor | None = None,
    *,
    products: torch.dtype | None = None,
    blocks: Blocks | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """−log of the positive's share in the softmax over itself and all candidates, summed over the anchors.

    The logit of a candidate is scale · ⟨user, candidate⟩ + its offset. Whatever precision the towers have, the
    logits are float32 (or float64). An anchor all of whose candidates are masked has loss 0 and no gradient.
    Beside the embeddings and their gradients it takes memory for one and a half blocks of logits at most.

    Args:
        user_BD, positive_BD: embeddings of the anchors and of their positives.
        scale: 1 / temperature, without dimensions.
        weight_B: float [B], the anchor's factor in the sum: for a mean divide by the sum of all beforehand.
        sources: at least one.
        positive_offset_B: added to the positive's logit, above and below the line; 0 if left out.
        products: data type to which embeddings are rounded before the products with shared candidates, such as
            bfloat16; sums are then float32. None = no rounding.
        blocks: size of a block; None = the size for the device.

    Returns:
        The loss, without dimensions; and float [number of sources], without gradient: Σ over anchors of
        weight · the source's share in the softmax. Each source's part of this is its part in the gradient.
    """
    precision = torch.promote_types(user_BD.dtype, torch.float32)
    shared = [source for source in sources if isinstance(source, Shared)]
    own = [source for source in sources if isinstance(source, Own)]
    columns = [source.embedding_ND for source in shared] or [positive_BD[:0]]
    draws = [source.embedding_BKD for source in own] or [positive_BD[:, None][:, :0]]
    if positive_offset_B is None:
        positive_offset_B = torch.zeros_like(weight_B)
    loss, mass = _SampledSoftmax.apply(
        user_BD.to(precision),
        positive_BD.to(precision),
        torch.cat(columns).to(precision),
        torch.cat(draws, dim=1).to(precision),
        scale.to(precision),
        weight_B.to(precision),
        positive_offset_B.to(precision),
        shared,
        own,
        products,
        blocks or _BLOCKS.get(user_BD.device.type, _BLOCKS["cpu"]),
    )
    masses = dict(zip(map(id, (*shared, *own)), mass.unbind(), strict=True))
    return loss, torch.stack([masses[id(source)] for source in sources])


class _SampledSoftmax(torch.autograd.Function):
    """Sampled softmax whose forward pass also computes the gradient, block by block of anchors.

    No B × N tensor outlives its block, and no logit is computed twice. Logits of shared candidates have the shape
    [N, anchors], so that masks are gathered row by row, in contiguous memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        user: torch.Tensor,
        positive: torch.Tensor,
        columns: torch.Tensor,
        draws: torch.Tensor,
        scale: torch.Tensor,
        weight: torch.Tensor,
        positive_offset: torch.Tensor,
        shared: list[Shared],
        own: list[Own],
        products: torch.dtype | None,
        blocks: Blocks,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        widths = [len(source.embedding_ND) for source in shared]
        own_widths = [1, *(source.embedding_BKD.shape[1] for source in own)]
        own_offset = torch.cat([positive_offset[:, None], *(source.offset_BK for source in own)], dim=1)
        wants_gradient = any(ctx.needs_input_grad)
        inputs = (user, positive, columns, draws, scale)
        gradients = [torch.zeros_like(tensor) for tensor in inputs] if wants_gradient else []
        loss = torch.zeros((), dtype=user.dtype, device=user.device)
        mass = torch.zeros(len(shared) + len(own), dtype=user.dtype, device=user.device)
        products = products or user.dtype
        factors = columns.to(products)
        step = max(1, blocks.cells // max(1, len(columns)))
        for start in range(0, len(user), step):
            stop = min(start + step, len(user))
            users = user[start:stop] * scale
            candidates = torch.cat([positive[start:stop, None], draws[start:stop]], dim=1)
            own_logit = (candidates @ users[:, :, None])[:, :, 0] + own_offset[start:stop].to(user.dtype)
            user_factors = users.to(products)
            logit = _product(factors, user_factors.T)
            _add_offsets(logit, shared, start, blocks.slices)
            top = own_logit.amax(1)
            if len(logit):
                top = torch.maximum(top, logit.amax(0))
            share = logit.sub_(top).clamp_(min=_LOWEST).exp_()
            F.threshold(share, 2 * math.exp(_LOWEST), 0.0, inplace=True)
            own_share = (own_logit - top[:, None]).exp()
            total = share.sum(0) + own_share.sum(1)
            weights = weight[start:stop]
            # Not from the share of the positive: where all other shares are small, their digits determine the loss.
            loss += weights @ (top + total.log() - own_logit[:, 0])
            factor = weights / total
            share *= factor
            own_share *= factor[:, None]
            mass += torch.stack(
                [part.sum() for part in (*share.split(widths), *own_share.split(own_widths, dim=1)[1:])]
            )
            if not wants_gradient:
                del logit, share
                continue
            # d loss / d logits: the share of each candidate, less 1 for the positive. The positive's gradient is
            # −Σ of the other gradients, because 1 − share would lose the digits of a small value.
            own_share[:, 0] = -share.sum(0) - own_share[:, 1:].sum(1)
            share_factors = share.to(products)
            pull = _product(share_factors.T, factors) + (own_share[:, None] @ candidates)[:, 0]
            gradients[0][start:stop] = pull * scale
            gradients[4] += (pull * user[start:stop]).sum()
            gradients[2] += _product(share_factors, user_factors)
            of_candidates = own_share[:, :, None] * users[:, None]
            gradients[1][start:stop] = of_candidates[:, 0]
            gradients[3][start:stop] = of_candidates[:, 1:]
            del logit, share, share_factors  # before the next block is allocated
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(mass)
        return loss, mass

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor, _of_mass: torch.Tensor) -> tuple[Any, ...]:
        found = [upstream * gradient for gradient in ctx.saved_tensors]
        return *found, None, None, None, None, None, None


def _add_offsets(logit_Nb: torch.Tensor, shared: list[Shared], start: int, slices: int) -> None:
    """Add every source's offsets to a block of logits, whose first anchor is ``start``: some anchors at a time."""
    size = logit_Nb.shape[1]
    width = -(-size // slices)
    widths = [len(source.embedding_ND) for source in shared]
    for first in range(0, size, width):
        last = min(first + width, size)
        for source, part in zip(shared, logit_Nb[:, first:last].split(widths), strict=True):
            source.columns.add_offsets(part, start + first, start + last)


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Matrix product; of bfloat16 factors in float32, exact up to the order of the sums."""
    if a.dtype != torch.bfloat16:
        return a @ b
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()
