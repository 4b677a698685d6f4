"""Interface of a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from scrollpast.training.evaluation.baselines.past import Past
from scrollpast.training.evaluation.held_out import HeldOut
from scrollpast.training.evaluation.ranking import Scorer


@dataclass(frozen=True)
class Baseline:
    """A ranking of ads that is computed from the history days."""

    name: str
    """Name in tables and files"""
    meaning: str
    """One line: the score of an ad for a user"""
    fit: Callable[[Past, HeldOut], Scorer]
    """Past of all users → scores for the U users of an evaluation, of whom only the past may be used"""
    package: str | None = None
    """Package of the extra ``baselines`` that ``fit`` imports; the baseline is skipped where it is not installed"""

    @property
    def missing(self) -> str | None:
        """Reason to skip the baseline; None if it can be fitted."""
        if self.package is None or find_spec(self.package) is not None:
            return None
        return f"the package {self.package} is not installed (pip install {self.package})"
