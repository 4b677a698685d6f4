"""Codes of malformed bytes that compiled loops return, and their error messages."""

from __future__ import annotations

import numpy as np

from scrollpast.compiled import compiled
from scrollpast.errors import CorruptShardError
from scrollpast.shards.columns import LIST_NAMES

WRITE_AGAIN = "write the file again from its source"

SHORT_HEADER, HEADER_CRC, SHORT_PAYLOAD, PAYLOAD_CRC = 1, 2, 3, 4
MALFORMED, WRONG_LIST, NOT_ONE, ABSENT, BAD_VARINT, TOO_LARGE = 5, 6, 7, 8, 9, 10


def no_fault() -> np.ndarray:
    """Empty fault for a kernel to fill in, int64 [5]: code (0 = no fault), record, byte, expected, found."""
    return np.zeros(5, np.int64)


@compiled
def note(fault: np.ndarray, code: int, record: int, byte: int, expected: int, found: int) -> None:
    """Fill in the fault."""
    fault[0], fault[1], fault[2], fault[3], fault[4] = code, record, byte, expected, found


def fault_error(fault: np.ndarray, place: str, remedy: str, feature: str = "") -> CorruptShardError:
    """Error of a noted fault.

    Args:
        place: the file's name.
        feature: the feature that was read; empty outside a feature.
    """
    code, record, byte, wanted, got = (int(number) for number in fault)
    expected, found = {
        SHORT_HEADER: ("a record header of 12 bytes", f"{got:,} bytes before the end of the file"),
        HEADER_CRC: (f"CRC 0x{wanted:08x} over the record's length", f"0x{got:08x}"),
        SHORT_PAYLOAD: (f"{wanted:,} bytes of payload and CRC", f"{got:,} bytes before the end of the file"),
        PAYLOAD_CRC: (f"CRC 0x{wanted:08x} over the payload", f"0x{got:08x}"),
        MALFORMED: (
            "a protobuf field of tf.train.Example",
            "bytes that are no field or exceed their message",
        ),
        WRONG_LIST: (LIST_NAMES.get(wanted, ""), LIST_NAMES.get(got, "")),
        NOT_ONE: ("exactly 1 value", f"{got:,}"),
        ABSENT: ("a value in every record", "no such feature"),
        BAD_VARINT: ("integers of 64 bits", "a varint that is longer or truncated"),
        TOO_LARGE: ("less than 2 GiB, protobuf's limit of one message", f"{got:,} bytes"),
    }[code]
    where = f"{place}, record {record:,}, byte {byte:,}" + (f", feature {feature}" if feature else "")
    return CorruptShardError(where, expected=expected, found=found, remedy=remedy)
