"""Kinds of FAISS indices of ads and the default kind of an export. This module does not import FAISS."""

from __future__ import annotations

from typing import Literal

Kind = Literal["flat", "ivf_flat", "ivf_pq"]
KINDS: tuple[Kind, ...] = ("flat", "ivf_flat", "ivf_pq")

EXPORTED_KIND: Kind = "ivf_flat"
"""Default of ``jobs/export_towers.py --index``, and the kind that ``jobs/evaluate_two_tower.py`` measures."""
EXPORTED_SEED = 0
"""Default of ``jobs/export_towers.py --seed``."""
