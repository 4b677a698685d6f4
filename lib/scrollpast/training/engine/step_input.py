"""A batch of anchors made ready for one step: what the tables are asked for, and the step's random ads."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from scrollpast.config.training_options import Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.loss.sources.catalogue import Catalogue, catalogue_log_q
from scrollpast.training.model.features import AdFeatures, user_features


@dataclass(frozen=True)
class StepInput(Pipelineable):
    """What one rank needs for one step. B anchors, K hard negatives and J neighbours each, N random ads."""

    users: KeyedJaggedTensor
    """stride B"""
    ads: KeyedJaggedTensor
    """stride B + B·K + B·J + N: the positives, all hard negatives, all neighbours, the random ads"""
    anchors: AnchorBatch
    random_row: torch.Tensor
    """int64 [N], the same on every rank"""
    step: int
    """Counted from 0."""

    def to(self, device: torch.device, non_blocking: bool = False) -> StepInput:
        """The same input on ``device``."""
        return dataclasses.replace(
            self,
            users=self.users.to(device, non_blocking=non_blocking),
            ads=self.ads.to(device, non_blocking=non_blocking),
            anchors=self.anchors.to(device, non_blocking=non_blocking),
            random_row=self.random_row.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> StepInput:
        """The same input in page-locked memory."""
        return dataclasses.replace(
            self,
            users=self.users.pin_memory(),
            ads=self.ads.pin_memory(),
            anchors=self.anchors.pin_memory(),
            random_row=self.random_row.pin_memory(),
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until ``stream`` has done what it was given so far."""
        for part in (self.users, self.ads, self.anchors, self.random_row):
            part.record_stream(stream)


class Preparation:
    """Makes batches ready: adds the random ads of the step and looks up every ad's features."""

    def __init__(self, vocabulary: Vocabulary, options: Training) -> None:
        self._ad_features = AdFeatures(vocabulary)
        random = options.negatives.random
        self._num_random = random.count if random.enabled else 0
        self._catalogue = Catalogue(catalogue_log_q(vocabulary, random), options.seed)

    def of(self, batch: AnchorBatch, step: int) -> StepInput:
        """The input of step ``step``."""
        random_row = self._catalogue.draw(step, self._num_random)
        rows = [batch.ad_row, batch.hard_row.view(-1), batch.neighbour_row.view(-1), random_row]
        users = user_features(batch.user_row, batch.user_features, batch.history_rows, batch.history_lengths)
        ads = self._ad_features.of(torch.cat(rows))
        # How long the parts of the keys are: told here, or else asked of the device, which all would wait for.
        return StepInput(users.sync(), ads.sync(), batch, random_row, step)

    def steps(
        self, batches: Iterable[AnchorBatch], first_step: int, *, is_pinned: bool = False
    ) -> Generator[StepInput]:
        """The inputs of consecutive steps; in page-locked memory if asked, from which a GPU copies by itself."""
        for step, batch in enumerate(batches, first_step):
            made = self.of(batch, step)
            yield made.pin_memory() if is_pinned else made
