"""Facts of a stream that other sections than ``training.data`` hold: seed, draws of an anchor, padding."""

from __future__ import annotations

from dataclasses import dataclass

from scrollpast.config.training_options import Training


@dataclass(frozen=True)
class Sampling:
    """Seed of the order and the draws, number of draws for an anchor, and padding of the last batch."""

    seed: int = 0
    """Seed of the order and of the draws, in [0, 2⁶³)."""
    num_hard: int = 0
    """K: hard negatives drawn for every anchor."""
    num_neighbours: int = 0
    """J: nearest neighbours drawn for every anchor, of those that were mined into the user's record."""
    sample_by_weight: bool = True
    """Draw hard negatives by their weights; false = each of a user's is as likely as any other."""
    is_padded: bool = True
    """Training: every rank has the same number of batches of exactly ``batch_size``; anchors of weight 0, which
    repeat others, fill up the last. Without it (evaluation) every anchor comes once, the last batch of a rank may
    be smaller, and a rank may have one batch less than another."""

    @classmethod
    def of(cls, options: Training) -> Sampling:
        """Sampling of a training run; a source that is not enabled draws nothing."""
        hard, neighbour = options.negatives.hard, options.negatives.neighbour
        terms = (options.loss.served, options.loss.exposure)
        return cls(
            seed=options.seed,
            num_hard=max(
                hard.count if hard.enabled else 0, *(term.count if term.weight else 0 for term in terms)
            ),
            num_neighbours=neighbour.count if neighbour.enabled else 0,
            sample_by_weight=hard.sample_by_weight,
        )
