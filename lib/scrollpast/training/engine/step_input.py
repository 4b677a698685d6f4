"""Input of one step: a batch of anchors, the keys of the table lookups, and the ads of every source."""

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
from scrollpast.training.data.leave_out import LeaveOut
from scrollpast.training.loss.terms.registry import terms_of
from scrollpast.training.model.features import AdFeatures, UserFeatures, lists_of


@dataclass(frozen=True)
class StepInput(Pipelineable):
    """Input of one step on one rank. B anchors, M ads of each source of negatives."""

    users: KeyedJaggedTensor
    """stride B"""
    ads: KeyedJaggedTensor
    """stride B + ΣM: the positives, then the ads of every source in the order of ``rows``"""
    anchors: AnchorBatch
    rows: dict[str, torch.Tensor]
    """int64 [M] by source of negatives: what `NegativeSource.rows` returned"""
    step: int
    """Number of the step, counted from 0."""

    def to(self, device: torch.device, non_blocking: bool = False) -> StepInput:
        """The same input on ``device``."""
        return dataclasses.replace(
            self,
            users=self.users.to(device, non_blocking=non_blocking),
            ads=self.ads.to(device, non_blocking=non_blocking),
            anchors=self.anchors.to(device, non_blocking=non_blocking),
            rows={name: row.to(device, non_blocking=non_blocking) for name, row in self.rows.items()},
        )

    def pin_memory(self) -> StepInput:
        """The same input in page-locked memory."""
        return dataclasses.replace(
            self,
            users=self.users.pin_memory(),
            ads=self.ads.pin_memory(),
            anchors=self.anchors.pin_memory(),
            rows={name: row.pin_memory() for name, row in self.rows.items()},
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until ``stream`` has finished its present work."""
        for part in (self.users, self.ads, self.anchors, *self.rows.values()):
            part.record_stream(stream)


class Preparation:
    """Preparation of batches for steps: rows of every source of negatives, and the features of every ad."""

    def __init__(self, vocabulary: Vocabulary, options: Training) -> None:
        self._user_features = UserFeatures(vocabulary, options.model)
        self._ad_features = AdFeatures(vocabulary, options.model, options.seed)
        self._data = options.data
        self._leave_out = LeaveOut(options)
        self._sources = [source for term in terms_of(options, vocabulary) for source in term.sources]

    def of(self, batch: AnchorBatch, step: int) -> StepInput:
        """Prepare the input of step ``step``."""
        batch = self._leave_out.of(batch)
        rows = {source.name: source.rows(batch, step) for source in self._sources}
        users = self._user_features.of(batch.user_row, batch.user_features, lists_of(batch, self._data))
        ads = self._ad_features.of(torch.cat([batch.ad_row, *rows.values()]), step)
        # How long the parts of the keys are: told here, or else asked of the device, which all would wait for.
        return StepInput(users.sync(), ads.sync(), batch, rows, step)

    def steps(
        self, batches: Iterable[AnchorBatch], first_step: int, *, is_pinned: bool = False
    ) -> Generator[StepInput]:
        """Inputs of consecutive steps; optionally in page-locked memory, from which a GPU copies asynchronously."""
        for step, batch in enumerate(batches, first_step):
            made = self.of(batch, step)
            yield made.pin_memory() if is_pinned else made
