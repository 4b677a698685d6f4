"""Registry of the terms of the loss: the trainer, the loss and the log derive their lists from it."""

from __future__ import annotations

from typing import Any

from scrollpast.config.training_options import Training
from scrollpast.config.validation_errors import options_of
from scrollpast.registry import Registry
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.loss.terms.exposure import ExposureTerm
from scrollpast.training.loss.terms.history import HistoryTerm
from scrollpast.training.loss.terms.served import ServedTerm
from scrollpast.training.loss.terms.softmax import SoftmaxTerm
from scrollpast.training.loss.terms.term import LossTerm

TERMS: Registry[type[LossTerm[Any]]] = Registry(
    "term of the loss", (SoftmaxTerm, ServedTerm, ExposureTerm, HistoryTerm)
)
"""A term from outside is enabled by ``training.loss.others.NAME``."""


def source_names() -> tuple[str, ...]:
    """Names of the sources of all terms, in the order of their sums in `Totals`."""
    return tuple(name for term in TERMS for name in term.source_names())


def terms_of(training: Training, vocabulary: Vocabulary) -> list[LossTerm[Any]]:
    """Terms of a run that have options and a weight above 0, in the order of the registry.

    Raises:
        UserError: ``training.loss.others`` names a term that is not registered, or options that it does not have.
    """
    options, terms = training.loss, []
    for name, given in options.others.items():
        term = TERMS.find(name, place := f"training.loss.others.{name}")
        terms.append(term(options_of(term.options_type, given, place), training, vocabulary))
    terms += [
        term(getattr(options, term.name), training, vocabulary)
        for term in TERMS
        if term.name in type(options).model_fields
    ]
    order = TERMS.names
    return sorted(
        (term for term in terms if term.options.weight > 0), key=lambda term: order.index(term.name)
    )
