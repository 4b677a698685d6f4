"""Sums of one step or several, over the anchors of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scrollpast.training.loss.terms.registry import source_names


@dataclass(frozen=True)
class Totals:
    """Metrics of one step or several: sums over the anchors of all ranks."""

    loss: float
    """Σ weight · loss"""
    weight: float
    """Σ weight"""
    num_stopping: float
    """Ranks that were asked to stop before the step"""
    masses: tuple[float, ...]
    """By source, as in `source_names`: Σ weight · the source's share in the softmax"""

    @staticmethod
    def of(numbers: Sequence[float]) -> Totals:
        """From what `numbers` gives, or the tensor of a step as a list."""
        return Totals(numbers[0], numbers[1], numbers[2], tuple(numbers[3:]))

    @staticmethod
    def zero() -> Totals:
        """Of no step."""
        return Totals.of([0.0] * (3 + len(source_names())))

    @property
    def numbers(self) -> list[float]:
        return [self.loss, self.weight, self.num_stopping, *self.masses]

    def __add__(self, other: Totals) -> Totals:
        return Totals.of([a + b for a, b in zip(self.numbers, other.numbers, strict=True)])

    @property
    def mean_loss(self) -> float:
        """Over the weights of the anchors; 0 where all of them are 0."""
        return self.loss / self.weight if self.weight else self.loss

    @property
    def gradient_shares(self) -> dict[str, float]:
        """Share of the gradient of negatives that each source has; the shares add up to 1."""
        total = sum(self.masses)
        return {
            name: mass / total if total else 0.0
            for name, mass in zip(source_names(), self.masses, strict=True)
        }
