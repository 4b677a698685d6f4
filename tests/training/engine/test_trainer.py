"""The loop: it resumes as if it had never stopped, stops when it should, and says where it failed."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from scrollpast.errors import UserError
from scrollpast.training.engine import trainer
from scrollpast.training.engine.checkpoint import best_checkpoint, published_checkpoints
from scrollpast.training.engine.metrics_log import read_curve
from scrollpast.training.engine.step_model import StepModel
from scrollpast.training.engine.trainer import NonFiniteLoss
from scrollpast.training.loss.terms import softmax
from tests.training.runs import losses, small_run, weights_of

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("alone")]


def steps_of(out: Path) -> list[int]:
    return [checkpoint.step for checkpoint in published_checkpoints(str(out))]


class Measured:
    """An evaluator that gives these values, one a call; the steps of the calls are the run's business."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def __call__(self, model: StepModel) -> Mapping[str, float | None]:
        assert not model.training
        return {"recall@100": self.values.pop(0), "auc": None}


# Resumption


@pytest.mark.parametrize("stop", [1, 3, 4, 7, 10])
@pytest.mark.parametrize("pipeline", ["plain", "sparse_dist"])
def test_resuming_equals_never_stopping(day: str, stop: int, pipeline: str, tmp_path: Path) -> None:
    options = ["epochs=3", f"pipeline={pipeline}", "log_every_steps=2"]
    whole = small_run(day, tmp_path / "whole", *options)
    assert whole.train().reason == "epochs"
    small_run(day, tmp_path / "halves", *options, f"max_steps={stop}").train()
    second = small_run(day, tmp_path / "halves", *options)
    assert second.train().step > stop
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(second)[name]), name


def test_both_ways_of_stepping_learn_the_same(day: str, tmp_path: Path) -> None:
    for pipeline in ("plain", "sparse_dist"):
        small_run(day, tmp_path / pipeline, "epochs=2", f"pipeline={pipeline}").train()
    assert losses(tmp_path / "plain") == losses(tmp_path / "sparse_dist")
    assert len(losses(tmp_path / "plain")) == 2 * small_run(day, tmp_path / "x").stream.steps_per_epoch


def test_a_run_goes_on_for_more_epochs(day: str, tmp_path: Path) -> None:
    small_run(day, tmp_path / "once", "epochs=2").train()
    small_run(day, tmp_path / "twice", "epochs=1").train()
    small_run(day, tmp_path / "twice", "epochs=2").train()
    assert losses(tmp_path / "twice") == losses(tmp_path / "once")


def test_the_loss_of_the_curve_is_the_mean_since_the_point_before(day: str, tmp_path: Path) -> None:
    small_run(day, tmp_path / "each", "negatives.hard.enabled=false", "data.shuffle=false").train()
    small_run(
        day, tmp_path / "both", "negatives.hard.enabled=false", "data.shuffle=false", "log_every_steps=2"
    ).train()
    each, both = losses(tmp_path / "each"), losses(tmp_path / "both")
    assert set(both) == {2, 4}
    for step in both:
        # Weighted by the anchors' weights, so between the two rather than in their middle.
        assert min(each[step - 1], each[step]) < both[step] < max(each[step - 1], each[step])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=5", "expected training.seed=0, found training.seed=5; "),
        (
            "negatives.hard.count=7",
            "expected training.negatives.hard.count=2, found training.negatives.hard.count=7; ",
        ),
        (
            "model.temperature=0.5",
            "expected training.model.temperature=0.07, found training.model.temperature=0.5; ",
        ),
    ],
)
def test_a_run_does_not_go_on_with_other_options(
    day: str, override: str, message: str, tmp_path: Path
) -> None:
    small_run(day, tmp_path / "run", "max_steps=1").train()
    with pytest.raises(UserError, match="start a new run in another --out") as caught:
        small_run(day, tmp_path / "run", override)
    assert message in str(caught.value)


def test_a_run_does_not_go_on_with_other_days(day: str, tmp_path: Path) -> None:
    small_run(day, tmp_path / "run", "max_steps=1").train()
    (tmp_path / "other").mkdir()
    other = small_day_of_other_records(tmp_path / "other")
    with pytest.raises(UserError, match="state of the data set"):
        small_run(other, tmp_path / "run")


def small_day_of_other_records(folder: Path) -> str:
    import numpy as np

    from tests.training.data.days import records, write_day

    return write_day(folder, [records(np.random.Generator(np.random.Philox(9)), 0, 30)])


# Checkpoints


def test_the_last_checkpoints_and_the_best_one_stay(day: str, tmp_path: Path) -> None:
    run = small_run(
        day,
        tmp_path,
        "epochs=4",
        "checkpoints.every_steps=2",
        "evaluation.every_steps=5",
        evaluator=Measured(0.1, 0.3, 0.2, 0.25, 0.1),
    )
    run.train()
    last = run.stream.steps_per_epoch * 4
    assert steps_of(tmp_path)[-1] == last
    assert 10 in steps_of(tmp_path), "the best, which was not among those of every second step alone"
    assert len(steps_of(tmp_path)) == 3
    best = best_checkpoint(published_checkpoints(str(tmp_path)), "recall@100")
    assert best is not None
    assert (best.step, best.facts["metrics"]["recall@100"]) == (10, 0.3)


def test_a_checkpoint_without_its_last_file_is_none(day: str, tmp_path: Path) -> None:
    small_run(day, tmp_path, "max_steps=4").train()
    small_run(day, tmp_path, "max_steps=5").train()
    (tmp_path / "checkpoints" / "step=00000005" / "checkpoint.json").unlink()
    assert steps_of(tmp_path) == [4]
    assert small_run(day, tmp_path, "epochs=2").train().step > 5


def test_checkpoints_written_in_the_background_are_those_of_their_step(day: str, tmp_path: Path) -> None:
    for name, asynchronous in (("background", True), ("at_once", False)):
        option = f"checkpoints.asynchronous={str(asynchronous).lower()}"
        small_run(
            day, tmp_path / name, "checkpoints.every_steps=1", "checkpoints.keep_last=9", option
        ).train()
    for step in steps_of(tmp_path / "at_once"):
        states = []
        for name in ("background", "at_once"):
            # Everything behind this step is taken away, so that the run goes on from it.
            for later in steps_of(tmp_path / name):
                if later > step:
                    path = tmp_path / name / "checkpoints" / f"step={later:08d}" / "checkpoint.json"
                    path.rename(path.with_suffix(".hidden"))
            states.append(weights_of(small_run(day, tmp_path / name)))
            for hidden in (tmp_path / name).rglob("*.hidden"):
                hidden.rename(hidden.with_suffix(".json"))
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# Evaluations


def test_the_run_stops_when_evaluations_get_no_better(day: str, tmp_path: Path) -> None:
    evaluator = Measured(0.2, 0.3, 0.3, 0.1, 0.9)
    options = ["epochs=9", "evaluation.every_steps=3", "evaluation.patience=2"]
    outcome = small_run(day, tmp_path, *options, evaluator=evaluator).train()
    assert (outcome.reason, outcome.step) == ("early_stop", 12)
    assert evaluator.values == [0.9]
    points = {p["step"]: p["evaluation/recall@100"] for p in read_curve(str(tmp_path)) if "loss" not in p}
    assert points == {3: 0.2, 6: 0.3, 9: 0.3, 12: 0.1}


def test_patience_is_remembered_by_the_checkpoint(day: str, tmp_path: Path) -> None:
    options = ["epochs=9", "evaluation.every_steps=3", "evaluation.patience=2"]
    small_run(day, tmp_path, *options, "max_steps=9", evaluator=Measured(0.2, 0.3, 0.3)).train()
    outcome = small_run(day, tmp_path, *options, evaluator=Measured(0.1, 0.9)).train()
    assert (outcome.reason, outcome.step) == ("early_stop", 12)


# Failures and signals


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_a_loss_that_is_not_finite_names_step_and_records_and_keeps_what_was_before(
    lag: int, day: str, tmp_path: Path
) -> None:
    run = small_run(day, tmp_path, "epochs=2", "checkpoints.every_steps=100", lag=lag)
    forward, calls = run.step_model.contrast.forward, []

    def failing(user_BD: torch.Tensor, ad_MD: torch.Tensor, batch: Any) -> Any:
        calls.append(batch.step)
        return forward(user_BD * (torch.nan if batch.step == 3 else 1.0), ad_MD, batch)

    run.step_model.contrast.forward = failing  # type: ignore[method-assign]
    with pytest.raises(NonFiniteLoss) as caught:
        run.train()
    assert calls == list(range(4 + lag)), "the host was ahead"
    assert caught.value.exit_code == 1
    message = str(caught.value)
    assert message.startswith("step 4, ")
    assert "part-" in message
    assert "records " in message
    assert "expected a finite loss, found nan" in message
    assert f"saved in {tmp_path}/checkpoints/step=00000003" in message
    assert steps_of(tmp_path) == [3]
    small_run(day, tmp_path / "whole", "epochs=2").train()
    small_run(day, tmp_path, "epochs=2").train()
    assert losses(tmp_path) == losses(tmp_path / "whole")


def test_weights_that_are_not_finite_are_not_saved(day: str, tmp_path: Path) -> None:
    run = small_run(day, tmp_path)
    with torch.no_grad():
        next(run.step_model.towers.user_tower.parameters()).fill_(torch.inf)
    with pytest.raises(NonFiniteLoss, match="were not saved"):
        run.train()
    assert steps_of(tmp_path) == []


@pytest.mark.parametrize("pipeline", ["plain", "sparse_dist"])
def test_a_pipeline_that_is_ahead_learns_nothing_from_a_loss_that_is_not_finite(
    pipeline: str, day: str, tmp_path: Path
) -> None:
    options = ["epochs=2", "checkpoints.every_steps=100", f"pipeline={pipeline}"]
    whole = small_run(day, tmp_path / "whole", *options)
    whole.train()
    run = small_run(day, tmp_path / "run", *options, lag=2)
    sampled_softmax = softmax.sampled_softmax

    def failing(user_BD: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        steps.append(len(steps))
        # Infinite from within: the activations are not finite, so that 0 times their gradient is not 0.
        return sampled_softmax(user_BD * (torch.inf if steps[-1] == 3 else 1.0), *arguments, **options)

    steps: list[int] = []
    with patch.object(softmax, "sampled_softmax", failing), pytest.raises(NonFiniteLoss, match="step 4, "):
        run.train()
    assert steps_of(tmp_path / "run") == [3]
    again = small_run(day, tmp_path / "run", *options)
    again.train()
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    for name, value in weights_of(again).items():
        assert torch.equal(value, weights_of(whole)[name]), name


@pytest.mark.parametrize("lag", [1, 2, 5])
def test_a_host_that_looks_later_changes_nothing(lag: int, day: str, tmp_path: Path) -> None:
    options = ["epochs=3", "evaluation.every_steps=6", "checkpoints.every_steps=4"]
    outcomes, weights = [], []
    for of in (0, lag):
        out, evaluator = tmp_path / str(of), Measured(0.1, 0.2, 0.3)
        run = small_run(day, out, *options, evaluator=evaluator, lag=of)
        outcome = run.train()
        curve = [{**point, "examples_per_s": 0} for point in read_curve(str(out))]
        outcomes.append((outcome.reason, outcome.step, curve, steps_of(out), evaluator.values))
        weights.append(weights_of(run))
    assert outcomes[0] == outcomes[1]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_an_option_that_is_younger_than_the_checkpoint_was_its_default(day: str, tmp_path: Path) -> None:
    small_run(day, tmp_path, "max_steps=4").train()
    (path,) = tmp_path.glob("checkpoints/step=*/checkpoint.json")
    facts = json.loads(path.read_text())
    del facts["config"]["model"]["temperature"]
    path.write_text(json.dumps(facts))
    with pytest.raises(
        UserError, match=r"expected training.model.temperature=0.07, found training.model.temperature=0.5"
    ):
        small_run(day, tmp_path, "epochs=2", "model.temperature=0.5")
    assert small_run(day, tmp_path, "epochs=2").train().step == 10


@pytest.mark.parametrize("stop", [3, 10])
def test_inputs_that_a_thread_makes_ready_are_the_same(
    stop: int, day: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run(day, tmp_path / "whole", "epochs=3").train()
    monkeypatch.setattr(trainer, "_INPUTS_AHEAD", {"cpu": 3})
    small_run(day, tmp_path / "ahead", "epochs=3", f"max_steps={stop}", lag=2).train()
    small_run(day, tmp_path / "ahead", "epochs=3", lag=2).train()
    assert losses(tmp_path / "ahead") == losses(tmp_path / "whole")
    assert not [thread for thread in threading.enumerate() if thread.name == "scrollpast-data"]


@pytest.mark.slow
def test_compiled_towers_learn_the_same_and_are_saved_under_the_same_names(day: str, tmp_path: Path) -> None:
    plain = small_run(day, tmp_path / "plain", "epochs=2")
    plain.train()
    small_run(day, tmp_path / "compiled", "epochs=2", "model.compile=true", "max_steps=4").train()
    compiled = small_run(day, tmp_path / "compiled", "epochs=2")
    compiled.train()
    assert weights_of(compiled).keys() == weights_of(plain).keys()
    found, expected = losses(tmp_path / "compiled"), losses(tmp_path / "plain")
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-5)


@pytest.mark.parametrize("lag", [0, 2])
def test_sigterm_saves_what_was_learned_and_the_run_goes_on_from_there(
    lag: int, day: str, tmp_path: Path
) -> None:
    run = small_run(day, tmp_path / "run", "epochs=3", "checkpoints.every_steps=100", lag=lag)
    forward = run.step_model.contrast.forward

    def interrupted(user_BD: torch.Tensor, ad_MD: torch.Tensor, batch: Any) -> Any:
        if batch.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(user_BD, ad_MD, batch)

    run.step_model.contrast.forward = interrupted  # type: ignore[method-assign]
    outcome = run.train()
    assert (outcome.reason, outcome.step, steps_of(tmp_path / "run")) == ("stopped", 7 + lag, [7 + lag])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    small_run(day, tmp_path / "run", "epochs=3").train()
    small_run(day, tmp_path / "whole", "epochs=3").train()
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
