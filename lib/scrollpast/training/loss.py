"""Sampled softmax over several sources of negatives: one logsumexp over all of them, in bounded memory.

B anchors of this rank, N candidates that all of them share (in-batch, random), K of each anchor's own (hard),
D the dimension of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

_CELLS_AT_ONCE = 1 << 19
"""Logits that are held at a time: 2 MiB in float32, which a core's cache and the allocator both like."""


class Columns(Protocol):
    """Candidates that all anchors share; `InBatchColumns` and `RandomColumns` are such."""

    def offsets(self, start: int, stop: int) -> torch.Tensor:
        """Float [stop − start, N]: what to add to the logits of these anchors; −inf where masked."""
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
    """What to add to the logits; −inf where masked."""


def sampled_softmax(
    user_BD: torch.Tensor,
    positive_BD: torch.Tensor,
    scale: torch.Tensor,
    weight_B: torch.Tensor,
    sources: Sequence[Shared | Own],
    positive_offset_B: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """−log of the positive's share in the softmax over itself and all candidates, summed over the anchors.

    The logit of a candidate is scale · ⟨user, candidate⟩ + its offset. Whatever precision the towers have, the
    logits are float32 (or float64). An anchor all of whose candidates are masked has loss 0 and no gradient.

    Args:
        user_BD, positive_BD: embeddings of the anchors and of their positives.
        scale: 1 / temperature, without dimensions.
        weight_B: float [B], the anchor's factor in the sum: for a mean divide by the sum of all beforehand.
        sources: at least one.
        positive_offset_B: added to the positive's logit, above and below the line; 0 if left out.

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
    )
    position = {id(source): at for at, source in enumerate([*shared, *own])}
    return loss, mass[[position[id(source)] for source in sources]]


class _SampledSoftmax(torch.autograd.Function):
    """The gradient of a loss is known as soon as its softmax is, so the forward pass computes both, for some
    anchors at a time: no B × N tensor lives longer than its turn, and no logit is computed twice.
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
    ) -> tuple[torch.Tensor, torch.Tensor]:
        widths = [1, *(len(s.embedding_ND) for s in shared), *(s.embedding_BKD.shape[1] for s in own)]
        wants_gradient = any(ctx.needs_input_grad)
        inputs = (user, positive, columns, draws, scale)
        gradients = [torch.zeros_like(tensor) for tensor in inputs] if wants_gradient else []
        loss = torch.zeros((), dtype=user.dtype, device=user.device)
        mass = torch.zeros(len(widths) - 1, dtype=user.dtype, device=user.device)
        step = max(1, _CELLS_AT_ONCE // sum(widths))
        for start in range(0, len(user), step):
            stop = min(start + step, len(user))
            users, draw = user[start:stop], draws[start:stop]
            offsets = [positive_offset[start:stop, None]]
            offsets += [source.columns.offsets(start, stop) for source in shared]
            offsets += [source.offset_BK[start:stop] for source in own]
            cosines = [
                (users * positive[start:stop]).sum(1, keepdim=True),
                users @ columns.T,
                torch.einsum("bd,bkd->bk", users, draw),
            ]
            cosine = torch.cat(cosines, dim=1)
            logits = torch.addcmul(torch.cat(offsets, dim=1).to(user.dtype), cosine, scale)
            log_sum = torch.logsumexp(logits, dim=1)
            weights = weight[start:stop]
            loss += weights @ (log_sum - logits[:, 0])
            share = logits.sub_(log_sum[:, None]).exp_().mul_(weights[:, None])
            mass += torch.stack([part.sum() for part in share.split(widths, dim=1)[1:]])
            if not wants_gradient:
                continue
            # d loss / d logits: the share of each candidate, less 1 for the positive. The positive's own is
            # taken as −Σ of the others', as 1 − share would lose the digits of a small one.
            share[:, 0] = -share[:, 1:].sum(1)
            gradients[4] += (share * cosine).sum()
            share *= scale
            of_positive, of_columns, of_draws = share.split([1, len(columns), draws.shape[1]], dim=1)
            gradients[0][start:stop] = (
                of_positive * positive[start:stop]
                + of_columns @ columns
                + torch.einsum("bk,bkd->bd", of_draws, draw)
            )
            gradients[1][start:stop] = of_positive * users
            gradients[2].addmm_(of_columns.T, users)
            gradients[3][start:stop] = of_draws[:, :, None] * users[:, None]
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(mass)
        return loss, mass

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor, _of_mass: torch.Tensor) -> tuple[Any, ...]:
        found = [upstream * gradient for gradient in ctx.saved_tensors]
        return *found, None, None, None, None
