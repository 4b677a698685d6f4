"""Execution of steps: sequential, or with the all-to-all of ids one step ahead."""

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
    """Launched step; its results may still be in computation on the device."""

    batch: StepInput
    """Input of the step, on the device."""
    loss: torch.Tensor
    """Loss of this rank, without gradient."""
    totals: torch.Tensor
    """Totals of all ranks, see `ContrastiveLoss`."""


Forward = Callable[[StepInput], tuple[torch.Tensor, StepResult]]


class Stepping(Protocol):
    """Protocol of step runners: one step for every input."""

    def steps(self, inputs: Iterator[StepInput]) -> Iterator[StepResult]:
        """Train on the inputs, one step each; yields the result of each step."""
        ...

    def free_model(self) -> Any:
        """Context in which the model can be called between two steps, for example for an evaluation."""
        ...


class PlainStepping:
    """Sequential steps; the next input is copied to a GPU during the step."""

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
    """Inputs on a GPU; each input's copy begins before the step of the input before it is launched."""
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
    """TorchRec's pipeline: during a step, the next step's ids are sent to the ranks that hold their rows."""

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
        # The pipeline replaced the forward pass of the tables; prefetched batches stay inside the pipeline.
        self._pipeline.detach()
        try:
            yield
        finally:
            self._pipeline.attach(self._model)
