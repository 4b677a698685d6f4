"""A run begins with another's weights, also when ads, values and rows were added since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scrollpast.errors import UserError
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.training.engine.step_model import build
from scrollpast.training.engine.trainer import Trainer
from scrollpast.training.engine.warm_start import begin_from
from tests.training.data.days import vocabulary
from tests.training.runs import small_options, weights_of

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("alone")]


def run(day: str, out: Path, known: Vocabulary, *overrides: str) -> Trainer:
    facts = {
        "vocabulary": {"uri": known.write(str(out.parent / "known")), "version": known.version},
        "days": [day],
    }
    return Trainer(small_options(*overrides), [day], known, str(out), torch.device("cpu"), facts=facts)


def grown(**changes: object) -> Vocabulary:
    """The toy vocabulary with three more ads and one more advertiser."""
    old = vocabulary()
    return replace(
        old,
        ad_ids=np.concatenate([old.ad_ids, [100, 101, 102]]),
        counts=np.concatenate([old.counts, [0, 3, 1]]),
        feature_codes={"advertiser": np.concatenate([old.feature_codes["advertiser"], [4, 4, 0]])},
        values={**old.values, "advertiser": ("a", "b", "c", "d")},
        parent=old.version,
        **changes,  # type: ignore[arg-type]
    )


def test_rows_of_old_ads_are_taken_over_and_new_ones_begin_like_any(day: str, tmp_path: Path) -> None:
    first = run(day, tmp_path / "first", vocabulary(), "epochs=2")
    first.train()
    fresh = weights_of(run(day, tmp_path / "fresh", grown()))
    found = weights_of(run(day, tmp_path / "next", grown(), f"start_from={tmp_path / 'first'}"))
    for name, learned in weights_of(first).items():
        if ".embedding_bags." in name:
            assert torch.equal(found[name][: len(learned)], learned), name
            assert torch.equal(found[name][len(learned) :], fresh[name][len(learned) :]), name
        else:
            assert torch.equal(found[name], learned), name
    assert len(found["towers.ad_tables.embedding_bags.ad.weight"]) == 44


def test_a_run_that_began_with_weights_goes_on_from_its_own_checkpoints(day: str, tmp_path: Path) -> None:
    run(day, tmp_path / "first", vocabulary()).train()
    outcome = run(day, tmp_path / "next", grown(), f"start_from={tmp_path / 'first'}", "max_steps=2").train()
    assert outcome.step == 2


@pytest.mark.parametrize(
    "other",
    [
        replace(vocabulary(), num_user_rows=77),
        replace(vocabulary(), ad_ids=vocabulary().ad_ids[::-1].copy()),
        replace(vocabulary(), values={**vocabulary().values, "user_city": ("1",)}),
    ],
    ids=["other users", "other rows", "another feature"],
)
def test_a_vocabulary_that_means_something_else_is_refused(
    day: str, other: Vocabulary, tmp_path: Path
) -> None:
    run(day, tmp_path / "first", vocabulary(), "max_steps=1").train()
    group = torch.distributed.group.WORLD
    assert group is not None
    model = build(small_options(), other, torch.device("cpu"), group)
    with pytest.raises(UserError, match=r"training\.start_from: expected a checkpoint of a vocabulary"):
        begin_from(str(tmp_path / "first"), "recall@100", model, other)
