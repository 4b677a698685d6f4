"""Options of reading, shuffling and drawing."""

from __future__ import annotations

from dataclasses import dataclass, fields

from scrollpast.errors import UserError

_LEAST = {"seed": -(2**63), "epoch": 0, "batch_size": 1, "block_records": 1, "prefetch_batches": 1}
_MOST = {"seed": 2**63 - 1, "num_hard": 1024, "num_neighbours": 1024}


@dataclass(frozen=True)
class DataOptions:
    """Options of `AnchorStream`; a mistake is a `UserError` that names ``training.data.<option>``."""

    batch_size: int = 1024
    """Anchors of a batch of one rank."""
    num_hard: int = 2
    """K: hard negatives drawn for every anchor."""
    num_neighbours: int = 0
    """J: nearest neighbours drawn for every anchor, of those that were mined into the user's record."""
    is_hard_drawn_by_weight: bool = True
    """Hard negatives are drawn by their weights; else each of a user's is as likely as any other."""
    explicit_boost: float = 1.0
    """A hide or report is drawn as if its weight were this many times as large; 0 = never."""
    max_history: int = 64
    """Past positives of an anchor at most, the latest; 0 = none."""
    seed: int = 0
    """Of the order and of the draws."""
    shuffle: bool = True
    """Shards, blocks and the anchors of a block in an order of (seed, epoch); else as they lie in the files."""
    is_padded: bool = True
    """Training: every rank has the same number of batches of exactly ``batch_size``; anchors of weight 0, which
    repeat others, fill up the last. Without it (evaluation) every anchor comes once, the last batch of a rank may
    be smaller, and a rank may have one batch less than another."""
    num_lanes: int | None = None
    """Places of the data that all ranks together read at once (see `plan`); null = chosen, 8 for most batches."""
    block_records: int = 8192
    """Records of a lane that are decoded at once, and whose anchors are shuffled among themselves."""
    cache_bytes: int = 1 << 29
    """Decoded blocks that one rank keeps from epoch to epoch, 0 = none; days that fit are decoded once."""
    num_workers: int = 1
    """Threads that read ahead, at most one a lane of the rank; 0 = the caller's own."""
    prefetch_batches: int = 4
    """Batches that every thread reads ahead."""
    verify: bool = True
    """Check the CRCs and digests of what is read."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or value is None:
                continue
            least, most = _LEAST.get(field.name, 0), _MOST.get(field.name, float("inf"))
            if not least <= value <= most or value == float("inf"):
                bounds = f"{least} to {most}" if field.name in _MOST else f"{least} or more"
                raise UserError(
                    f"training.data.{field.name}",
                    expected=bounds,
                    found=str(value),
                    remedy="change the option",
                )
