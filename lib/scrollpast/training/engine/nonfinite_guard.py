"""Guard against non-finite losses, without a synchronisation of host and device."""

from __future__ import annotations

import torch


class NonFiniteGuard:
    """Guard that stops all updates on the device from the first non-finite loss on.

    After that loss no row of a table, no weight and no optimizer state changes. The host may be some steps ahead, and
    still finds the state before that loss.

    Args:
        device: device of the steps.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_sound = torch.ones((), dtype=torch.bool, device=device)
        self.found_inf = torch.zeros((), device=device)
        """1 after a non-finite loss, else 0: PyTorch's fused optimizers skip a step where this is 1."""

    def note(self, loss: torch.Tensor) -> None:
        """Record the loss of a step, over all ranks; called before the backward pass."""
        self._is_sound &= torch.isfinite(loss)
        self.found_inf.copy_(~self._is_sound)

    def guard(self, rows: torch.Tensor) -> None:
        """Zero the gradients of looked-up rows after a non-finite loss.

        With zero gradients, row-wise Adagrad changes neither the row nor its state.
        """
        if rows.requires_grad:
            rows.register_hook(lambda gradient: torch.where(self._is_sound, gradient, 0.0))
