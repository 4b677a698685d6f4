"""The anchors of published days as batches for one rank: every anchor once an epoch, resumable at every batch."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrollpast.config.training_options import TrainingData
from scrollpast.errors import UserError
from scrollpast.record_schema import HISTORY_AD_ID
from scrollpast.shards.reader import PublishedShard, ShardReader
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch, Draws
from scrollpast.training.data.block import block_features
from scrollpast.training.data.counting import count_anchors
from scrollpast.training.data.lane import LaneReader
from scrollpast.training.data.order import permutation
from scrollpast.training.data.piece import NUMBERS, AnchorPiece, concatenate
from scrollpast.training.data.plan import Lanes, lanes_of
from scrollpast.training.data.prefetch import Prefetched
from scrollpast.training.data.sampling import Sampling
from scrollpast.training.data.shard_blocks import BlockCache

_STATE_VERSION = 1


class AnchorStream:
    """Iterate over the rest of an epoch; the next iteration is the next epoch.

    Args:
        manifests: URIs of days' folders or manifests.
        vocabulary: maps ads, users and categories to rows.
        rank: this rank of ``num_ranks``; each has a stream of its own, with the same other arguments.
        counts: int64 [2, S] from `count_anchors`, where the ranks have shared the work of counting; else every
            stream counts by itself, which reads all shards once.
        state: continue where `state_dict` or `state_after` says.

    Raises:
        UserError: a day is not published, lacks a user feature of the vocabulary, or holds nothing to train on;
            the vocabulary knows none of the ads; the batch does not divide; the state is another data set's.
        CorruptShardError: a manifest or (also while iterating) a shard is not what was written.
    """

    def __init__(
        self,
        manifests: Sequence[str],
        vocabulary: Vocabulary,
        options: TrainingData,
        sampling: Sampling,
        *,
        rank: int = 0,
        num_ranks: int = 1,
        counts: NDArray[np.int64] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank must be in [0, {num_ranks}), got {rank}")
        earlier = (HISTORY_AD_ID,) if options.read_user_history and options.max_history else ()
        reader = ShardReader(manifests, features=block_features(vocabulary), optional=earlier)
        self.shards: list[PublishedShard] = reader.shards
        """Shards in the order that `AnchorBatch.origin` counts."""
        self._options, self._sampling = options, sampling
        self._fingerprint = str(reader.state()["shards"])
        self._vocabulary = vocabulary
        if counts is None:
            counts = count_anchors(self.shards, vocabulary, merge_repeats=options.merge_repeats)
        assert counts.shape == (2, len(self.shards)), counts.shape
        num_negatives = sum(day.num_negatives for day in reader.days)
        _check_content(counts, num_negatives, manifests, vocabulary, sampling)
        self._counts = counts[0]
        self._lanes: Lanes = lanes_of(
            int(self._counts.sum()), options.batch_size, num_ranks, options.num_lanes
        )
        self._own_lanes = self._lanes.of_rank(rank, num_ranks)
        self._reader = LaneReader(
            self.shards,
            reader.schema,
            vocabulary,
            options,
            sampling,
            BlockCache(options.cache_bytes),
            _kind_weights(options.kind_weights, [day.kinds for day in reader.days]),
        )
        self._epoch = 0
        self._position = 0
        if state is not None:
            self.load_state_dict(state)

    @property
    def num_anchors(self) -> int:
        """Anchors of an epoch, all ranks together, padding not counted."""
        return self._lanes.num_anchors

    @property
    def steps_per_epoch(self) -> int:
        """Batches of a whole epoch; the same for every rank if padded."""
        return self._lanes.num_steps()

    @property
    def steps_left(self) -> int:
        """Batches from the current position to the end of the epoch."""
        return self._lanes.num_steps(self._position)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to."""
        return self._epoch

    def __iter__(self) -> Iterator[AnchorBatch]:
        """Batches from the current position to the end of the epoch.

        Threads that read ahead end with the iterator: read it to its end, or ``close()`` it.
        """
        epoch, position = self._epoch, self._position
        sources = self._sources(epoch, position)
        try:
            # Lanes differ by one anchor at most: where nothing fills them up, some end a batch before the others.
            for parts in zip_longest(*sources):
                position += self._lanes.lane_batch
                # The position moves before the batch is handed out: state_dict() then means "all until here".
                self._epoch, self._position = self._normalised(epoch, position)
                yield self._batch(
                    concatenate([piece for piece in parts if piece is not None]), epoch, position
                )
        finally:
            for source in sources:
                source.close()
        self._epoch, self._position = epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last batch that the iterator handed out, as JSON can hold it.

        Behind a pipeline that takes batches ahead of the step, use `state_after` with the batch of the step.
        """
        return self._state(self._epoch, self._position)

    def state_after(self, batch: AnchorBatch) -> dict[str, Any]:
        """The position behind ``batch``: what was trained on, however much was read ahead."""
        return self._state(*self._normalised(batch.epoch, batch.lane_position))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a position, also on another number of ranks or with another batch size.

        Raises:
            UserError: the state is malformed or belongs to other shards, another order or other lanes.
        """
        own = self._state(0, 0)
        differing = [
            name for name in own if name not in ("epoch", "lane_position") and state.get(name) != own[name]
        ]
        if differing:
            raise UserError(
                "state of the data set",
                expected=", ".join(f"{name} {own[name]}" for name in differing),
                found=", ".join(f"{name} {state.get(name)}" for name in differing),
                remedy="resume with the days and training.data options of the checkpoint "
                "(num_lanes can be set), or begin anew",
            )
        epoch, position = state.get("epoch"), state.get("lane_position")
        if not (isinstance(epoch, int) and isinstance(position, int) and epoch >= 0 and position >= 0):
            raise UserError(
                "state of the data set",
                expected="epoch and lane_position of 0 or more",
                found=f"{epoch!r} and {position!r}",
                remedy="begin anew",
            )
        self._epoch, self._position = self._normalised(epoch, position)

    def describe_origin(self, batch: AnchorBatch) -> str:
        """The shards and records that a batch came from, for a message."""
        origin = batch.origin.cpu().numpy()
        parts = []
        for shard in np.unique(origin[:, 0]).tolist():
            records = origin[origin[:, 0] == shard, 1]
            parts.append(f"{self.shards[shard].uri}, records {records.min():,} to {records.max():,}")
        return "; ".join(parts)

    def _sources(
        self, epoch: int, position: int
    ) -> list[Prefetched[AnchorPiece]] | list[Generator[AnchorPiece]]:
        """The rank's part of every batch, cut by lanes among the threads; in the order of the lanes."""
        num_threads = self._options.num_workers
        shares = np.array_split(np.array(self._own_lanes), max(1, min(num_threads, len(self._own_lanes))))
        pieces = [self._pieces(share.tolist(), epoch, position) for share in shares]
        if not num_threads:
            return pieces
        return [Prefetched(source, self._options.prefetch_batches) for source in pieces]

    def _pieces(self, lanes: Sequence[int], epoch: int, position: int) -> Generator[AnchorPiece]:
        size = self._lanes.lane_batch
        order = np.arange(len(self.shards))
        if self._options.shuffle:
            order = permutation(len(self.shards), self._sampling.seed, epoch)
        padded_to = position + self._lanes.num_steps(position) * size if self._sampling.is_padded else None
        readers = [
            self._reader.pieces(
                self._lanes.segments(lane, self._counts, order, padded_to=padded_to), epoch, position, size
            )
            for lane in lanes
        ]
        for parts in zip_longest(*readers):
            yield concatenate([piece for piece in parts if piece is not None])

    def _batch(self, piece: AnchorPiece, epoch: int, position: int) -> AnchorBatch:
        numbers = {name: torch.from_numpy(row) for name, row in zip(NUMBERS, piece.numbers, strict=False)}
        codes = zip(self._vocabulary.user_features, piece.numbers[len(NUMBERS) :], strict=True)
        hard = [torch.from_numpy(values) for values in (*piece.hard_numbers, *piece.hard_weights)]
        neighbour = [torch.from_numpy(v) for v in (*piece.neighbour_numbers, *piece.neighbour_weights)]
        return AnchorBatch(
            user_features={name: torch.from_numpy(row) for name, row in codes},
            history_rows=torch.from_numpy(piece.history_rows),
            history_lengths=torch.from_numpy(piece.history_lengths),
            passed_rows=torch.from_numpy(piece.passed_rows),
            passed_lengths=torch.from_numpy(piece.passed_lengths),
            weight=torch.from_numpy(piece.weights),
            hard=Draws(row=hard[0], request=hard[1], weight=hard[2], log_q=hard[3]),
            neighbour=Draws(row=neighbour[0], weight=neighbour[1], log_q=neighbour[2]),
            known_rows=torch.from_numpy(piece.known_rows),
            known_lengths=torch.from_numpy(piece.known_lengths),
            origin=torch.stack([numbers.pop("shard"), numbers.pop("record")], dim=1),
            epoch=epoch,
            lane_position=position,
            **numbers,
        )

    def _normalised(self, epoch: int, position: int) -> tuple[int, int]:
        """The end of an epoch is the beginning of the next."""
        return (epoch + 1, 0) if position >= self._lanes.length else (epoch, position)

    def _state(self, epoch: int, position: int) -> dict[str, Any]:
        return {
            "version": _STATE_VERSION,
            "shards": self._fingerprint,
            "num_lanes": self._lanes.num_lanes,
            "seed": self._sampling.seed,
            "shuffle": self._options.shuffle,
            "block_records": self._options.block_records,
            "merge_repeats": self._options.merge_repeats,
            "epoch": epoch,
            "lane_position": position,
        }


def _kind_weights(weights: Mapping[str, float], kinds: Sequence[Mapping[str, int]]) -> NDArray[np.float32]:
    """Factor of the weight of an anchor, by the code of its kind.

    Raises:
        UserError: a kind that no day has.
    """
    codes = {name: code for day in kinds for name, code in day.items()}
    found = np.ones(max(codes.values(), default=0) + 1, np.float32)
    for name, weight in weights.items():
        if name not in codes:
            raise UserError(
                f"training.data.kind_weights.{name}",
                expected=f"a kind of engagement of the days ({', '.join(codes)})",
                found=repr(name),
                remedy="name one of these, or remove it",
            )
        found[codes[name]] = weight
    return found


def _check_content(
    counts: NDArray[np.int64],
    num_negatives: int,
    manifests: Sequence[str],
    vocabulary: Vocabulary,
    sampling: Sampling,
) -> None:
    place = (
        ", ".join(manifests) if len(manifests) <= 3 else f"{manifests[0]} and {len(manifests) - 1} more days"
    )
    num_anchors, num_known = (int(count) for count in counts.sum(axis=1))
    if num_anchors == 0:
        raise UserError(
            place or "manifests",
            expected="records with positives: each is an anchor to train on",
            found="none",
            remedy="mine other days",
        )
    if num_known == 0:
        raise UserError(
            f"vocabulary {vocabulary.version}",
            expected=f"some of the ads of {place}",
            found=f"none of its {vocabulary.num_rows - 1:,} ads among {num_anchors:,} positives",
            remedy="build the vocabulary from these days (or from --parent and these days)",
        )
    # Manifests do not count neighbours apart: days with other negatives may have none.
    for source, count in (("hard", sampling.num_hard), ("neighbour", sampling.num_neighbours)):
        if count and num_negatives == 0:
            raise UserError(
                place,
                expected=f"negatives, as training.negatives.{source} draws {count} for an anchor",
                found="none in any record",
                remedy=f"mine with wider thresholds, or set training.negatives.{source}.enabled to false",
            )
