"""Asynchronous copy of a step's metrics from the device to the host."""

from __future__ import annotations

from typing import Any

import torch

from scrollpast.training.engine.step_input import StepInput
from scrollpast.training.engine.step_runner import StepResult
from scrollpast.training.loss.totals import Totals


class PendingStep:
    """Totals of a launched step, copied while the device computes.

    Args:
        done: the step.
        position: position of the data set after the step.
    """

    def __init__(self, done: StepResult, position: dict[str, Any]) -> None:
        self._done, self.position = done, position
        self._numbers, self._copied = done.totals, None
        if done.totals.is_cuda:
            self._numbers = torch.empty_like(done.totals, device="cpu", pin_memory=True)
            self._numbers.copy_(done.totals, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    @property
    def batch(self) -> StepInput:
        """Input of the step."""
        return self._done.batch

    def totals(self) -> Totals:
        """Metrics of the step; waits for the device."""
        if self._copied is not None:
            self._copied.synchronize()
        return Totals.of(self._numbers.tolist())

    def own_loss(self) -> float:
        """Loss of this rank only; waits for the device."""
        return float(self._done.loss)
