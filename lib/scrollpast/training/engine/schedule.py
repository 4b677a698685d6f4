"""Schedules over the steps: weight of a source, learning rate of the dense part."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """Factor that is ``initial`` until ``start_step``, and 1 from ``ramp_steps`` later on; linear between."""

    initial: float = 1.0
    start_step: int = 0
    ramp_steps: int = 0

    def at(self, step: int) -> float:
        """Factor in step ``step``, counted from 0.

        >>> hard = Ramp(initial=0.0, start_step=100, ramp_steps=200)
        >>> [hard.at(step) for step in (0, 99, 100, 200, 300, 1000)]
        [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
        """
        if step < self.start_step:
            return self.initial
        if step >= self.start_step + self.ramp_steps:
            return 1.0
        return self.initial + (1.0 - self.initial) * (step - self.start_step) / self.ramp_steps


def warm_up(step: int, warmup_steps: int) -> float:
    """Factor of the learning rate: 1 / n, 2 / n, … in the first n steps, then 1.

    >>> [warm_up(step, 4) for step in (0, 1, 3, 4)]
    [0.25, 0.5, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
