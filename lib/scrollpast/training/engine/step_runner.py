"""Execution of steps: one after the other, or with the exchange of ids one step ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from scrollpast.training.engine.step_input import StepInput
from scrollpast.training.model.optimizers import TrainingOptimizer


class StepResult(NamedTuple):
    """A step that was launched; what it told may still be under way on the device."""

    batch: StepInput
    """On the device."""
    loss: torch.Tensor
    """Of this rank, without gradient."""
    totals: torch.Tensor
    """Of all ranks, see `Contrast`."""


Forward = Callable[[StepInput], tuple[torch.Tensor, StepResult]]


class Stepping(Protocol):
    """Takes a step for every input."""

    def steps(self, inputs: Iterator[StepInput]) -> Iterator[StepResult]:
        """Train on the inputs, one step each; hands out what each step was and told."""
        ...

    def free_model(self) -> Any:
        """A context in which the model can be called between two steps, as for an evaluation."""
        ...


class PlainStepping:
    """One step after the other; to a GPU the next input is copied meanwhile."""

    def __init__(self, forward: Forward, optimizer: TrainingOptimizer, device: torch.device) -> None:
        self._forward, self._optimizer, self._device = forward, optimizer, device

    def steps(self, inputs: Iterator[StepInput]) -> Iterator[StepResult]:
        is_gpu = self._device.type == "cuda"
        for batch in _copied_ahead(inputs, self._device) if is_gpu else inputs:
            self._optimizer.combined.zero_grad()
            loss, done = self._forward(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.combined.step()
            yield done

    @contextmanager
    def free_model(self) -> Iterator[None]:
        yield


def _copied_ahead(inputs: Iterator[StepInput], device: torch.device) -> Iterator[StepInput]:
    """The inputs on a GPU; each one's copy begins before the step of the one before it is launched."""
    copies = torch.cuda.Stream(device)
    under_way: tuple[StepInput, torch.cuda.Event] | None = None

    def arrived(copy: tuple[StepInput, torch.cuda.Event]) -> StepInput:
        now = torch.cuda.current_stream(device)
        now.wait_event(copy[1])
        copy[0].record_stream(now)
        return copy[0]

    for batch in inputs:
        with torch.cuda.stream(copies):
            following = batch.to(device, non_blocking=True), copies.record_event()
        if under_way is not None:
            yield arrived(under_way)
        under_way = following
    if under_way is not None:
        yield arrived(under_way)


class SparseDistStepping:
    """TorchRec's pipeline: while a step computes, the next one's ids are sent to the ranks that hold their rows."""

    def __init__(
        self,
        model: DistributedModelParallel,
        forward: Forward,
        optimizer: TrainingOptimizer,
        device: torch.device,
    ) -> None:
        self._model = model
        self._pipeline: Any = TrainPipelineSparseDist(
            model, optimizer.combined, device, custom_model_fwd=forward
        )

    def steps(self, inputs: Iterator[StepInput]) -> Iterator[StepResult]:
        while True:
            try:
                done = self._pipeline.progress(inputs)
            except StopIteration:
                return
            yield done

    @contextmanager
    def free_model(self) -> Iterator[None]:
        # The pipeline has put itself between the model and its tables; batches under way wait inside it.
        self._pipeline.detach()
        try:
            yield
        finally:
            self._pipeline.attach(self._model)
