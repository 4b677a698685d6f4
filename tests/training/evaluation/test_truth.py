"""Metrics against the truth of a simulated log, and the oracle as their ceiling."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scrollpast.documents.evaluation import MeanEstimate
from scrollpast.errors import UserError
from scrollpast.shards.vocabulary import Vocabulary
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import LogShape
from scrollpast.training.evaluation.baselines.text import baseline_table
from scrollpast.training.evaluation.held_out import HeldOut, Ragged
from scrollpast.training.evaluation.metric_registry import METRICS
from scrollpast.training.evaluation.ranked import Ranked
from scrollpast.training.evaluation.ranking import Embeddings
from scrollpast.training.evaluation.report import evaluate, measure
from scrollpast.training.evaluation.truth import Truth, read_truth
from tests.simulation.test_log import LAST_DAY
from tests.training.evaluation.test_report import ragged
from tests.training.evaluation.toy import day, row, ten_ads

WANTED_10, WANTED_100, BEST = "truth/P(want)@10", "truth/P(want)@100", "truth/share of the best 100 found"


def held_out_of(user_id: list[int], known: Ragged) -> HeldOut:
    nothing = ragged(*([] for _ in user_id))
    return HeldOut(
        user_id=np.array(user_id, np.int64),
        user_row=np.ones(len(user_id), np.int64),
        user_features={},
        history=nothing,
        known=known,
        targets=ragged(*([1] for _ in user_id)),
        passed=nothing,
        served=nothing,
        num_known_targets=0,
    )


def log_odds(chance: float) -> float:
    return float(np.log(chance / (1 - chance)))


CHANCES = np.array([[0.9, 0.5, 0.2, 0.1], [0.1, 0.2, 0.5, 0.9]])
"""P(want) of users 5 and 6 for ads 1 to 4"""


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A truth that can be followed: the vector of an ad picks the user's own log-odds; ad 4 comes at noon."""
    odds = [[log_odds(chance) + 1.0 for chance in chances] for chances in CHANCES]
    morning, noon = datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, 12, tzinfo=UTC)
    for name in ("truth_users", "truth_ads"):
        (tmp_path / name).mkdir()
    vectors = pa.list_(pa.float32())
    users = pa.table({"user_id": [6, 5], "vector": pa.array(odds[::-1], vectors)})
    ads = {
        "ad_id": list(range(1, 10)),
        "vector": pa.array([*np.eye(4).tolist(), *np.zeros((5, 4)).tolist()], vectors),
        "log_odds": pa.array([-1.0] * 4 + [-9.0] * 5, pa.float32()),
        "created_at": pa.array([morning] * 3 + [noon] * 6, pa.timestamp("us", "UTC")),
    }
    pq.write_table(users, tmp_path / "truth_users" / "part-00000.parquet")
    pq.write_table(pa.table(ads), tmp_path / "truth_ads" / "part-00000.parquet")
    return tmp_path


@pytest.fixture
def days(tmp_path: Path) -> list[str]:
    window = "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"
    return [day(tmp_path, "2026-11-20", *window, [row(5, {1: 1}, [2])])]


def test_the_mean_chance_of_a_ranking_that_can_be_followed(logs: Path, days: list[str]) -> None:
    held_out = held_out_of([5, 6], ragged([2], []))
    truth = read_truth(str(logs), held_out, ten_ads(), days)
    # Ads 1 to 3 exist when the day begins, and user 5 knows ad 2.
    np.testing.assert_array_equal(np.flatnonzero(truth.is_alive_R), [1, 2, 3])
    found = Ranked(truth.oracle, held_out, ten_ads(), 100)
    np.testing.assert_array_equal(truth.top_rows(found.scorer)[:, :4], [[1, 3, -1, -1], [3, 2, 1, -1]])
    values = {metric.name: metric.of_users(found) for metric in truth.metrics}
    np.testing.assert_allclose(values[WANTED_10], [(0.9 + 0.2) / 2, (0.5 + 0.2 + 0.1) / 3], rtol=1e-6)
    np.testing.assert_array_equal(values[BEST], [1.0, 1.0])


def test_the_share_of_the_best_counts_the_candidates_that_both_lists_have(
    logs: Path, days: list[str]
) -> None:
    truth = read_truth(str(logs), held_out_of([5, 6], ragged([], [])), ten_ads(), days)
    np.testing.assert_array_equal(truth.share_of_the_best(np.array([[1, 4], [2, 1]])), [1 / 3, 2 / 3])


def test_a_report_has_the_truth_and_the_oracle_apart_from_other_metrics(logs: Path, days: list[str]) -> None:
    held_out = held_out_of([5, 6], ragged([], []))
    truth = read_truth(str(logs), held_out, ten_ads(), days)
    last = Embeddings(torch.ones(2, 1), torch.arange(10).float()[:, None])
    report = evaluate(last, held_out, ten_ads(), truth=truth, num_resamples=20)
    content = json.loads(json.dumps(report.to_json({}), allow_nan=False))
    assert not [name for name in content["metrics"] if name.startswith("truth/")]
    oracle = content["truth"].pop("oracle")
    assert set(content["truth"]) == {name.removeprefix("truth/") for name in (WANTED_10, WANTED_100, BEST)}
    assert oracle["P(want)@10"]["mean"] == pytest.approx(content["truth"]["P(want)@10"]["mean"])
    assert set(oracle) == set(content["truth"]) | set(content["metrics"])
    assert oracle["recall@10"]["mean"] == 1.0
    lines = report.table().splitlines()
    assert all(len(line) <= 84 for line in lines if not line.startswith("note: "))
    begins = [line.split("  ")[0] for line in lines]
    assert begins.index("truth of the simulated log") < begins.index("oracle, which ranks by the truth")
    assert "truth" not in evaluate(last, held_out, ten_ads(), num_resamples=20).to_json({})


def test_a_folder_without_truth_is_refused(tmp_path: Path, days: list[str]) -> None:
    with pytest.raises(
        UserError, match=r"--truth .*: expected a simulated log with truth_users/ \(user_id, vector\)"
    ):
        read_truth(str(tmp_path), held_out_of([5], ragged([])), ten_ads(), days)


def test_the_truth_of_another_log_is_refused(logs: Path, days: list[str]) -> None:
    with pytest.raises(
        UserError, match=r"with every user_id of the evaluation, found no user_id 7 \(1 of 2 missing"
    ):
        read_truth(str(logs), held_out_of([5, 7], ragged([], [])), ten_ads(), days)
    more = Vocabulary(np.arange(12), np.arange(12), {}, {}, 50)
    with pytest.raises(UserError, match=r"found no ad_id 10 \(2 of 11 missing"):
        read_truth(str(logs), held_out_of([5], ragged([])), more, days)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth, HeldOut, Vocabulary]:
    """A log of two days, with its truth on the second one for 60 users that know some ads."""
    folder = tmp_path_factory.mktemp("simulated")
    shape = LogShape(impressions_per_user=100, relevance_spread=6, bot_rows=0, broken=0)
    simulate_log(LogRequest(20_000, 2, LAST_DAY, seed=2, shape=shape), folder)
    ads = pq.read_table(folder / "ads")["ad_id"].to_numpy()
    known = Vocabulary(np.concatenate([[0], ads]), np.concatenate([[0], ads % 7]), {}, {}, 500)
    random = np.random.Generator(np.random.Philox(1))
    lists = [sorted(set(random.integers(1, len(ads), 5).tolist())) for _ in range(60)]
    held_out = held_out_of(list(range(1, 61)), ragged(*lists))
    window = "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"
    days = [day(folder / "days", "2026-11-20", *window, [row(5, {1: 1}, [2])])]
    return folder, read_truth(str(folder), held_out, known, days), held_out, known


def test_probabilities_are_those_of_the_simulation(
    simulated: tuple[Path, Truth, HeldOut, Vocabulary],
) -> None:
    folder, truth, held_out, vocabulary = simulated
    seen = pq.read_table(folder / "truth", columns=["user_id", "ad_id", "relevance"])
    seen = seen.filter(pa.compute.less_equal(seen["user_id"], len(held_out))).sort_by("user_id")
    users, ads = seen["user_id"].to_numpy(), seen["ad_id"].to_numpy()
    lengths = np.bincount(users - 1, minlength=len(held_out))
    pairs = Ragged(vocabulary.ad_rows(ads), np.concatenate([[0], np.cumsum(lengths)]))
    assert len(users) > 1_000
    np.testing.assert_allclose(truth.probabilities(pairs), seen["relevance"].to_numpy(), rtol=2e-5)


def test_only_ads_created_before_the_day_are_candidates(
    simulated: tuple[Path, Truth, HeldOut, Vocabulary],
) -> None:
    folder, truth, _, _ = simulated
    created = pq.read_table(folder / "ads")["created_at"].to_pylist()
    is_old = [at <= datetime(2026, 11, 20, tzinfo=UTC) for at in created]
    assert not all(is_old)
    np.testing.assert_array_equal(truth.is_alive_R, [False, *is_old])


@given(seed=st.integers(0, 2**32), num_values=st.sampled_from([1, 3, 1_000_000]))
def test_no_scorer_exceeds_the_oracle_for_any_user(
    simulated: tuple[Path, Truth, HeldOut, Vocabulary], seed: int, num_values: int
) -> None:
    _, truth, held_out, vocabulary = simulated
    random = np.random.Generator(np.random.Philox(seed))

    def drawn(size: int) -> torch.Tensor:
        values: NDArray[np.int64] = random.integers(-num_values, num_values + 1, (size, 3))
        return torch.from_numpy(values.astype(np.float32))

    scorer = Embeddings(drawn(len(held_out)), drawn(vocabulary.num_rows))
    own = measure(scorer, held_out, vocabulary, truth.metrics)
    best = measure(truth.oracle, held_out, vocabulary, truth.metrics)
    for name in (WANTED_10, WANTED_100, BEST):
        assert (own[name] <= best[name] + 1e-9).all(), name
    np.testing.assert_array_equal(best[BEST], 1.0)


def test_metrics_of_the_truth_are_not_registered_for_logs_without_one() -> None:
    assert not [name for name in METRICS.names if name.startswith("truth/")]


def test_the_table_of_baselines_ends_with_the_oracle() -> None:
    def chance(mean: float) -> dict[str, MeanEstimate | None]:
        return {WANTED_10: MeanEstimate(mean=mean, low=0, high=1, num_users=9), "recall@100": None}

    lines = baseline_table(chance(0.3), {"item neighbours": chance(0.2)}, chance(0.9))
    assert [line.split() for line in lines] == [
        ["baselines,", "same", "users", "recall@100", "P(want)@10"],
        ["model", "–", "0.3000"],
        ["item", "neighbours", "–", "0.2000"],
        ["oracle", "–", "0.9000"],
    ]
    assert WANTED_10 not in baseline_table({"auc": None}, {"positives": {"auc": None}})[0]
