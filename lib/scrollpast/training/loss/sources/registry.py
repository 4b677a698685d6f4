"""Registry of the sources of negatives: the trainer, the loss and the log derive their lists from it."""

from __future__ import annotations

from typing import Any

from scrollpast.config.training_options import Negatives
from scrollpast.errors import UserError
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.loss.sources.catalogue import RandomSource
from scrollpast.training.loss.sources.hard import HardSource, NeighbourSource
from scrollpast.training.loss.sources.in_batch import InBatchSource
from scrollpast.training.loss.sources.source import NegativeSource

Source = type[NegativeSource[Any]]
_SOURCES: dict[str, Source] = {
    source.name: source for source in (InBatchSource, HardSource, NeighbourSource, RandomSource)
}


def register(source: Source) -> Source:
    """Add a source; usable as a decorator. It is enabled by ``training.negatives.others.NAME``.

    Raises:
        ValueError: another source has this name.
    """
    if _SOURCES.setdefault(source.name, source) is not source:
        raise ValueError(
            f"source {source.name!r}: expected a new name, found {_SOURCES[source.name].__name__}"
        )
    return source


def unregister(source: Source) -> None:
    """Remove a source that was added."""
    del _SOURCES[source.name]


def source_names() -> tuple[str, ...]:
    """Names of all sources, in the order of their sums in `Totals`."""
    return tuple(_SOURCES)


def sources_of(options: Negatives, vocabulary: Vocabulary, seed: int = 0) -> list[NegativeSource[Any]]:
    """One object a source that has options, enabled or not, in the order of `source_names`.

    Raises:
        UserError: ``others`` names a source that nobody registered.
    """
    given = {name: getattr(options, name) for name in type(options).model_fields if name in _SOURCES}
    given |= options.others
    if unknown := sorted(given.keys() - _SOURCES.keys()):
        raise UserError(
            f"training.negatives.others.{unknown[0]}",
            expected=f"a registered source of negatives ({', '.join(_SOURCES)})",
            found="an unknown name",
            remedy="import the module that registers it before the trainer starts, or remove the option",
        )
    return [source(given[name], vocabulary, seed) for name, source in _SOURCES.items() if name in given]
