"""Trainer: steps until the epochs are over, with metrics, evaluations and checkpoints."""

from __future__ import annotations

import math
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import torch
import torch.distributed as dist

from scrollpast.config.training_options import Training
from scrollpast.errors import ScrollpastError
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.prefetch import Prefetched
from scrollpast.training.data.rank_stream import open_stream
from scrollpast.training.engine.async_metrics import PendingStep
from scrollpast.training.engine.checkpoint import Checkpoint, CheckpointWriter, restore
from scrollpast.training.engine.console import Rate, StepProgress
from scrollpast.training.engine.distributed import raise_on_all_ranks
from scrollpast.training.engine.metrics_log import MetricsLogger
from scrollpast.training.engine.resume import why_finished
from scrollpast.training.engine.step_input import Preparation, StepInput
from scrollpast.training.engine.step_model import StepModel, build
from scrollpast.training.engine.step_runner import PlainStepping, SparseDistStepping, Stepping, StepResult
from scrollpast.training.engine.warm_start import begin_from
from scrollpast.training.loss.totals import Totals
from scrollpast.training.model.optimizers import TrainingOptimizer

_LAG = {"cuda": 2}
"""Steps by which the host reads results late, by kind of device; 0 elsewhere, where a lag gains nothing. With a lag,
the device never waits for the host."""


_INPUTS_AHEAD = {"cuda": 4}
"""Inputs that a thread prepares while the host launches steps, by kind of device; 0 elsewhere: no host is idle."""


class Evaluator(Protocol):
    """Protocol of evaluators of a model between two steps; all ranks call an evaluator together."""

    def __call__(self, model: StepModel) -> Mapping[str, float | None]:
        """Metrics by name, such as recall@100; None where no user has the metric."""
        ...


class NonFiniteLoss(ScrollpastError):
    """Error of a step whose loss is NaN or infinite; the step changed no weight."""


@dataclass
class Progress:
    """Position of the loop; part of every checkpoint."""

    step: int = 0
    """Steps done."""
    best: float | None = None
    """Best value of the metric so far."""
    evaluations_since_best: int = 0
    window: Totals = field(default_factory=Totals.zero)
    """Sums since the last logged point."""

    def as_json(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "evaluations_since_best": self.evaluations_since_best,
            "window": self.window.numbers,
        }

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Progress:
        progress = facts["progress"]
        return Progress(
            int(facts["step"]),
            progress["best"],
            progress["evaluations_since_best"],
            Totals.of(progress["window"]),
        )


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training run."""

    reason: str
    """"epochs", "max_steps", "early_stop", or "stopped": asked to by SIGTERM"""
    step: int
    checkpoint_uri: str
    is_new: bool = True
    """False where the run was already finished and nothing was trained."""


class Trainer:
    """Trainer of one run on this rank; every rank has a trainer with the same arguments.

    Args:
        days: URIs of the published days to train on.
        facts: facts about the vocabulary and the days for checkpoints.
        resumed: the checkpoint to resume from.
        lag: steps that the host launches before it reads the result of a step; changes the time only.

    Raises:
        UserError, CorruptShardError: days, vocabulary or configuration are invalid.
    """

    def __init__(
        self,
        options: Training,
        days: Sequence[str],
        vocabulary: Vocabulary,
        run_uri: str,
        device: torch.device,
        *,
        facts: Mapping[str, Any],
        resumed: Checkpoint | None = None,
        evaluator: Evaluator | None = None,
        lag: int | None = None,
    ) -> None:
        group = dist.group.WORLD
        assert group is not None
        self._options, self._run_uri, self._device = options, run_uri, device
        self._rank, self._num_ranks = dist.get_rank(), dist.get_world_size()
        self._evaluator = evaluator
        self.stream = open_stream(options, days, vocabulary, self._rank, self._num_ranks)
        if resumed is not None:
            with raise_on_all_ranks():
                self.stream.load_state_dict(resumed.facts["data"])
        with raise_on_all_ranks():
            self.model = build(options, vocabulary, device, group)
            self._optimizer = TrainingOptimizer(
                self.model, options.optimizer, self.step_model.contrast.soundness
            )
            if resumed is not None:
                restore(resumed, self.model, self._optimizer.combined)
            elif options.start_from is not None:
                begin_from(options.start_from, options.evaluation.metric, self.model, vocabulary)
        self._progress = Progress() if resumed is None else Progress.of(resumed.facts)
        self._facts = {**facts, "config": options.model_dump(mode="json")}
        self._position = self.stream.state_dict()
        self._metrics: Mapping[str, float | None] | None = (
            None if resumed is None else resumed.facts.get("metrics")
        )
        self._preparation = Preparation(vocabulary, options)
        self._checkpoints = CheckpointWriter(run_uri, options.checkpoints, options.evaluation.metric)
        self._stepping = self._choose_stepping()
        self._lag = _LAG.get(device.type, 0) if lag is None else lag
        self._saved_step: int | None = None if resumed is None else self._progress.step

    @property
    def step_model(self) -> StepModel:
        """Towers and loss, without the wrapper that shards and replicates them."""
        unwrapped = self.model.module
        unwrapped = getattr(unwrapped, "module", unwrapped)
        assert isinstance(unwrapped, StepModel)
        return unwrapped

    def train(self) -> TrainingResult:
        """Train to the end, or until SIGTERM.

        Raises:
            NonFiniteLoss: a step's loss is not finite; the state before the step is saved.
            CorruptShardError: a shard is corrupt.
        """
        progress = self._progress
        with ExitStack() as open_things:
            self._bar = open_things.enter_context(
                StepProgress(self._total_steps(), progress.step, is_shown=self._rank == 0)
            )
            self._curves = open_things.enter_context(
                MetricsLogger(self._run_uri, progress.step, is_writing=self._rank == 0)
            )
            open_things.enter_context(self._stopping_on_sigterm())
            reason = self._finished()
            self._rate = Rate()
            inputs = self._inputs()
            open_things.callback(inputs.close)
            under_way: deque[PendingStep] = deque()
            for done in self._stepping.steps(inputs) if reason is None else ():
                under_way.append(PendingStep(done, self.stream.state_after(done.batch.anchors)))
                is_due = self._is_due(progress.step + len(under_way), under_way[-1].position["epoch"])
                is_stopping = False
                while len(under_way) > (0 if is_due or is_stopping else self._lag):
                    is_stopping |= self._conclude(under_way.popleft())
                if not (is_due or is_stopping):
                    continue
                is_better = False
                # After SIGTERM little time is left: no evaluation.
                reason = "stopped" if is_stopping else self._finished()
                if not is_stopping:
                    is_better = self._evaluate(is_last=reason is not None)
                    reason = self._finished()
                if is_better or reason or progress.step % self._options.checkpoints.every_steps == 0:
                    self._save()
                if reason is not None:
                    break
            self._checkpoints.wait()
        assert reason is not None
        return TrainingResult(reason, progress.step, self._last_uri())

    def _is_due(self, step: int, epoch: int) -> bool:
        """True if a checkpoint or an evaluation is due after a step."""
        options = self._options
        is_to_evaluate = self._evaluator is not None and step % options.evaluation.every_steps == 0
        is_to_save = step % options.checkpoints.every_steps == 0
        return is_to_evaluate or is_to_save or self._why_finished(step, epoch) is not None

    def _conclude(self, reading: PendingStep) -> bool:
        """Process the result of a finished step; returns True if a rank received SIGTERM.

        Raises:
            NonFiniteLoss: the step's loss is not finite.
        """
        told = reading.totals()
        if not math.isfinite(told.loss):
            self._stop_at_non_finite(reading)
        self._position, self._metrics = reading.position, None
        self._log(told, len(reading.batch.anchors) * self._num_ranks)
        return told.num_stopping > 0

    def _log(self, told: Totals, num_anchors: int) -> None:
        """Count a finished step, and log metrics at intervals."""
        progress = self._progress
        progress.step += 1
        progress.window += told
        self._rate.add(num_anchors)
        self._bar.advance()
        if progress.step % self._options.log_every_steps:
            return
        window, progress.window = progress.window, Totals.zero()
        rate, shares = self._rate.taken(), window.gradient_shares
        self._bar.show(progress.step, window.mean_loss, rate, shares)
        parts = {f"gradient/{name}": share for name, share in shares.items()}
        self._curves.add(progress.step, {"loss": window.mean_loss, **parts, "examples_per_s": round(rate, 1)})

    def _inputs(self) -> Generator[StepInput]:
        """Inputs of the remaining epochs."""

        def batches() -> Iterator[Any]:
            while self.stream.epoch < self._options.epochs:
                yield from self.stream

        is_pinned = self._device.type == "cuda"
        num_ahead = _INPUTS_AHEAD.get(self._device.type, 0)
        with closing(self._preparation.steps(batches(), self._progress.step, is_pinned=is_pinned)) as inputs:
            if not num_ahead:
                yield from inputs
                return
            with closing(Prefetched(inputs, num_ahead)) as ready:
                yield from ready

    def _forward(self, batch: StepInput) -> tuple[torch.Tensor, StepResult]:
        self._optimizer.at_step(batch.step)
        loss, totals = self.model(batch)
        return loss, StepResult(batch, loss.detach(), totals)

    def _stop_at_non_finite(self, reading: PendingStep) -> None:
        """Raise for a non-finite loss. Later steps changed nothing (`NonFiniteGuard`): the model is unchanged."""
        value, batch = reading.own_loss(), reading.batch
        own = None if math.isfinite(value) else (value, self.stream.describe_origin(batch.anchors))
        origins = [own]
        if self._num_ranks > 1:
            origins = [None] * self._num_ranks
            dist.all_gather_object(origins, own)
        found, origin = next(
            ((v, o) for v, o in (x for x in origins if x)), (math.nan, "a batch of all ranks")
        )
        remedy = self._rescue()
        with raise_on_all_ranks():
            raise NonFiniteLoss(
                f"step {batch.step + 1:,}, {origin}",
                expected="a finite loss",
                found=str(found),
                remedy=remedy,
            )

    def _rescue(self) -> str:
        """Save the state before the failed step; returns the remedy for the error."""
        is_sound = all(torch.isfinite(part).all().item() for part in _parts(self.model.state_dict()))
        sound = torch.tensor(float(is_sound))
        if self._num_ranks > 1:
            dist.all_reduce(sound, op=dist.ReduceOp.MIN)
        advice = "lower the learning rates of training.optimizer, or raise warmup_steps, in another --out"
        if not sound.item():
            return f"the weights are already non-finite and were not saved; {advice}"
        if self._saved_step != self._progress.step:
            self._save()
            self._checkpoints.wait()
        return (
            f"the state before this step is saved in {self._last_uri()}; inspect these records, or {advice}"
        )

    def _finished(self) -> str | None:
        """Reason of the end of the run after the steps done; None before the end."""
        return self._why_finished(self._progress.step, self._position["epoch"])

    def _why_finished(self, step: int, epoch: int) -> str | None:
        return why_finished(
            self._options,
            step=step,
            epoch=epoch,
            evaluations_since_best=self._progress.evaluations_since_best,
        )

    def _evaluate(self, *, is_last: bool) -> bool:
        """Evaluate the model if an evaluation is due; returns True for the best value so far."""
        options, progress = self._options.evaluation, self._progress
        if self._evaluator is None or not (is_last or progress.step % options.every_steps == 0):
            return False
        with self._rate.pause(), self._stepping.free_model(), torch.no_grad():
            self.model.eval()
            metrics = self._evaluator(self.step_model)
            self.model.train()
        self._metrics = dict(metrics)
        known = {name: value for name, value in metrics.items() if value is not None}
        self._curves.add(progress.step, {f"evaluation/{name}": value for name, value in known.items()})
        value = metrics.get(options.metric)
        is_better = value is not None and (progress.best is None or value > progress.best)
        progress.best = value if is_better else progress.best
        progress.evaluations_since_best = 0 if is_better else progress.evaluations_since_best + 1
        told = ", ".join(f"{name} {value:.4f}" for name, value in known.items())
        self._bar.say(f"step {progress.step:,}: {told}{' (best so far)' if is_better else ''}")
        return is_better

    def _save(self) -> None:
        progress = self._progress
        if self._saved_step == progress.step:
            return
        facts = {
            "step": progress.step,
            **self._facts,
            "data": self._position,
            "metrics": self._metrics,
            "progress": progress.as_json(),
        }
        self._checkpoints.save(self.model, self._optimizer.combined, facts)
        self._saved_step = progress.step
        self._curves.write()

    def _last_uri(self) -> str:
        return self._checkpoints.uri_of(self._progress.step if self._saved_step is None else self._saved_step)

    def _total_steps(self) -> int:
        """Steps of the whole run, including the steps done."""
        options, position = self._options, self.stream.state_dict()
        epochs_left = options.epochs - position["epoch"]
        done_in_epoch = self.stream.steps_per_epoch - self.stream.steps_left
        total = self._progress.step + max(0, epochs_left * self.stream.steps_per_epoch - done_in_epoch)
        return total if options.max_steps is None else min(total, options.max_steps)

    def _choose_stepping(self) -> Stepping:
        kind = self._options.pipeline
        if kind == "auto":
            kind = "sparse_dist" if self._device.type == "cuda" else "plain"
        if kind == "plain":
            return PlainStepping(self._forward, self._optimizer, self._device)
        return SparseDistStepping(self.model, self._forward, self._optimizer, self._device)

    @contextmanager
    def _stopping_on_sigterm(self) -> Iterator[None]:
        """Context in which SIGTERM ends the run after the present step; the next result tells all ranks."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_number: int, _frame: FrameType | None) -> None:
            self.step_model.contrast.is_stop_requested = True

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def _parts(state: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """Tensors of a state on this rank."""
    for value in state.values():
        if hasattr(value, "local_shards"):
            yield from (shard.tensor for shard in value.local_shards())
        elif isinstance(value, torch.Tensor):
            yield value
