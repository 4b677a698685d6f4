"""Baselines: scores from the history days only, measured on the users of an evaluation."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.training.evaluation.baselines import counts, item_neighbours
from scrollpast.training.evaluation.baselines.baseline import Baseline
from scrollpast.training.evaluation.baselines.counts import SameForAll
from scrollpast.training.evaluation.baselines.past import Past, read_past
from scrollpast.training.evaluation.baselines.registry import BASELINES, measure_baselines
from scrollpast.training.evaluation.baselines.verdict import verdict_on
from scrollpast.training.evaluation.bootstrap import BETTER, NOT_SHOWN, WORSE
from scrollpast.training.evaluation.held_out import HeldOut, read_held_out
from scrollpast.training.evaluation.metric_registry import JUDGE, METRICS
from scrollpast.training.evaluation.ranking import Embeddings
from scrollpast.training.evaluation.report import evaluate
from tests.training.data.days import START_MS
from tests.training.evaluation.test_held_out import days
from tests.training.evaluation.toy import row, ten_ads

HOUR_MS = 3_600_000


def measured(folder: Path, before: list[Any], after: list[Any]) -> tuple[Past, HeldOut]:
    history, evaluated = days(folder, before, after)
    return read_past(history, ten_ads()), read_held_out(history, evaluated, ten_ads())


def scores(name: str, past: Past, held_out: HeldOut) -> np.ndarray:
    fitted = BASELINES.find(name, "").fit(past, held_out)
    return np.asarray(fitted.scores(0, fitted.num_users))


@pytest.fixture
def toy(tmp_path: Path) -> tuple[Past, HeldOut]:
    """Ends at hour 48: the last 24 hours begin at hour 24, the last 6 at hour 42."""
    before = [
        row(1, {1: 2, 2: 23, 3: 30}, [4, 4, 5], kinds=[0, 11, 100]),
        row(2, {1: 10, 2: 24, 12: 45}, [1, 13]),
        row(3, {2: 41, 3: 42}, []),
    ]
    after = [row(1, {4: 50}, []), row(2, {3: 51}, []), row(9, {1: 55}, [2])]
    past, held_out = measured(tmp_path, before, after)
    assert past.end_ms == int(datetime(2026, 11, 22, tzinfo=UTC).timestamp() * 1000)
    # The times of toy records begin at another date than their manifests.
    return replace(past, end_ms=START_MS + 48 * HOUR_MS), held_out


def test_counts_are_those_of_the_history_days(toy: tuple[Past, HeldOut]) -> None:
    past, held_out = toy
    assert scores("positives", past, held_out).tolist() == [[0, 2, 3, 2, 0, 0, 0, 0, 0, 0]] * 3
    assert scores("positives, last 24 h", past, held_out)[0].tolist() == [0, 0, 2, 2, 0, 0, 0, 0, 0, 0]
    assert scores("positives, last 6 h", past, held_out)[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_the_click_rate_is_smoothed_towards_the_rate_of_all_ads(toy: tuple[Past, HeldOut]) -> None:
    # 7 positives; served: ad 4 twice (a hide is one), ad 1 once; a neighbour was never served.
    rate, strength = 7 / 10, counts.CLICK_RATE_STRENGTH
    expected = [rate] * 10
    expected[1] = (2 + strength * rate) / (3 + strength)
    expected[2], expected[3] = ((n + strength * rate) / (n + strength) for n in (3, 2))
    expected[4] = strength * rate / (2 + strength)
    np.testing.assert_allclose(scores("click rate", *toy)[0], expected, rtol=1e-6)


def test_item_neighbours_are_ads_of_the_same_users(toy: tuple[Past, HeldOut]) -> None:
    found = scores("item neighbours", *toy)
    # Users of ad 1: {1, 2}, of ad 2: {1, 2, 3}, of ad 3: {1, 3}. The first user knows 1, 2 and 3.
    one_two, one_three, two_three = 2 / math.sqrt(6), 1 / 2, 2 / math.sqrt(6)
    np.testing.assert_allclose(
        found[0, 1:4], [one_two + one_three, one_two + two_three, one_three + two_three], rtol=1e-6
    )
    # The second knows 1 and 2, the third nothing.
    np.testing.assert_allclose(found[1, 3], one_three + two_three, rtol=1e-6)
    assert not found[2].any()
    fitted = item_neighbours.item_neighbours(*toy)
    pairs = toy[1].targets
    np.testing.assert_allclose(fitted.pair_scores(pairs), found[pairs.users, pairs.rows])


def test_matrix_factorisation_prefers_what_users_alike_engaged_with(tmp_path: Path) -> None:
    pytest.importorskip("implicit")
    first = [row(user, {1: 1, 2: 2, 3: 3}, []) for user in range(10)]
    second = [row(user, {4: 1, 5: 2, 6: 3}, []) for user in range(10, 20)]
    before = [*first, *second, row(30, {1: 1, 2: 2}, []), row(31, {4: 1, 5: 1}, [])]
    after = [row(30, {3: 50}, []), row(31, {6: 50}, []), row(40, {1: 50}, [])]
    found = scores("matrix factorisation", *measured(tmp_path, before, after))
    assert found[0, 3] > found[0, [4, 5, 6]].max()
    assert found[1, 6] > found[1, [1, 2, 3]].max()
    assert not found[2].any()


pools = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.dictionaries(st.integers(1, 13), st.integers(0, 40), min_size=1, max_size=5),
        st.lists(st.integers(1, 13), max_size=5),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda item: item[0],
)


@settings(deadline=None, max_examples=25)
@given(pool=pools, after=pools, cut=st.integers(0, 6))
def test_no_evaluated_day_and_no_order_of_days_and_records_changes_a_score(
    pool: Any, after: Any, cut: int, tmp_path_factory: Any
) -> None:
    before = [row(*item) for item in sorted(pool)]
    targets = [row(9, {8: 50}, [])]
    folders = [tmp_path_factory.mktemp("days") for _ in range(3)]
    past, held_out = measured(folders[0], before, targets)
    # Another evaluated day: the same scores for the same user.
    _, other = measured(folders[1], before, [*(row(u, p, n) for u, p, n in sorted(after)), *targets])
    # The same records in two days, in another order.
    parts = [
        days(folders[2] / str(number), part[::-1], targets)[0][0]
        for number, part in enumerate((before[cut:], before[:cut]))
        if part
    ]
    permuted = read_past(parts, ten_ads())
    for name in BASELINES.names:
        if BASELINES.find(name, "").missing is None:
            expected = scores(name, past, held_out)[-1]
            np.testing.assert_array_equal(scores(name, permuted, held_out)[-1], expected)
            np.testing.assert_array_equal(scores(name, past, other)[-1], expected)


def test_without_history_days_every_ad_is_equal_and_the_lower_row_comes_first(tmp_path: Path) -> None:
    _, evaluated = days(tmp_path, [], [row(7, {3: 50}, [])])
    past, held_out = read_past([], ten_ads()), read_held_out([], evaluated, ten_ads())
    found = measure_baselines(past, held_out, ten_ads())
    assert [of["recall@10"].tolist() for of in found.per_user.values()] == [[1.0]] * len(found.per_user)
    for name in found.per_user:
        assert len(set(scores(name, past, held_out)[0].tolist())) == 1


def test_a_baseline_from_outside_is_reported_beside_the_model_once_it_is_registered(
    toy: tuple[Past, HeldOut],
) -> None:
    past, held_out = toy

    def highest_row(past: Past, held_out: HeldOut) -> SameForAll:
        return SameForAll(np.arange(past.num_rows, dtype=np.float32), len(held_out))

    model = Embeddings(torch.ones(3, 1), -torch.arange(10).float()[:, None])
    with BASELINES.registered(Baseline("highest row", "the row", highest_row)):
        report = evaluate(model, held_out, ten_ads(), past=past, num_resamples=20)
    content = report.to_json({})
    assert set(content["baselines"]) >= {"positives", "highest row"}
    assert set(content["baselines"]["highest row"]) == {metric.name for metric in METRICS}
    assert any(line.split()[:2] == ["highest", "row"] for line in report.table().splitlines())
    assert max(len(line) for line in report.table().splitlines()) <= 84
    assert content["verdict"]["metric"] == JUDGE
    assert content["exposure_weighted"]["effective_sample_size"] == pytest.approx(3.0, abs=0.5)
    assert "highest row" not in BASELINES


def test_a_baseline_without_its_package_is_skipped_with_a_note(toy: tuple[Past, HeldOut]) -> None:
    def never(past: Past, held_out: HeldOut) -> SameForAll:
        raise AssertionError("fitted without its package")

    absent = Baseline("absent", "needs a package", never, package="no_such_package_anywhere")
    found = measure_baselines(*toy, ten_ads(), baselines=[absent])
    assert dict(found.per_user) == {}
    assert found.notes == [
        (
            "baseline absent is skipped: the package no_such_package_anywhere is not installed "
            "(pip install no_such_package_anywhere)"
        )
    ]


def test_the_verdict_is_on_the_best_baseline_and_from_the_paired_difference() -> None:
    generator = np.random.Generator(np.random.Philox(7))
    users = generator.random(500)
    baselines = {"weak": users - 0.3, "strong": users, "same": users}
    better = verdict_on(users + 0.01, baselines, "recall@100")
    assert better is not None
    assert (better.best_baseline, better.verdict) == ("strong", BETTER)
    assert better.difference == pytest.approx(0.01)
    assert better.line() == (
        f"recall@100: model {users.mean() + 0.01:.4f}, best baseline (strong) {users.mean():.4f}, "
        "difference +0.0100 [+0.0100, +0.0100]: better"
    )
    worse = verdict_on(users - 0.01, baselines, "recall@100")
    noisy = verdict_on(users + generator.normal(0, 1, 500), baselines, "recall@100")
    few = verdict_on(users[:10] + 0.01, {"strong": users[:10]}, "recall@100")
    assert [found and found.verdict for found in (worse, noisy, few)] == [WORSE, NOT_SHOWN, NOT_SHOWN]
    assert verdict_on(users, {}, "recall@100") is None
