"""A batch as a whole: it moves with all its tensors and forgets nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.data.stream import AnchorStream
from tests.training.data.days import reading, records, vocabulary, write_day


@pytest.fixture
def batch(tmp_path: Path) -> AnchorBatch:
    random = np.random.Generator(np.random.Philox(1))
    day = write_day(tmp_path, [records(random, 0, 20)])
    stream = AnchorStream([day], vocabulary(), *reading(batch_size=16, num_hard=3, num_neighbours=2))
    return next(iter(stream))


def test_shapes_and_types_are_those_that_the_batch_promises(batch: AnchorBatch) -> None:
    assert (len(batch), batch.hard.count, batch.neighbour.count) == (16, 3, 2)
    hard, near = (batch.hard.weight, batch.hard.log_q), (batch.neighbour.weight, batch.neighbour.log_q)
    floats = {id(tensor) for tensor in (batch.weight, *hard, *near)}
    for tensor in batch.tensors():
        assert tensor.dtype == (torch.float32 if id(tensor) in floats else torch.int64)
    for neighbour in (batch.neighbour.row, *near):
        assert neighbour.shape == (16, 2)
    for drawn in (batch.hard.row, batch.hard.request, *hard):
        assert drawn.shape == (16, 3)
    assert batch.origin.shape == (16, 2)
    assert batch.history_lengths.sum() == len(batch.history_rows)
    assert batch.known_lengths.sum() == len(batch.known_rows)


def test_a_batch_moves_with_all_its_tensors_and_keeps_its_place(batch: AnchorBatch) -> None:
    moved = batch.to("meta")
    assert all(tensor.is_meta for tensor in moved.tensors())
    assert len(moved.tensors()) == len(batch.tensors())
    assert (moved.epoch, moved.lane_position) == (batch.epoch, batch.lane_position)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_pinned_batch_arrives_on_a_gpu_as_it_was(batch: AnchorBatch) -> None:
    arrived = batch.pin_memory().to("cuda", non_blocking=True)
    arrived.record_stream(torch.cuda.current_stream())
    for there, here in zip(arrived.tensors(), batch.tensors(), strict=True):
        assert torch.equal(there.cpu(), here)
