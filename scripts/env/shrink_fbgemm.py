#!/usr/bin/env python3
"""Shrink fbgemm-gpu to the code of one GPU architecture: shrink_fbgemm.py WHEEL FOLDER ARCHIVE

The wheel holds code for several architectures and all of fbgemm, 465 MB compressed. Every library must stay, or the
package does not import. A two-tower trainer runs the code of one architecture: lookups, and the update by row-wise
Adagrad. All other code is overwritten with zeros in place, so that no offset moves, and zeros compress to almost
nothing: about 57 MB. Removed code: batches of varying size, tables without a fused optimizer, kernels of other
optimizers, and quantised inference.

Layout of CUDA's embedded code, as cuobjdump shows it: a section .nv_fatbin of containers (magic BA55ED50). A container
has entries of a kind, a size, an architecture and flags; flag 0x8000 marks an entry compressed with Zstandard.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

ARCHITECTURE = 90
_MAGIC = 0xBA55ED50
_ZSTD = 0x8000
_UNUSED = re.compile(r"_tbe_inference$|_vbe$|_gwd$|_dense$|_tbe_index_select$")
_SHARED_BY_OPTIMISERS = "fbgemm_gpu_tbe_training_backward"
_USED = re.compile(rb"rowwise_adagrad|grad_mean|find_long_segments")


@dataclass(frozen=True)
class Entry:
    """Code for one architecture inside a library."""

    start: int
    size: int
    architecture: int
    compressed: int
    flags: int


def entries(content: bytes | bytearray) -> Iterator[Entry]:
    """All code for GPUs in a library."""
    for offset, size in _sections(content):
        at, end = offset, offset + size
        while at + 16 <= end:
            magic, _, header, length = struct.unpack_from("<IHHQ", content, at)
            if magic != _MAGIC:
                at += 8  # containers are aligned, with gaps
                continue
            inner, stop = at + header, at + header + length
            while inner < stop:
                _, _, entry_header, entry_size = struct.unpack_from("<HHIQ", content, inner)
                (compressed,) = struct.unpack_from("<I", content, inner + 16)
                (architecture,) = struct.unpack_from("<I", content, inner + 28)
                (flags,) = struct.unpack_from("<Q", content, inner + 40)
                yield Entry(inner + entry_header, entry_size, architecture, compressed, flags)
                inner += entry_header + entry_size
            at = stop


def _sections(content: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Offset and size of the sections with code for GPUs, from the header of a 64-bit ELF."""
    (table,) = struct.unpack_from("<Q", content, 40)
    size, count, names = struct.unpack_from("<HHH", content, 58)

    def section(number: int) -> tuple[int, int, int]:
        start = table + number * size
        (name,) = struct.unpack_from("<I", content, start)
        offset, length = struct.unpack_from("<QQ", content, start + 24)
        return name, offset, length

    _, texts, _ = section(names)
    for number in range(count):
        name, offset, length = section(number)
        if content[texts + name : texts + name + 11] == b".nv_fatbin\0":
            yield offset, length


def is_used(entry: Entry, content: bytes | bytearray, library: str) -> bool:
    """True if the trainer may run the entry's code on this architecture."""
    if entry.architecture != ARCHITECTURE or _UNUSED.search(library):
        return False
    if library != _SHARED_BY_OPTIMISERS:
        return True
    code = bytes(content[entry.start : entry.start + entry.size])
    if entry.flags & _ZSTD:
        code = zstandard.ZstdDecompressor().decompressobj().decompress(code[: entry.compressed or None])
    kernels = re.findall(rb"\.text\.(\w+)", code)
    return not kernels or any(_USED.search(kernel) for kernel in kernels)


def shrink(library: Path) -> tuple[int, int]:
    """Zero unused code in place; returns bytes kept and bytes zeroed."""
    content, kept, zeroed = bytearray(library.read_bytes()), 0, 0
    for entry in list(entries(content)):
        if is_used(entry, content, library.stem):
            kept += entry.size
        else:
            zeroed += entry.size
            content[entry.start : entry.start + entry.size] = bytes(entry.size)
    library.write_bytes(content)
    return kept, zeroed


def main(wheel: str, folder: str, archive: str) -> None:
    zipfile.ZipFile(wheel).extractall(folder)
    for library in sorted(Path(folder, "fbgemm_gpu").glob("*.so")):
        kept, zeroed = shrink(library)
        print(f"{library.name}: kept {kept / 2**20:.1f} MiB of code, zeroed {zeroed / 2**20:.1f}", flush=True)
    command = ["tar", "-C", folder, "--exclude=__pycache__", "-I", "xz -T0 -6", "-cf", archive, "fbgemm_gpu"]
    subprocess.run(command, check=True)
    print(f"{archive}: {Path(archive).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:4])
