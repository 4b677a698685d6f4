"""Guard against steps whose loss is not finite, without a wait of the host for the device."""

from __future__ import annotations

import torch


class NonFiniteGuard:
    """Whether every loss so far was finite, known on the device alone.

    From the first loss on that is not, nothing changes any more: no row of a table, no weight, no optimizer's state.
    The host may thus be some steps ahead, and still finds what was there before that loss.

    Args:
        device: where the steps are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_sound = torch.ones((), dtype=torch.bool, device=device)
        self.found_inf = torch.zeros((), device=device)
        """1 where a loss was not finite, else 0: what PyTorch's fused optimizers skip a step by."""

    def note(self, loss: torch.Tensor) -> None:
        """Take the loss of a step, over all ranks, into account; before its backward pass."""
        self._is_sound &= torch.isfinite(loss)
        self.found_inf.copy_(~self._is_sound)

    def guard(self, rows: torch.Tensor) -> None:
        """See to it that no gradient reaches what these were looked up from, once a loss was not finite.

        A row-wise Adagrad that is given zeros changes neither the row nor its state.
        """
        if rows.requires_grad:
            rows.register_hook(lambda gradient: torch.where(self._is_sound, gradient, 0.0))
