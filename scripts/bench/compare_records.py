"""Records of shards as flat columns, to compare the results of two programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import SERVED_CODE
from scrollpast.hashing import xxhash64
from scrollpast.record_schema import NEGATIVE_FEATURES, POSITIVE_FEATURES, USER_ID, record_schema
from scrollpast.shards.codec import decode_frames
from scrollpast.shards.framing import index_frames

_COMPARED = ("ad_id", "kind", "served_at_ms", "position", "dwell_ms", "weight")

Side = dict[str, NDArray[np.generic]]


def flat_records(files: Iterable[Path], one_in: int = 1) -> tuple[dict[str, Side], dict[str, int]]:
    """Both sides of the records as flat columns, ordered by (user, time, ad, position): ``{side: {name: [N]}}``.

    Args:
        one_in: keep one of this many users, chosen by a hash, where not all users fit into memory.

    Returns:
        The columns, and the number of values of all users on either side.
    """
    totals = {"positive": 0, "negative": 0}
    sides: dict[str, list[Side]] = {"positive": [], "negative": []}
    for file in files:
        content = pa.py_buffer(file.read_bytes())
        batch = decode_frames(content, index_frames(content, str(file)), record_schema(()), str(file))
        users = batch[USER_ID].to_numpy()
        for side, names in (("positive", POSITIVE_FEATURES), ("negative", NEGATIVE_FEATURES)):
            lengths = batch[f"{side}_ad_id"].value_lengths().to_numpy()
            totals[side] += int(lengths.sum())
            kept = np.repeat(xxhash64(users) % one_in == 0, lengths)
            wanted = [name for name in _COMPARED if f"{side}_{name}" in names]
            columns: Side = {name: batch[f"{side}_{name}"].flatten().to_numpy()[kept] for name in wanted}
            sides[side].append({"user": np.repeat(users, lengths)[kept], **columns})
    return {side: _ordered(parts) for side, parts in sides.items()}, totals


def _ordered(parts: list[Side]) -> Side:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    names = [name for name in ("user", "served_at_ms", "ad_id", "position") if name in columns]
    order = np.lexsort([columns[name] for name in reversed(names)])
    return {name: column[order] for name, column in columns.items()}


def differences(ours: dict[str, Side], theirs: dict[str, Side], cap: int) -> str | None:
    """A message about the first difference, or ``None``.

    The rules leave open which of several negatives of the same time a user's ``cap`` keeps: for users at the cap,
    only the number and the times are compared.
    """
    for side, own in ours.items():
        other = theirs[side]
        if len(own["user"]) != len(other["user"]):
            return f"{side}s: {len(own['user']):,} of ours, {len(other['user']):,} of theirs"
        for name in ("user", "served_at_ms"):
            if not np.array_equal(own[name], other[name]):
                return f"{side}s: {name} differs in {int((own[name] != other[name]).sum()):,} rows"
        users, code = np.unique(own["user"], return_inverse=True)
        is_served = own["kind"] == SERVED_CODE
        is_capped = np.bincount(code[is_served], minlength=len(users)) >= cap
        strict = ~is_capped[code]
        for name in own:
            same = np.isclose(own[name], other[name]) if name == "weight" else own[name] == other[name]
            if not same[strict].all():
                return f"{side}s: {name} differs in {int((~same)[strict].sum()):,} rows"
    return None
