"""One step's loss: the sources of negatives that are switched on, in one softmax, over all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from scrollpast.config.training_options import DrawCorrection, Model, Negatives, SourceOptions
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.engine.nonfinite_guard import NonFiniteGuard
from scrollpast.training.engine.precision import precision_of
from scrollpast.training.engine.schedule import Ramp
from scrollpast.training.engine.step_input import StepInput
from scrollpast.training.loss.gather import gather
from scrollpast.training.loss.sampled_softmax import Own, Shared, sampled_softmax
from scrollpast.training.loss.sources.catalogue import RandomColumns, catalogue_log_q
from scrollpast.training.loss.sources.hard import draw_offsets
from scrollpast.training.loss.sources.in_batch import InBatchColumns
from scrollpast.training.loss.sources.log_q import catalogue_correction, pool_correction

SOURCES = ("in_batch", "random", "hard", "neighbour")
SMALLEST_TEMPERATURE = 0.01
"""A learned temperature stays above it, as the loss of one mistaken pair grows with its inverse."""


@dataclass(frozen=True)
class Totals:
    """What one step, or several, told: sums over the anchors of all ranks."""

    loss: float
    """Σ weight · loss"""
    weight: float
    """Σ weight"""
    num_stopping: float
    """Ranks that were asked to stop before the step"""
    masses: tuple[float, ...]
    """By source, as in `SOURCES`: Σ weight · the source's share in the softmax"""

    @staticmethod
    def of(numbers: Sequence[float]) -> Totals:
        """From what `numbers` gives, or the tensor of a step as a list."""
        return Totals(numbers[0], numbers[1], numbers[2], tuple(numbers[3:]))

    @staticmethod
    def zero() -> Totals:
        """Of no step."""
        return Totals.of([0.0] * (3 + len(SOURCES)))

    @property
    def numbers(self) -> list[float]:
        return [self.loss, self.weight, self.num_stopping, *self.masses]

    def __add__(self, other: Totals) -> Totals:
        return Totals.of([a + b for a, b in zip(self.numbers, other.numbers, strict=True)])

    @property
    def mean_loss(self) -> float:
        """Over the weights of the anchors; 0 where all of them are 0."""
        return self.loss / self.weight if self.weight else self.loss

    @property
    def gradient_shares(self) -> dict[str, float]:
        """What part of the push away from negatives each source has; they add up to 1."""
        total = sum(self.masses)
        return {name: mass / total if total else 0.0 for name, mass in zip(SOURCES, self.masses, strict=True)}


class ContrastiveLoss(nn.Module):
    """The loss over the embeddings of a step's users and ads.

    Args:
        vocabulary: says how often each ad is a positive.
        device: where the steps are computed.
        group: the ranks that train together.
    """

    def __init__(
        self,
        options: Negatives,
        model: Model,
        vocabulary: Vocabulary,
        *,
        device: torch.device,
        group: dist.ProcessGroup,
    ) -> None:
        super().__init__()
        self.is_stop_requested = False
        """Set it to tell all ranks, with the next step's result, that this one was asked to stop."""
        self.soundness = NonFiniteGuard(device)
        self._options, self._num_rows = options, vocabulary.num_rows
        precision = precision_of(model.logits_precision, device)
        self._products = None if precision == torch.float32 else precision
        self._group, self._num_ranks, self._rank = group, dist.get_world_size(group), dist.get_rank(group)
        log_scale = torch.tensor(-math.log(model.temperature), device=device)
        if model.is_temperature_learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)
        # No buffers: they are no state, but follow from the vocabulary.
        self._log_q = torch.from_numpy(vocabulary.log_q(1.0)).to(device)
        self._random_log_q = torch.from_numpy(catalogue_log_q(vocabulary, options.random)).to(device)

    def forward(
        self, user_BD: torch.Tensor, ad_MD: torch.Tensor, batch: StepInput
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss to differentiate on this rank; and float64 [3 + sources], the same on all ranks: `Totals`.

        The mean of this loss over the ranks is Σ weight · loss / Σ weight over all anchors of all ranks: what
        one rank with the whole batch would compute.

        Args:
            user_BD: float32 [B, D].
            ad_MD: float32 [M, D], in the order of ``batch.ads``.
        """
        anchors = batch.anchors
        num_anchors, num_hard = anchors.hard_row.shape
        num_neighbours = anchors.neighbour_row.shape[1]
        positive_BD, hard, neighbour, random_ND = ad_MD.split(
            [num_anchors, num_anchors * num_hard, num_anchors * num_neighbours, len(batch.random_row)]
        )
        sources: list[Shared | Own] = []
        positive_offset_B = None
        options = self._options
        if (log_weight := _log_weight(options.in_batch, batch.step)) is not None:
            columns, column_ND = self._in_batch(anchors, positive_BD, log_weight)
            sources.append(Shared("in_batch", column_ND, columns))
            if options.positive_log_q == "sampled":
                positive_offset_B = columns.positive_correction()
        if (log_weight := _log_weight(options.random, batch.step)) is not None:
            sources.append(Shared("random", random_ND, self._random(batch, log_weight)))
        if num_hard and (log_weight := _log_weight(options.hard, batch.step)) is not None:
            offset_BK = draw_offsets(
                anchors.ad_row, anchors.request_hash, anchors.known_rows, anchors.known_lengths,
                anchors.hard_row, anchors.hard_weight, anchors.hard_request,
                num_rows=self._num_rows, log_weight=log_weight,
                correction_BK=self._correction(
                    options.hard.log_q, anchors.hard_row, anchors.hard_weight, anchors.hard_log_q
                ),
                is_weighted=options.hard.is_weighted, mask_known_positives=options.hard.mask_known_positives,
                is_same_request_masked=options.hard.is_same_request_masked,
            )  # fmt: skip
            sources.append(Own("hard", hard.view(num_anchors, num_hard, -1), offset_BK))
        if num_neighbours and (log_weight := _log_weight(options.neighbour, batch.step)) is not None:
            offset_BK = draw_offsets(
                anchors.ad_row, anchors.request_hash, anchors.known_rows, anchors.known_lengths,
                anchors.neighbour_row, anchors.neighbour_weight, torch.zeros_like(anchors.neighbour_row),
                num_rows=self._num_rows, log_weight=log_weight,
                correction_BK=self._correction(
                    options.neighbour.log_q, anchors.neighbour_row, anchors.neighbour_weight,
                    anchors.neighbour_log_q,
                ),
                is_weighted=options.neighbour.is_weighted,
                mask_known_positives=options.neighbour.mask_known_positives,
            )  # fmt: skip
            sources.append(Own("neighbour", neighbour.view(num_anchors, num_neighbours, -1), offset_BK))
        scale = self.log_scale.clamp(max=-math.log(SMALLEST_TEMPERATURE)).exp()
        if sources:
            loss, mass = sampled_softmax(
                user_BD,
                positive_BD,
                scale,
                anchors.weight,
                sources,
                positive_offset_B,
                products=self._products,
            )
        else:
            # The schedules may leave a step without any source: nothing is learned, on any rank.
            loss, mass = (user_BD.sum() + ad_MD.sum() + scale) * 0.0, ad_MD.new_zeros(0)
        return self._over_ranks(loss, mass, [source.name for source in sources], anchors.weight)

    def _over_ranks(
        self, loss: torch.Tensor, mass: torch.Tensor, names: list[str], weight_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        masses = dict(zip(names, mass.unbind(), strict=True))
        is_stopping = torch.full_like(loss, float(self.is_stop_requested))
        nothing = torch.zeros_like(loss)
        numbers = [
            loss.detach(),
            weight_B.sum(),
            is_stopping,
            *(masses.get(name, nothing) for name in SOURCES),
        ]
        totals = torch.stack([number.detach().double() for number in numbers])
        if self._num_ranks > 1:
            dist.all_reduce(totals, group=self._group)
        self.soundness.note(totals[0])
        scale = self._num_ranks / totals[1].clamp(min=torch.finfo(torch.float32).tiny)
        return loss * scale.to(loss.dtype), totals

    def _in_batch(
        self, anchors: AnchorBatch, positive_BD: torch.Tensor, log_weight: float
    ) -> tuple[InBatchColumns, torch.Tensor]:
        options = self._options.in_batch
        numbers = torch.stack([anchors.user_id, anchors.ad_row, anchors.request_hash], dim=1)
        first_own = 0
        if options.across_ranks and self._num_ranks > 1:
            numbers, column_ND = gather(numbers, self._group), gather(positive_BD, self._group)
            first_own = self._rank * len(positive_BD)
        else:
            column_ND = positive_BD
        user_N, row_N, request_N = numbers.T.contiguous().unbind(0)
        columns = InBatchColumns(
            row_B=anchors.ad_row,
            known_rows=anchors.known_rows,
            known_lengths=anchors.known_lengths,
            user_N=user_N,
            row_N=row_N,
            request_N=request_N,
            log_q_N=self._log_q[row_N] if options.log_q else None,
            first_own=first_own,
            log_weight=log_weight,
            is_same_user_masked=options.is_same_user_masked,
            is_same_request_masked=options.is_same_request_masked,
            mask_known_positives=options.mask_known_positives,
        )
        return columns, column_ND

    def _correction(
        self, kind: DrawCorrection, row_BK: torch.Tensor, weight_BK: torch.Tensor, log_q_BK: torch.Tensor
    ) -> torch.Tensor | None:
        if kind == "pool":
            return pool_correction(log_q_BK, weight_BK > 0)
        if kind == "uniform":
            of_each = torch.full_like(weight_BK, -math.log(max(1, self._num_rows - 1)))
            return catalogue_correction(of_each, weight_BK > 0)
        return catalogue_correction(self._log_q[row_BK], weight_BK > 0) if kind == "popularity" else None

    def _random(self, batch: StepInput, log_weight: float) -> RandomColumns:
        options, anchors = self._options.random, batch.anchors
        return RandomColumns(
            row_B=anchors.ad_row,
            known_rows=anchors.known_rows,
            known_lengths=anchors.known_lengths,
            row_N=batch.random_row,
            log_q_N=self._random_log_q[batch.random_row] if options.log_q else None,
            log_weight=log_weight,
            mask_known_positives=options.mask_known_positives,
        )


def _log_weight(source: SourceOptions, step: int) -> float | None:
    """The logarithm of a source's weight in a step; None where it takes no part."""
    schedule = source.schedule
    factor = Ramp(schedule.initial, schedule.start_step, schedule.ramp_steps).at(step)
    return math.log(source.weight * factor) if source.enabled and factor > 0 else None
