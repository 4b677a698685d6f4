"""Term of all sources of negatives in one sampled softmax."""

from __future__ import annotations

from scrollpast.config.training_options import TermOptions, Training
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.loss.sampled_softmax import sampled_softmax
from scrollpast.training.loss.sources.registry import SOURCES, sources_of
from scrollpast.training.loss.terms.term import LossTerm, TermInput, TermLoss


class SoftmaxTerm(LossTerm[TermOptions]):
    """Softmax of the positive against the candidates of all enabled sources of ``training.negatives``."""

    name = "softmax"

    def __init__(self, options: TermOptions, training: Training, vocabulary: Vocabulary) -> None:
        super().__init__(options, training, vocabulary)
        self._is_positive_sampled = training.negatives.positive_log_q == "sampled"
        self.sources = sources_of(training.negatives, vocabulary, training.seed)

    @classmethod
    def source_names(cls) -> tuple[str, ...]:
        return SOURCES.names

    def loss(self, given: TermInput) -> TermLoss | None:
        candidates, positive_offset_B = [], None
        for source in self.sources:
            if (log_weight := source.log_weight(given.number)) is None:
                continue
            found = source.candidates(*given.ads[source.name], given.step, log_weight)
            if found is None:
                continue
            candidates.append(found)
            if self._is_positive_sampled and positive_offset_B is None:
                positive_offset_B = source.positive_correction(found)
        if not candidates:
            return None
        loss, mass = sampled_softmax(
            given.user_BD,
            given.step.positive_BD,
            given.scale,
            given.step.anchors.weight,
            candidates,
            positive_offset_B,
            products=given.products,
        )
        names = [found.name for found in candidates]
        return TermLoss(loss, dict(zip(names, mass.unbind(), strict=True)))
