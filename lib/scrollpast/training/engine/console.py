"""Console output of a run: a bar on a terminal, lines elsewhere, no output of the libraries."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from tqdm import tqdm

_TALKATIVE = ("torchrec", "torch.distributed", "torch.fx", "fbgemm_gpu", "root")


def silence_libraries() -> None:
    """Suppress warnings of libraries, which concern their developers and not the user of a run."""
    warnings.filterwarnings("ignore", module=r"(torch|torchrec|fbgemm_gpu|tensordict|torchmetrics)(\.|$)")
    # Deprecations are reported at the caller's line, which may be in this package.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*(ShardedTensor|_tensor`|deprecated)")
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)


class StepProgress:
    """Progress of a run on standard error; silent on all ranks but the first.

    Args:
        total: approximate steps of the whole run.
        first: steps done before.
    """

    def __init__(self, total: int, first: int, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._is_terminal = sys.stderr.isatty()
        self._total = total
        self._bar = tqdm(
            total=total,
            initial=first,
            disable=not (is_shown and self._is_terminal),
            unit="step",
            dynamic_ncols=True,
            leave=False,
        )

    def __enter__(self) -> StepProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Count one more step."""
        self._bar.update()

    def show(
        self, step: int, loss: float, examples_per_s: float, gradient_shares: Mapping[str, float]
    ) -> None:
        """Show the state of the run, at intervals.

        Args:
            step: steps done.
        """
        shares = ", ".join(f"{name} {share:.0%}" for name, share in gradient_shares.items() if share > 0)
        text = f"loss {loss:.4f}, {examples_per_s:,.0f} examples/s, gradient: {shares or 'none'}"
        if self._is_terminal:
            self._bar.set_postfix_str(text, refresh=False)
        else:
            self.say(f"step {step:,} of {self._total:,}: {text}")

    def say(self, text: str) -> None:
        """Print a permanent line."""
        if self._is_shown:
            self._bar.clear()
            print(text, file=sys.stderr, flush=True)
            self._bar.refresh()


class Rate:
    """Examples a second since the last call; pauses do not count."""

    def __init__(self) -> None:
        self._started, self._count = time.monotonic(), 0

    def add(self, count: int) -> None:
        self._count += count

    def taken(self) -> float:
        now = time.monotonic()
        rate = self._count / max(now - self._started, 1e-9)
        self._started, self._count = now, 0
        return rate

    @contextmanager
    def pause(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - began
