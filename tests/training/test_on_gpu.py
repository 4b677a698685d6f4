"""Tests that need a GPU: the loop does not wait for the GPU, and results equal a processor's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scrollpast.training.engine.async_metrics import PendingStep
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.engine.resume import checkpoint_to_resume
from scrollpast.training.engine.trainer import Trainer
from tests.training.data.days import vocabulary
from tests.training.runs import losses, small_day, small_options

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_day(tmp_path_factory.mktemp("day"))


def run_on(device: torch.device, day: str, out: Path, *overrides: str) -> Trainer:
    options, known = small_options(*overrides), vocabulary()
    facts = {"vocabulary": {"uri": "toy", "version": known.version}, "days": [day]}
    resumed = checkpoint_to_resume(str(out), options, known.version)
    return Trainer(options, [day], known, str(out), device, facts=facts, resumed=resumed)


@pytest.fixture
def device() -> Iterator[torch.device]:
    with process_group("cuda") as device:
        yield device


@pytest.mark.parametrize("pipeline", ["plain", "sparse_dist"])
def test_the_loop_never_waits_for_the_device(
    pipeline: str, day: str, tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_on(device, day, tmp_path, "epochs=20", "checkpoints.every_steps=1000", f"pipeline={pipeline}")
    totals = PendingStep.totals

    def told(reading: PendingStep) -> object:
        # The loop waits only for the metrics of an earlier step, on purpose.
        torch.cuda.set_sync_debug_mode("default")
        found = totals(reading)
        torch.cuda.set_sync_debug_mode("error" if reading.batch.step > 5 else "default")
        return found

    monkeypatch.setattr(PendingStep, "totals", told)
    save = run._save

    def saved() -> None:
        torch.cuda.set_sync_debug_mode("default")
        save()

    monkeypatch.setattr(run, "_save", saved)
    try:
        run.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-3), ("bfloat16", 2e-2)])
def test_a_gpu_learns_what_a_processor_learns(precision: str, apart: float, day: str, tmp_path: Path) -> None:
    options = ["epochs=4", f"model.precision={precision}", f"model.logits_precision={precision}"]
    for name, kind in (("cpu", "cpu"), ("gpu", "cuda")):
        with process_group(kind) as device:
            exact = ["epochs=4"] if kind == "cpu" else options
            run_on(device, day, tmp_path / name, *exact).train()
    found, expected = losses(tmp_path / "gpu"), losses(tmp_path / "cpu")
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=apart)


def test_a_run_that_was_stopped_goes_on(day: str, tmp_path: Path, device: torch.device) -> None:
    run_on(device, day, tmp_path / "whole", "epochs=4").train()
    run_on(device, day, tmp_path / "halves", "epochs=4", "max_steps=7").train()
    run_on(device, day, tmp_path / "halves", "epochs=4").train()
    found, expected = losses(tmp_path / "halves"), losses(tmp_path / "whole")
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-3)


@pytest.mark.parametrize("placement", ["managed", "cached"])
def test_tables_in_the_machines_memory_learn_the_same(
    placement: str, day: str, tmp_path: Path, device: torch.device
) -> None:
    run_on(device, day, tmp_path / "device", "epochs=2").train()
    elsewhere = f"model.sharding.placement={{user: {placement}, ad: {placement}}}"
    run_on(device, day, tmp_path / placement, "epochs=2", elsewhere).train()
    found, expected = losses(tmp_path / placement), losses(tmp_path / "device")
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-3)


def test_the_loss_takes_memory_for_one_and_a_half_blocks() -> None:
    from scrollpast.training.loss.sampled_softmax import Blocks, sampled_softmax
    from tests.training.loss.test_sampled_softmax import shared_candidates

    leaves, sources = shared_candidates(8192, 1024, device="cuda")
    block = Blocks((8192 + 1024) * 4096, 8)
    arguments = (
        leaves[0],
        leaves[1],
        torch.tensor(14.0, device="cuda"),
        torch.ones(8192, device="cuda"),
        sources,
    )
    sampled_softmax(*arguments, products=torch.bfloat16, blocks=block)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    sampled_softmax(*arguments, products=torch.bfloat16, blocks=block)
    taken = torch.cuda.max_memory_allocated() - before
    gradients = sum(leaf.numel() for leaf in leaves) * 4
    assert taken - 5 * gradients < 1.5 * 4 * block.cells
