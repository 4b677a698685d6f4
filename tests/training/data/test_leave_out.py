"""Laws of the ads that are taken out of histories."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.errors import UserError
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.data.leave_out import LeaveOut
from scrollpast.training.data.sampling import Sampling
from scrollpast.training.data.stream import AnchorStream
from tests.training.data.days import records, vocabulary, write_day
from tests.training.runs import small_options

HIDDEN = (
    "data.merge_repeats=true",
    "data.max_history=9",
    "data.history_dropout=0.5",
    "loss.history.weight=1",
)


def batches(day: str, *overrides: str) -> list[AnchorBatch]:
    options = small_options(*HIDDEN, *overrides)
    return list(AnchorStream([day], vocabulary(), options.data, Sampling.of(options)))


def lists(batch: AnchorBatch, name: str = "history") -> list[list[int]]:
    rows, lengths = getattr(batch, f"{name}_rows"), getattr(batch, f"{name}_lengths")
    return [part.tolist() for part in rows.split(lengths.tolist())]


def targets(batch: AnchorBatch) -> list[list[int]]:
    assert batch.targets is not None
    return [
        row[weight > 0].tolist() for row, weight in zip(batch.targets.row, batch.targets.weight, strict=True)
    ]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> str:
    random = np.random.Generator(np.random.Philox(3))
    shards = [records(random, 100 * shard, 30) for shard in range(2)]
    return write_day(tmp_path_factory.mktemp("day"), shards)


@settings(max_examples=20)
@given(share=st.floats(0.01, 0.99), count=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_a_share_of_every_history_is_taken_out_and_the_targets_are_of_it(
    day: str, share: float, count: int, seed: int
) -> None:
    options = [f"data.history_dropout={share}", f"loss.history.count={count}", f"seed={seed}"]
    for batch in batches(day, *options):
        shorter = LeaveOut(small_options(*HIDDEN, *options)).of(batch)
        for whole, left, wanted in zip(lists(batch), lists(shorter), targets(shorter), strict=True):
            num_out = int(np.floor(len(whole) * share))
            assert len(left) == len(whole) - num_out
            assert [ad for ad in whole if ad in left] == [ad for ad in left if ad in whole], "in their order"
            out = list(whole)
            for ad in left:
                out.remove(ad)
            assert len(wanted) <= min(count, num_out)
            assert 0 not in wanted and set(wanted) <= set(out)
            if 0 not in out:
                assert len(wanted) == min(count, num_out)


def test_the_choice_depends_on_the_anchor_and_the_epoch_alone(day: str) -> None:
    def chosen(size: int, epoch: int) -> dict[tuple[int, int], tuple[list[int], list[int]]]:
        options = small_options(*HIDDEN, f"data.batch_size={size}")
        stream = AnchorStream([day], vocabulary(), options.data, Sampling.of(options))
        found = {}
        for _ in range(epoch + 1):
            read = [LeaveOut(options).of(batch) for batch in stream]
        for batch in read:
            for at, (left, wanted) in enumerate(zip(lists(batch), targets(batch), strict=True)):
                found[int(batch.user_id[at]), int(batch.served_at_ms[at])] = (left, wanted)
        return found

    assert chosen(8, 0) == chosen(64, 0)
    assert chosen(8, 0) != chosen(8, 1)


def test_the_history_is_known_where_it_is_masked(day: str) -> None:
    for batch in batches(day):
        masked = LeaveOut(small_options(*HIDDEN, "data.mask_history=true")).of(batch)
        for known, history, both in zip(
            lists(batch, "known"), lists(batch), lists(masked, "known"), strict=True
        ):
            assert both == known + history
        assert LeaveOut(small_options()).of(batch) is batch


@pytest.mark.parametrize("missing", ["data.history_dropout=0", "data.merge_repeats=false"])
def test_the_term_needs_hidden_ads_and_histories_without_repeats(missing: str) -> None:
    with pytest.raises(
        UserError, match=r"data\.history_dropout above 0 and data\.merge_repeats for loss\.history"
    ):
        small_options(*HIDDEN, missing)
