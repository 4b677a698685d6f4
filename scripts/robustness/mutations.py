"""Mutations of bytes: damage that files meet, and values that parsers handle badly."""

from __future__ import annotations

import random
import struct


def mutated(content: bytes, generator: random.Random) -> bytes:
    """The bytes after one to three changes: bits, bytes with a meaning in protobuf, cuts, repeats, swaps, lengths."""
    changed = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        if not changed:
            break
        at, stretch = generator.randrange(len(changed)), generator.randrange(1, 24)
        match generator.randrange(8):
            case 0:
                changed[at] ^= 1 << generator.randrange(8)
            case 1:
                changed[at] = generator.choice([0, 1, 8, 0x0A, 0x12, 0x1A, 0x22, 0x7F, 0x80, 0xFF])
            case 2:
                del changed[at : at + stretch]
            case 3:
                changed[at:at] = changed[at : at + stretch]
            case 4:
                changed[at : at + stretch] = generator.randbytes(stretch)
            case 5:
                del changed[at:]
            case 6:
                to = generator.randrange(len(changed))
                changed[at : at + stretch], changed[to : to + stretch] = (
                    changed[to : to + stretch], changed[at : at + stretch],
                )  # fmt: skip
            case 7:
                changed[at : at + 8] = struct.pack(
                    "<Q", generator.choice([0, 1, 2**31, 2**32, 2**63 - 1, 2**64 - 1])
                )
    return bytes(changed)
