"""Term of the history: a softmax of ads that were taken out of what the user tower reads."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from scrollpast.config.training_options import HistoryTermOptions, Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.data.batch import AnchorBatch
from scrollpast.training.loss.gather import gather
from scrollpast.training.loss.sampled_softmax import Shared, sampled_softmax
from scrollpast.training.loss.sources import masks
from scrollpast.training.loss.sources.in_batch import InBatchColumns
from scrollpast.training.loss.sources.log_q import softened_log_q
from scrollpast.training.loss.sources.source import NegativeSource, RankStep
from scrollpast.training.loss.terms.term import LossTerm, TermInput, TermLoss

_NAME = "history"


class HistoryTerm(LossTerm[HistoryTermOptions]):
    """Softmax of ads of the anchor's history, which the user tower does not read in this step, against those of other
    anchors.

    A user has many more ads in the history than positives in a few days: the ads' rows learn from all of them, and the
    user tower learns to complete a list instead of remembering one (masked items: BERT4Rec, Sun et al., CIKM 2019).

    B anchors, T targets an anchor, N = B · T rows of this rank; candidates are those of all ranks.
    """

    name = _NAME
    options_type = HistoryTermOptions

    def __init__(self, options: HistoryTermOptions, training: Training, vocabulary: Vocabulary) -> None:
        super().__init__(options, training, vocabulary)
        self.sources = (_Targets(options, vocabulary),)
        self._log_q_R = softened_log_q(torch.from_numpy(vocabulary.log_q(1.0)), options.log_q_strength)
        self._log_q_R[0] = masks.FAR  # an absent target is no candidate

    @classmethod
    def source_names(cls) -> tuple[str, ...]:
        return (_NAME,)

    def place(self, device: torch.device) -> None:
        self._log_q_R = self._log_q_R.to(device)

    def loss(self, given: TermInput) -> TermLoss | None:
        anchors = given.step.anchors
        targets = anchors.targets
        assert targets is not None
        count, group = targets.count, given.step.group
        row_N, embedding_ND = given.ads[_NAME]
        user_N = anchors.user_id.repeat_interleave(count)
        column_row_N, column_user_N, column_ND, first_own = row_N, user_N, embedding_ND, 0
        if dist.get_world_size(group) > 1:
            numbers = gather(torch.stack([row_N, user_N], dim=1), group)
            column_row_N, column_user_N = numbers.T.contiguous().unbind(0)
            column_ND = gather(embedding_ND, group)
            first_own = dist.get_rank(group) * len(row_N)
        columns = InBatchColumns(
            row_B=row_N,
            known_rows=_repeated(anchors.known_rows, anchors.known_lengths, count),
            known_lengths=anchors.known_lengths.repeat_interleave(count),
            user_N=column_user_N,
            row_N=column_row_N,
            request_N=torch.zeros_like(column_row_N),
            log_q_N=self._log_q_R[column_row_N],
            first_own=first_own,
            log_weight=0.0,
            is_same_request_masked=False,
        )
        present_BT = targets.weight
        weight_BT = anchors.weight[:, None] * present_BT / present_BT.sum(1, keepdim=True).clamp(min=1)
        scale = given.scale_of(self.options.temperature)
        loss, mass = sampled_softmax(
            given.user_BD.repeat_interleave(count, 0),
            embedding_ND,
            scale,
            weight_BT.view(-1),
            [Shared(_NAME, column_ND, columns)],
            products=given.products,
        )
        return TermLoss.of_one(_NAME, loss, mass, scale / given.scale)


class _Targets(NegativeSource[Any]):
    """The targets of the batch."""

    name = _NAME

    def rows(self, anchors: AnchorBatch, step: int) -> torch.Tensor:
        del step
        assert anchors.targets is not None
        return anchors.targets.row.reshape(-1)

    def candidates(
        self, row_M: torch.Tensor, embedding_MD: torch.Tensor, step: RankStep, log_weight: float
    ) -> None:
        del row_M, embedding_MD, step, log_weight  # the term has them from the embeddings of the step


def _repeated(values: torch.Tensor, lengths: torch.Tensor, count: int) -> torch.Tensor:
    """A ragged list in which each anchor's part stands ``count`` times, one after the other."""
    ends = lengths.cumsum(0)
    starts = (ends - lengths).repeat_interleave(count)
    lengths = lengths.repeat_interleave(count)
    before = lengths.cumsum(0) - lengths
    size = len(values) * count
    index = torch.arange(size, device=values.device) + torch.repeat_interleave(
        starts - before, lengths, output_size=size
    )
    return values[index]
