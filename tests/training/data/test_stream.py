"""Laws of an epoch: what all ranks read together, the order, and where a stream goes on."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.config import load_config
from scrollpast.errors import CorruptShardError, UserError
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.data.counting import count_anchors
from scrollpast.training.data.sampling import Sampling
from scrollpast.training.data.stream import AnchorStream
from tests.training.data.days import NUM_ADS, read_records, reading, record, records, vocabulary, write_day
from tests.training.data.reference import anchors_of


def _days(folder: Path, seed: int, sizes: list[int]) -> list[str]:
    """Shards of these many records over two days; at least two anchors; with histories if the seed is odd."""
    random = np.random.Generator(np.random.Philox(seed))
    shards = [records(random, 1000 * shard, size) for shard, size in enumerate(sizes)]
    shards[0].append(record(random, 500_000, 2, 2))
    for row in (row for rows in shards for row in rows if seed % 2):
        row["history_ad_id"] = random.integers(0, NUM_ADS, random.integers(6)).tolist()
    half = len(shards) // 2
    parts = [("2026-11-20", shards[:half]), ("2026-11-21", shards[half:])]
    return [write_day(folder, part, ds=ds, has_history=bool(seed % 2)) for ds, part in parts]


def _anchors(batches: list[AnchorBatch], *, with_padding: bool = False) -> list[int]:
    return [
        int(request)
        for batch in batches
        for request, weight in zip(batch.request_hash, batch.weight, strict=True)
        if with_padding or weight > 0
    ]


def _equal(left: AnchorBatch, right: AnchorBatch) -> bool:
    return (left.epoch, left.lane_position) == (right.epoch, right.lane_position) and all(
        torch.equal(a, b) for a, b in zip(left.tensors(), right.tensors(), strict=True)
    )


SIZES = st.lists(st.integers(0, 15), min_size=2, max_size=5)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    sizes=SIZES,
    num_ranks=st.integers(1, 5),
    batch_size=st.integers(1, 12),
    num_workers=st.integers(0, 3),
    block_records=st.integers(1, 20),
    shuffle=st.booleans(),
)
def test_all_ranks_together_read_every_anchor_once_an_epoch(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    sizes: list[int],
    num_ranks: int,
    batch_size: int,
    num_workers: int,
    block_records: int,
    shuffle: bool,
) -> None:
    days = _days(tmp_path_factory.mktemp("days"), seed, sizes)
    words = vocabulary()
    for is_padded in (True, False):
        options = reading(
            batch_size=batch_size,
            seed=seed,
            num_workers=num_workers,
            block_records=block_records,
            shuffle=shuffle,
            is_padded=is_padded,
            num_hard=0,
        )
        ranks = [
            list(AnchorStream(days, words, *options, rank=rank, num_ranks=num_ranks))
            for rank in range(num_ranks)
        ]
        read = [request for batches in ranks for request in _anchors(batches)]
        assert sorted(read) == anchors_of(read_records(days))
        if is_padded:
            assert len({len(batches) for batches in ranks}) == 1
            assert {len(batch) for batches in ranks for batch in batches} == {batch_size}
            every = [request for batches in ranks for request in _anchors(batches, with_padding=True)]
            assert set(every) == set(read)  # what fills up is real
        else:
            assert all(len(batch) <= batch_size for batches in ranks for batch in batches)
            assert len(read) == sum(len(batch) for batches in ranks for batch in batches)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), sizes=SIZES, per_lane=st.integers(1, 3))
def test_the_batch_of_all_ranks_together_does_not_depend_on_their_number(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int], per_lane: int
) -> None:
    days = _days(tmp_path_factory.mktemp("days"), seed, sizes)
    words = vocabulary()
    together = []
    for num_ranks in (1, 2, 4, 8):
        options = reading(
            batch_size=8 * per_lane // num_ranks, num_hard=2, num_neighbours=1, seed=seed, num_workers=0
        )
        ranks = [
            AnchorStream(days, words, *options, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)
        ]
        steps = zip(*ranks, strict=True)
        together.append([[torch.cat(parts) for parts in _by_field(batches)] for batches in steps])
    for other in together[1:]:
        assert len(other) == len(together[0])
        for left, right in zip(together[0], other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def _by_field(batches: tuple[AnchorBatch, ...]) -> list[tuple[torch.Tensor, ...]]:
    return list(zip(*(batch.tensors() for batch in batches), strict=True))


@pytest.mark.slow
@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    sizes=SIZES,
    batch_size=st.sampled_from([4, 8, 16]),
    stop=st.integers(0, 25),
    cache_bytes=st.sampled_from([0, 12_000, 10**6]),
    ahead=st.integers(0, 4),
    num_workers=st.integers(0, 2),
    is_padded=st.booleans(),
)
def test_a_stream_that_was_interrupted_goes_on_as_if_it_never_stopped(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    sizes: list[int],
    batch_size: int,
    stop: int,
    cache_bytes: int,
    ahead: int,
    num_workers: int,
    is_padded: bool,
) -> None:
    days = _days(tmp_path_factory.mktemp("days"), seed, sizes)
    words = vocabulary()
    options = reading(
        batch_size=batch_size,
        seed=seed,
        num_workers=num_workers,
        is_padded=is_padded,
        block_records=4,
        cache_bytes=cache_bytes,
    )

    def batches(stream: AnchorStream, count: int) -> list[AnchorBatch]:
        found: list[AnchorBatch] = []
        while len(found) < count:
            found += stream
        return found[:count]

    uncached = options[0].model_copy(update={"cache_bytes": 0}), options[1]
    never_stopped = batches(AnchorStream(days, words, *uncached), stop + ahead + 10)
    first = AnchorStream(days, words, *options)
    trained, state = [], first.state_dict()
    # A pipeline takes batches ahead of the step: the state is that of the last one trained on.
    for batch in batches(first, stop + ahead)[:stop]:
        trained.append(batch)
        state = first.state_after(batch)
    resumed = AnchorStream(days, words, *options, state=json.loads(json.dumps(state)))
    went_on = trained + batches(resumed, ahead + 10)
    assert len(went_on) == len(never_stopped)
    assert all(_equal(a, b) for a, b in zip(went_on, never_stopped, strict=True))


def test_the_state_counts_what_was_handed_out_and_not_what_was_read_ahead(tmp_path: Path) -> None:
    days = _days(tmp_path, 1, [30, 30])
    options = reading(batch_size=4, num_lanes=1, prefetch_batches=8)
    stream = AnchorStream(days, vocabulary(), *options)
    iterator = iter(stream)
    taken = list(islice(iterator, 3))
    assert stream.state_dict() == stream.state_after(taken[-1])
    assert stream.state_dict()["lane_position"] == 12
    rest = list(iterator)
    resumed = AnchorStream(days, vocabulary(), *options, state=stream.state_after(taken[-1]))
    assert all(_equal(a, b) for a, b in zip(resumed, rest, strict=True))


def test_one_rank_goes_on_where_two_stopped(tmp_path: Path) -> None:
    days = _days(tmp_path, 2, [30, 30, 9])
    words = vocabulary()
    two = [AnchorStream(days, words, *reading(batch_size=8), rank=rank, num_ranks=2) for rank in (0, 1)]
    before = [list(islice(iter(stream), 2)) for stream in two]
    one = AnchorStream(days, words, *reading(batch_size=16), state=two[0].state_dict())
    read = _anchors([*before[0], *before[1], *one])
    assert sorted(read) == anchors_of(read_records(days))


def test_an_epoch_goes_on_with_another_batch_size(tmp_path: Path) -> None:
    days = _days(tmp_path, 2, [30, 30, 9])
    words = vocabulary()
    first = AnchorStream(days, words, *reading(batch_size=8))
    before = list(islice(iter(first), 3))
    second = AnchorStream(days, words, *reading(batch_size=24), state=first.state_dict())
    assert sorted(_anchors([*before, *second])) == anchors_of(read_records(days))


def test_epochs_have_orders_of_their_own_and_the_seed_brings_them_back(tmp_path: Path) -> None:
    days = _days(tmp_path, 3, [30, 30])
    options = reading(batch_size=8, seed=5)
    stream, again = (AnchorStream(days, vocabulary(), *options) for _ in range(2))
    orders = [_anchors(list(stream)) for _ in range(3)]
    assert [_anchors(list(again)) for _ in range(3)] == orders
    assert len({tuple(order) for order in orders}) == 3
    other = AnchorStream(days, vocabulary(), *reading(batch_size=8, seed=6))
    assert _anchors(list(other)) != orders[0]


def test_threads_change_nothing_but_the_time(tmp_path: Path) -> None:
    days = _days(tmp_path, 4, [20, 20, 20])
    alone, *others = (
        list(AnchorStream(days, vocabulary(), *reading(batch_size=16, num_workers=number)))
        for number in (0, 1, 3, 99)
    )
    for batches in others:
        assert all(_equal(a, b) for a, b in zip(batches, alone, strict=True))


def test_what_fits_in_the_cache_is_read_once(tmp_path: Path) -> None:
    days = _days(tmp_path, 4, [20, 20])
    options = reading(batch_size=16, shuffle=False, cache_bytes=10**6)
    stream = AnchorStream(days, vocabulary(), *options)
    first = _anchors(list(stream))
    for shard in stream.shards:
        Path(shard.uri).unlink()
    assert _anchors(list(stream)) == first


def test_no_thread_outlives_an_iterator_that_is_closed(tmp_path: Path) -> None:
    days = _days(tmp_path, 5, [30, 30])
    iterator = iter(AnchorStream(days, vocabulary(), *reading(batch_size=2, num_lanes=2, num_workers=2)))
    next(iterator)
    assert _data_threads() == 2
    iterator.close()  # type: ignore[attr-defined]
    assert _data_threads() == 0


def _data_threads() -> int:
    return sum(thread.name == "scrollpast-data" for thread in threading.enumerate())


def test_ranks_that_share_the_counting_plan_the_same(tmp_path: Path) -> None:
    days = _days(tmp_path, 6, [10, 20, 5])
    words = vocabulary()
    alone = AnchorStream(days, words, *reading(batch_size=8))
    counts = sum(count_anchors(alone.shards, words, rank=rank, num_ranks=2) for rank in range(2))
    assert isinstance(counts, np.ndarray)
    shared = AnchorStream(days, words, *reading(batch_size=8), counts=counts)
    assert all(_equal(a, b) for a, b in zip(shared, alone, strict=True))


def test_a_broken_shard_is_named_by_the_thread_that_reads_the_batches(tmp_path: Path) -> None:
    days = _days(tmp_path, 7, [30, 30])
    stream = AnchorStream(days, vocabulary(), *reading(batch_size=8))
    path = Path(stream.shards[0].uri)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptShardError, match=r"part-.*record 0.*mine ds="):
        list(stream)
    assert _data_threads() == 0


def test_a_batch_says_which_records_it_came_from(tmp_path: Path) -> None:
    days = _days(tmp_path, 8, [0, 6])
    stream = AnchorStream(days, vocabulary(), *reading(batch_size=4, num_lanes=1, shuffle=False))
    batch = next(iter(stream))
    first, last = int(batch.origin[2, 1]), int(batch.origin[3, 1])
    assert stream.describe_origin(batch) == (
        f"{stream.shards[0].uri}, records 0 to 0; {stream.shards[1].uri}, records {first} to {last}"
    )


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("data.batch_size=0", "training.data.batch_size (--set): expected a value in [1, inf), found 0"),
        (
            "data.explicit_boost=-1",
            "training.data.explicit_boost (--set): expected a value in [0, inf), found -1",
        ),
        (
            "negatives.hard.count=2000",
            "training.negatives.hard.count (--set): expected a value in [1, 1024], found 2000",
        ),
        (
            "negatives.neighbour.count=0",
            "training.negatives.neighbour.count (--set): expected a value in [1, 1024], found 0",
        ),
        ("data.num_lanes=3", "training.data.num_lanes: expected a multiple of the 1 ranks"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, option: str, named: str) -> None:
    days = _days(tmp_path, 9, [5, 5])

    def open_with(overrides: list[str]) -> AnchorStream:
        options = load_config(None, overrides).training
        return AnchorStream(days, vocabulary(), options.data, Sampling.of(options))

    with pytest.raises(UserError) as caught:
        open_with(["training.data.batch_size=8", f"training.{option}"])
    assert named in str(caught.value)


def test_a_source_that_is_not_enabled_draws_nothing() -> None:
    settings = ["hard.count=3", "neighbour.count=4", "neighbour.enabled=true", "hard.sample_by_weight=false"]
    options = load_config(
        None, ["training.seed=5", *(f"training.negatives.{name}" for name in settings)]
    ).training
    assert Sampling.of(options) == Sampling(seed=5, num_hard=3, num_neighbours=4, sample_by_weight=False)
    off = load_config(None, ["training.negatives.hard.enabled=false"]).training
    assert Sampling.of(off) == Sampling()


def test_days_without_positives_are_refused(tmp_path: Path) -> None:
    day = write_day(tmp_path, [[_without("positive")]])
    with pytest.raises(UserError, match=r"expected records with positives.*found none; mine other days"):
        AnchorStream([day], vocabulary(), *reading())


@pytest.mark.parametrize(("option", "source"), [("num_hard", "hard"), ("num_neighbours", "neighbour")])
def test_days_without_negatives_are_refused_if_any_are_to_be_drawn(
    tmp_path: Path, option: str, source: str
) -> None:
    day = write_day(tmp_path, [[_without("negative")]])
    with pytest.raises(UserError, match=rf"as training.negatives.{source} draws 2 for an anchor"):
        AnchorStream([day], vocabulary(), *reading(**({"num_hard": 0} | {option: 2})))
    assert AnchorStream([day], vocabulary(), *reading(num_hard=0)).num_anchors > 0


def _without(side: str) -> dict[str, Any]:
    row = record(np.random.Generator(np.random.Philox(1)), 1, 3, 3)
    return {name: [] if name.startswith(side) else value for name, value in row.items()}


def test_a_vocabulary_of_another_log_is_refused(tmp_path: Path) -> None:
    days = _days(tmp_path, 10, [5, 5])
    strangers = Vocabulary(np.array([0, 10**6]), np.array([0, 1]), {}, {"user_age": ()}, 10)
    with pytest.raises(UserError, match="found none of its 1 ads among"):
        AnchorStream(days, strangers, *reading())


def test_a_state_of_other_days_or_another_order_is_refused(tmp_path: Path) -> None:
    days = _days(tmp_path / "a", 11, [5, 5])
    state = AnchorStream(days, vocabulary(), *reading(batch_size=8)).state_dict()
    others = _days(tmp_path / "b", 12, [5, 5])
    with pytest.raises(UserError, match=r"state of the data set: expected shards .*found shards"):
        AnchorStream(others, vocabulary(), *reading(batch_size=8), state=state)
    with pytest.raises(UserError, match="expected seed 1, found seed 0"):
        AnchorStream(days, vocabulary(), *reading(batch_size=8, seed=1), state=state)
