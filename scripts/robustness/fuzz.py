#!/usr/bin/env python3
"""Fuzz the jobs' readers with mutated shards, manifests and configurations: each must be read correctly or refused.

Shards are mutated in two ways. *as found*: the manifest has the digest of the original bytes, so that any change must
be refused. *sealed*: frames, CRCs and digest are computed again around the mutated records, so that mutations reach
the decoder. Accepted records must equal those that Google's protobuf reads from the same bytes.

Every case has a watchdog, and every process a limit of memory. Every thousandth case is a large shard, whose peak of
memory may be at most four times its size. If a process dies, its cases are reported as crashes, with the command that
runs them again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from scripts.bench.benchmarking import RESULTS, save
from scripts.robustness.mutations import mutated
from scripts.robustness.protobuf_reference import ReferenceRefuses, agree, reference

from scrollpast.argument_types import whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import Config, load_config
from scrollpast.errors import CorruptShardError, UserError
from scrollpast.record_schema import NEGATIVE_FEATURES, POSITIVE_FEATURES, record_schema
from scrollpast.shards.codec import encode_records
from scrollpast.shards.framing import frame, unframe
from scrollpast.shards.manifest import Manifest, ShardEntry, is_inside, shard_path
from scrollpast.shards.reader import PublishedShard, decode_shard, read_shard_content

AS_FOUND, SEALED, LARGE, MANIFEST, CONFIGURATION = "as found", "sealed", "large", "manifest", "configuration"
CHUNK = 2_000
_MEMORY = "/dev/shm"  # noqa: S108 - a folder of its own is made in it
_LARGE_EVERY = 1_000
_HANGS_AFTER_S = 120
"""Seconds of a case until the watchdog ends it; the slowest takes a second, or twenty on a busy machine."""
_LIMIT_BYTES = 6 << 30
_ALLOWANCE_BYTES = 8 << 20
"""Bytes that Python and its libraries may take for any file, beside four times its size."""
SCHEMA = record_schema(["age"])


@dataclass
class Found:
    """Results of a chunk of cases: counts by kind and result, and the cases that failed."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest_s: dict[str, float] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        self.counts += other.counts
        self.broken += other.broken
        for kind, seconds in other.slowest_s.items():
            self.slowest_s[kind] = max(seconds, self.slowest_s.get(kind, 0.0))


class _Hang(BaseException):
    """Raised by the watchdog; a BaseException, which no `except Exception` of the reader catches."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="fuzz.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--shards", type=whole_number(0), default=100_000, metavar="N", help="mutated shards (1e5)")
    option(
        "--configurations",
        type=whole_number(0),
        default=10_000,
        metavar="N",
        help="configurations, and as many manifests",
    )
    option(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="S",
        help="seed of the first chunk; later chunks count up from it (0)",
    )
    option("--processes", type=whole_number(1), default=2, metavar="P", help="parallel processes (2)")
    option("--results", type=Path, help=f"folder of the table, such as {os.path.relpath(RESULTS)}")
    return run_job(parser, fuzz)


def fuzz(arguments: argparse.Namespace) -> int:
    chunks: list[tuple[str, int, int]] = []
    for kinds, total in (("shards", arguments.shards), ("texts", arguments.configurations)):
        starts = range(0, total, CHUNK)
        chunks += [(kinds, arguments.seed + first // CHUNK, min(CHUNK, total - first)) for first in starts]
    began, found = time.monotonic(), Found()
    for kinds, seed, count in _crashed(chunks, found, arguments.processes):
        found.counts[kinds, "crashed"] += 1
        again = "--shards {} --configurations 0" if kinds == "shards" else "--shards 0 --configurations {}"
        found.broken.append(
            f"a process died: scripts/robustness/fuzz.py --seed {seed} {again.format(count)} --processes 1"
        )
    seconds = time.monotonic() - began
    table = render(found, seconds)
    print(table)
    if arguments.results is not None:
        counts = {f"{kind}: {what}": number for (kind, what), number in sorted(found.counts.items())}
        figures = {"counts": counts, "broken": found.broken, "seconds": seconds, "slowest_s": found.slowest_s}
        save(arguments.results, "fuzz", table, figures)
    return 1 if found.broken else 0


def _crashed(
    chunks: list[tuple[str, int, int]], found: Found, num_processes: int
) -> list[tuple[str, int, int]]:
    """Run all chunks, and return those whose process died. A dead chunk is run again alone, to find the culprit."""
    left, crashed = chunks, []
    is_alone = False
    while left:
        again = []
        with ProcessPoolExecutor(1 if is_alone else num_processes) as pool:
            futures = [(chunk, pool.submit(run_chunk, *chunk)) for chunk in left]
            for chunk, future in futures:
                try:
                    found.add(future.result())
                except BrokenProcessPool:
                    again.append(chunk)
        if is_alone and again:
            crashed.append(again.pop(0))
        left, is_alone = again, True
    return crashed


def run_chunk(kinds: str, seed: int, count: int) -> Found:
    """Run ``count`` cases in this process; the same seed gives the same cases."""
    resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))
    signal.signal(signal.SIGALRM, _bark)
    found = Found()
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.path.isdir(_MEMORY) else None) as folder:
        cases = Shards(Path(folder), generator) if kinds == "shards" else Texts(Path(folder), generator)
        for number in range(count):
            kind, case = cases.draw(number)
            began = time.monotonic()
            signal.alarm(_HANGS_AFTER_S)
            try:
                what = case()
            except _Hang:
                what = "hung"
            except MemoryError:
                what = "out of memory"
            except Exception as error:  # noqa: BLE001 - whatever else is raised is what the law forbids
                what = f"raised {type(error).__name__}"
            finally:
                signal.alarm(0)
            found.counts[kind, what] += 1
            found.slowest_s[kind] = max(time.monotonic() - began, found.slowest_s.get(kind, 0.0))
            if what not in ("refused", "as written", "read", "read; protobuf refuses"):
                found.broken.append(f"{kind}: {what} (chunk {seed} of {kinds}, case {number})")
    return found


def _bark(_number: int, _frame: Any) -> None:
    raise _Hang


class Shards:
    """Draws mutated shards, and reads them as a job does."""

    def __init__(self, folder: Path, generator: random.Random) -> None:
        self._folder, self._generator = folder, generator
        numbers = np.random.Generator(np.random.Philox(7))
        self._small = [bytes(encode_records(_records(numbers, 1 + size))) for size in range(4)]
        self._payloads = [unframe(content, "small") for content in self._small]
        self._large: bytes | None = None
        self._numbers = numbers

    def draw(self, number: int) -> tuple[str, Callable[[], str]]:
        if number % _LARGE_EVERY == _LARGE_EVERY - 1:
            return LARGE, self._measured
        at = self._generator.randrange(len(self._small))
        if number % 2:
            return SEALED, lambda: self._sealed(self._payloads[at])
        return AS_FOUND, lambda: self._as_found(self._small[at])

    def _as_found(self, content: bytes) -> str:
        changed = mutated(content, self._generator)
        shard = self._write(changed, content, num_records=content_records(content))
        batch = _read(shard)
        if batch is None:
            return "refused"
        return "as written" if changed == content else "wrong: other bytes accepted"

    def _sealed(self, payloads: list[bytes]) -> str:
        changed = list(payloads)
        at = self._generator.randrange(len(changed))
        changed[at] = mutated(changed[at], self._generator)
        content = b"".join(map(frame, changed))
        batch = _read(self._write(content, content, num_records=len(changed)))
        if batch is None:
            return "refused"
        batch.validate(full=True)
        try:
            wanted = [reference(payload) for payload in changed]
        except ReferenceRefuses:
            return "read; protobuf refuses"
        return "read" if agree(batch, wanted) else "wrong: other values than protobuf's"

    def _measured(self) -> str:
        """Read a large mutated shard and check the peak of memory."""
        if self._large is None:
            self._large = bytes(encode_records(_records(self._numbers, 4_000)))
        changed = mutated(self._large, self._generator)
        count = content_records(self._large)
        shard = self._write(
            changed, changed if self._generator.random() < 0.5 else self._large, num_records=count
        )
        before = _reset_peak()
        batch = _read(shard)
        grown = _peak() - before
        if grown > 4 * len(changed) + _ALLOWANCE_BYTES:
            return f"wrong: {grown / len(changed):.1f} × the file's size in memory"
        return "refused" if batch is None else "read"

    def _write(self, content: bytes, known: bytes, *, num_records: int) -> PublishedShard:
        """Write ``content`` as a shard whose manifest has the digest and size of ``known``."""
        sha256 = hashlib.sha256(known).hexdigest()
        entry = ShardEntry(shard_path(0, "0" * 64), 0, num_records, len(known), sha256)
        path = self._folder / entry.path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return PublishedShard(str(self._folder), "2026-11-20", entry)


def _read(shard: PublishedShard) -> pa.RecordBatch | None:
    """The records, or None where the reader refuses them."""
    try:
        content, frames = read_shard_content(shard)
        return decode_shard(shard, content, frames, SCHEMA)
    except CorruptShardError:
        return None


def content_records(content: bytes) -> int:
    """Records of a sound shard."""
    count, at = 0, 0
    while at < len(content):
        at += 16 + struct.unpack_from("<Q", content, at)[0]
        count += 1
    return count


def _records(numbers: np.random.Generator, count: int) -> pa.RecordBatch:
    rows = []
    for user in range(count):
        row: dict[str, Any] = {
            "user_id": int(numbers.integers(2**63)),
            "user_age": int(numbers.integers(-1, 9)),
        }
        for features, size in ((POSITIVE_FEATURES, 1 + user % 3), (NEGATIVE_FEATURES, user % 5)):
            for name, kind in features.items():
                is_float = pa.types.is_floating(kind.value_type)
                row[name] = (
                    numbers.random(size, np.float32).tolist()
                    if is_float
                    else numbers.integers(-1, 2 ** int(numbers.integers(1, 63)), size).tolist()
                )
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


class Texts:
    """Draws mutated configurations and manifests, and loads them as a job does."""

    def __init__(self, folder: Path, generator: random.Random) -> None:
        self._folder, self._generator = folder, generator
        self._configuration = yaml.safe_dump(Config().model_dump(mode="json"), sort_keys=False)
        entries = [
            ShardEntry(shard_path(bucket, f"{bucket:064x}"), bucket, 3, 100, f"{bucket:064x}")
            for bucket in range(3)
        ]
        moment = "2026-11-20T00:00:00+00:00"
        self._manifest = Manifest(
            "2026-11-20", moment, "2026-11-21T00:00:00+00:00", moment, 4, moment, {"mining": {"seed": 0}},
            {"impressions": {"num_rows": 5}}, {"negative": 5}, 9, 4, 5, {"click": 1}, tuple(entries),
            ledger_files=("ledger/part-0.parquet",), quarantine_files=("quarantine/part-0.parquet",),
            health={"lag_h": 24.0}, exposure_file="exposure/part-0.json", user_key="0" * 16,
        ).to_json()  # fmt: skip

    def draw(self, number: int) -> tuple[str, Callable[[], str]]:
        return (MANIFEST, self._read_manifest) if number % 2 else (CONFIGURATION, self._load_configuration)

    def _read_manifest(self) -> str:
        try:
            read = Manifest.from_json(self._mutated(self._manifest), "manifest.json")
        except CorruptShardError:
            return "refused"
        if not all(map(is_inside, read.paths)):
            return "wrong: a path that leaves the day's folder"
        return (
            "read"
            if Manifest.from_json(read.to_json(), "again") == read
            else "wrong: not read back as written"
        )

    def _load_configuration(self) -> str:
        path = self._folder / "mutated.yaml"
        path.write_bytes(self._mutated(self._configuration))
        try:
            loaded = load_config(str(path))
        except UserError:
            return "refused"
        Config.model_validate(loaded.model_dump())  # raises if the first load accepted an invalid value
        return "read"

    def _mutated(self, text: str) -> bytes:
        """The text with a value replaced by a value of any kind, or with bytes changed."""
        if self._generator.random() < 0.5:
            return mutated(text.encode(), self._generator)
        lines = text.splitlines()
        at = self._generator.randrange(len(lines))
        key, colon, _ = lines[at].partition(": ")
        odd = ["null", "-1", "1e999", ".nan", "99999999999999999999", "[]", "{}", "'../../x'", '"/etc/x"', "true",
            "&a [*a]", "9" * 5_000,
               '"\\u0000"', "!!python/name:os.system", "- - -", "x" * 5_000]  # fmt: skip
        lines[at] = f"{key}{colon or ': '}{self._generator.choice(odd)}" + (
            "," if lines[at].endswith(",") else ""
        )
        return "\n".join(lines).encode()


def _reset_peak() -> int:
    """Reset this process's peak of memory (Linux); returns its current resident bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(f"{name}:"))


def render(found: Found, seconds: float) -> str:
    """Table of the results by kind, with the time and the first 20 failures."""
    kinds = sorted({kind for kind, _ in found.counts})
    whats = ["refused", "as written", "read", "read; protobuf refuses"]
    lines = [
        f"{'mutated':<16}{'cases':>10}"
        + "".join(f"{what:>24}" for what in whats)
        + f"{'broken':>8}{'slowest':>10}"
    ]
    for kind in kinds:
        counts = {what: number for (of, what), number in found.counts.items() if of == kind}
        total, fine = sum(counts.values()), sum(counts.get(what, 0) for what in whats)
        cells = "".join(f"{counts.get(what, 0):>24,}" for what in whats)
        slowest = f"{1000 * found.slowest_s.get(kind, 0):,.0f} ms"
        lines.append(f"{kind:<16}{total:>10,}{cells}{total - fine:>8,}{slowest:>10}")
    lines += ["", f"{seconds:,.0f} s", *found.broken[:20]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
