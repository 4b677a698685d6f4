"""Registry of the sources of negatives."""

from __future__ import annotations

from typing import Any

from scrollpast.config.training_options import Negatives
from scrollpast.config.validation_errors import options_of
from scrollpast.registry import Registry
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.loss.sources.catalogue import RandomSource
from scrollpast.training.loss.sources.hard import HardSource, NeighbourSource
from scrollpast.training.loss.sources.in_batch import InBatchSource
from scrollpast.training.loss.sources.source import NegativeSource

SOURCES: Registry[type[NegativeSource[Any]]] = Registry(
    "source of negatives", (InBatchSource, HardSource, NeighbourSource, RandomSource)
)
"""A source from outside is enabled by ``training.negatives.others.NAME``."""


def sources_of(options: Negatives, vocabulary: Vocabulary, seed: int = 0) -> list[NegativeSource[Any]]:
    """Sources of a run that have options, enabled or not, in the order of the registry.

    Raises:
        UserError: ``others`` names a source that is not registered, or options that it does not have.
    """
    given = {name: getattr(options, name) for name in type(options).model_fields if name in SOURCES}
    for name, values in options.others.items():
        source = SOURCES.find(name, place := f"training.negatives.others.{name}")
        given[name] = options_of(source.options_type, values, place)
    return [source(given[source.name], vocabulary, seed) for source in SOURCES if source.name in given]
