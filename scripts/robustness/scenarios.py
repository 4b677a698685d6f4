"""Scenarios of faults: start a run, start it again, and read what it leaves."""

from __future__ import annotations

import random
import subprocess
from types import TracebackType

from scripts.robustness.object_store import BUCKET, Trouble
from scripts.robustness.processes import Process
from scripts.robustness.testbed import Grounds, Outcome, curve_of, day_of, forget

from scrollpast.shards import filesystem as files


class Here:
    """Mining on this machine, into a separate folder."""

    def __init__(self, grounds: Grounds, seed: int, generator: random.Random) -> None:
        self.grounds, self.generator = grounds, generator
        self.folder = grounds.folder / f"seed-{seed}"
        self.out = str(self.folder)

    @property
    def expected(self) -> Outcome:
        """Outcome of an undisturbed run."""
        return self.grounds.day

    def __enter__(self) -> Here:
        _ = self.expected  # computed before the fault, which must strike only the disturbed run
        forget(self.folder)
        self.folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the output, for a person who looks for the cause; `clear` removes it."""

    def start(self, **variables: str) -> Process:
        """Start the run that the fault disturbs."""
        return self.grounds.mine(self.out, **variables)

    def start_again(self) -> Process:
        """Start the same command again, without a fault."""
        return self.start()

    def found(self) -> Outcome:
        """Outcome that the runs left."""
        return day_of(self.out)

    def clear(self) -> None:
        """Remove the output."""
        forget(self.folder)


class Damaged(Here):
    """Mining on this machine; the second run has --overwrite, because a damaged day is mined again only with it."""

    def start_again(self) -> Process:
        return self.grounds.mine(self.out, "--overwrite")


class SmallDisk(Here):
    """Mining into a small file system in memory, enlarged for the second run; only root may mount it."""

    def __enter__(self) -> Here:
        super().__enter__()
        size = int(self.grounds.day_bytes * (0.1 + 0.8 * self.generator.random()))
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", self.out], check=True, capture_output=True)

    def start_again(self) -> Process:
        self._mount("-o", "remount,size=1g")
        return self.start()

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, self.out], check=True, capture_output=True)


class OnCluster(Here):
    """Mining on a standalone cluster of two workers, through scripts/submit.sh."""

    def __enter__(self) -> Here:
        super().__enter__()
        _ = self.grounds.cluster
        return self

    def start(self, **_: str) -> Process:
        return self.grounds.submit(self.out)

    def start_again(self) -> Process:
        while len(self.grounds.cluster.workers) < 2:
            self.grounds.cluster.start_worker()
        return self.start()


class AtStore(Here):
    """Mining from and into an S3-compatible server, which injects failures into the first run."""

    errors = silence = slowness_s = 0.0

    def __init__(self, grounds: Grounds, seed: int, generator: random.Random) -> None:
        super().__init__(grounds, seed, generator)
        self.out = f"s3://{BUCKET}/seed-{seed}"
        self.trouble = Trouble(generator, self.errors, self.silence, self.slowness_s)

    @property
    def expected(self) -> Outcome:
        return self.grounds.stored_day

    def start(self, **_: str) -> Process:
        self.grounds.store.trouble = self.trouble
        return self._mine()

    def start_again(self) -> Process:
        self.grounds.store.trouble = None
        return self._mine()

    def _mine(self) -> Process:
        return self.grounds.mine(self.out, log=self.grounds.stored_log, **self.grounds.store.environment)

    def found(self) -> Outcome:
        with self.grounds.at_store():
            return day_of(self.out)

    def clear(self) -> None:
        super().clear()
        with self.grounds.at_store():
            filesystem, path = files.resolve(self.out)
            filesystem.delete_dir(path)


class FailingStore(AtStore):
    """A store that fails one request in ten."""

    errors = 0.1


class SlowStore(AtStore):
    """A slow store, with one answer in a hundred that comes after the client has hung up."""

    silence, slowness_s = 0.01, 0.1


class Training(Here):
    """Training with two ranks."""

    @property
    def expected(self) -> Outcome:
        return self.grounds.curve

    def start(self, **_: str) -> Process:
        return self.grounds.train(self.folder)

    def found(self) -> Outcome:
        return curve_of(self.folder)
