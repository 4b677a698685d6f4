"""Several ranks learn what one rank learns from the same batch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.distributed as dist

from scrollpast.config import load_config
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.engine.trainer import Trainer
from scrollpast.training.loss.gather import gather
from tests.training.data.days import records, vocabulary, write_day
from tests.training.ranks import on_ranks

STEPS = 50
BATCH = 64
OPTIONS = [
    "training.epochs=100",
    f"training.max_steps={STEPS}",
    "training.log_every_steps=1",
    "training.model.embedding_dim=8",
    "training.negatives.random.count=16",
    "training.negatives.hard.weight=20",
]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> str:
    random = np.random.Generator(np.random.Philox(8))
    shards = [records(random, 100 * shard, 40) for shard in range(4)]
    return write_day(tmp_path_factory.mktemp("days"), shards)


def train(day: str, run: str, *overrides: str) -> list[float]:
    """Losses of a run of this rank, step by step."""
    from scrollpast.training.engine.metrics_log import read_curve

    options = load_config(None, [*OPTIONS, *overrides]).training
    known = vocabulary()
    facts = {"vocabulary": {"uri": "", "version": known.version}, "days": [day]}
    Trainer(options, [day], known, run, torch.device("cpu"), facts=facts).train()
    dist.barrier()
    return [point["loss"] for point in read_curve(run)]


@pytest.fixture(scope="module")
def one_rank(day: str, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    with process_group("cpu"):
        return train(day, str(tmp_path_factory.mktemp("one")), f"training.data.batch_size={BATCH}")


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_loss_of_several_ranks_is_that_of_one_over_fifty_steps(
    num_ranks: int, day: str, one_rank: list[float], tmp_path: Path
) -> None:
    overrides = [
        f"training.data.batch_size={BATCH // num_ranks}",
        "training.model.sharding.types=[table_wise]",
        "training.model.sharding.tables={user: [row_wise], ad: [row_wise], history: [row_wise]}",
    ]
    losses = on_ranks(num_ranks, tmp_path / "ranks", train, day, str(tmp_path / "run"), *overrides)
    assert len(one_rank) == STEPS
    assert one_rank[-1] < 0.8 * one_rank[0], "nothing was learned: the comparison would say little"
    for of_rank in losses:
        np.testing.assert_allclose(of_rank, one_rank, rtol=1e-5)


@pytest.mark.slow
def test_every_term_of_two_ranks_is_that_of_one(day: str, tmp_path: Path) -> None:
    terms = [
        "training.max_steps=12",
        "training.data.merge_repeats=true",
        "training.data.max_passed=8",
        "training.data.history_dropout=0.5",
        "training.data.mask_history=true",
        "training.model.output_dim=8",
        "training.model.residual=true",
        "training.model.read_list_features=true",
        "training.model.ad_row_dropout=0.3",
        "training.loss.served.weight=0.5",
        "training.loss.exposure.weight=0.5",
        "training.loss.history.weight=0.5",
    ]
    with process_group("cpu"):
        expected = train(day, str(tmp_path / "one"), *terms, f"training.data.batch_size={BATCH}")
    halves = on_ranks(
        2,
        tmp_path / "ranks",
        train,
        day,
        str(tmp_path / "two"),
        *terms,
        f"training.data.batch_size={BATCH // 2}",
    )
    assert len(expected) == 12
    for of_rank in halves:
        np.testing.assert_allclose(of_rank, expected, rtol=1e-5)


@pytest.mark.slow
def test_without_the_other_ranks_positives_the_loss_is_another(
    day: str, one_rank: list[float], tmp_path: Path
) -> None:
    overrides = [
        f"training.data.batch_size={BATCH // 2}",
        "training.max_steps=1",
        "training.negatives.in_batch.across_ranks=false",
        "training.negatives.in_batch.log_q=false",
    ]
    (alone, _) = on_ranks(2, tmp_path / "ranks", train, day, str(tmp_path / "run"), *overrides)
    with process_group("cpu"):
        together = train(
            day,
            str(tmp_path / "together"),
            f"training.data.batch_size={BATCH}",
            "training.max_steps=1",
            "training.negatives.in_batch.log_q=false",
        )
    assert alone[0] < together[0] - 0.05, "half as many candidates make a smaller loss"


def checkpoints_seen(day: str, run: str, *overrides: str) -> list[int]:
    """Steps of the checkpoints that this rank sees as soon as its training is over; the first rank publishes late."""
    from scrollpast.training.engine import checkpoint

    publish = checkpoint.files.write_atomically

    def publish_late(*arguments: Any) -> None:
        time.sleep(1.0)
        publish(*arguments)

    options = load_config(None, [*OPTIONS, *overrides]).training
    facts = {"vocabulary": {"uri": "", "version": vocabulary().version}, "days": [day]}
    with patch.object(checkpoint.files, "write_atomically", publish_late):
        Trainer(options, [day], vocabulary(), run, torch.device("cpu"), facts=facts).train()
        return [found.facts["step"] for found in checkpoint.published_checkpoints(run)]


@pytest.mark.slow
def test_no_rank_goes_on_before_the_last_checkpoint_is_published(day: str, tmp_path: Path) -> None:
    overrides = [
        "training.max_steps=4",
        "training.checkpoints.every_steps=2",
        f"training.data.batch_size={BATCH // 2}",
    ]
    assert (
        on_ranks(2, tmp_path / "ranks", checkpoints_seen, day, str(tmp_path / "run"), *overrides)
        == [[2, 4]] * 2
    )


def gathered(values: torch.Tensor) -> dict[str, Any]:
    """On every rank: a loss over what all ranks gathered, and its gradient for the rank's own part."""
    rank = dist.get_rank()
    own = values[rank].clone().requires_grad_()
    everything = gather(own)
    # Each rank weighs the rows otherwise, so that a gradient that came from one rank alone would show.
    loss = (everything.sin() * (rank + 1.0)).sum()
    loss.backward()
    return {"everything": everything.detach(), "gradient": own.grad}


@pytest.mark.slow
def test_gathered_embeddings_are_in_order_and_their_gradients_come_home_as_a_sum(tmp_path: Path) -> None:
    values = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    for rank, found in enumerate(on_ranks(2, tmp_path / "ranks", gathered, values)):
        torch.testing.assert_close(found["everything"], values.flatten(0, 1))
        torch.testing.assert_close(found["gradient"], values[rank].cos() * (1.0 + 2.0))


def test_alone_nothing_is_gathered() -> None:
    with process_group("cpu"):
        own = torch.randn(3, 4, requires_grad=True)
        assert gather(own) is own
