"""Arithmetic precision of a part of the model."""

from __future__ import annotations

from typing import Literal

import torch


def precision_of(setting: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """Data type of a setting on a device; auto = bfloat16 on a GPU that has it."""
    is_reduced = setting == "bfloat16" or (
        setting == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.bfloat16 if is_reduced else torch.float32
