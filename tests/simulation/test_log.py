"""A simulated log is what it says: reproducible, complete, and true to the truth beside it."""

import datetime as dt
import hashlib
import json
import tempfile
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrollpast.errors import UserError
from scrollpast.simulation.log import LogRequest, simulate_log
from scrollpast.simulation.shape import LogShape

LAST_DAY = dt.date(2026, 11, 20)
UTC_TIME = pa.timestamp("us", tz="UTC")
SHAPE = LogShape(rows_per_file=60_000, duplicates=0.02, broken=0.01, dwell_missing=0.05)
REQUEST = LogRequest(300_000, 5, LAST_DAY, seed=11, shape=SHAPE)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    simulate_log(REQUEST, folder)
    return folder


@pytest.fixture(scope="module")
def tables(log: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    for name in ("impressions", "engagements", "ads", "truth", "truth_examination"):
        connection.execute(f"create view {name} as select * from '{log}/{name}/*.parquet'")
    connection.execute(
        "create table seen as select * from (select * from truth positional join "
        "(select is_random, propensity, dwell_ms, surface, country, device from impressions)) "
        "where not is_bot"
    )
    return connection


def value(tables: duckdb.DuckDBPyConnection, query: str) -> float:
    row = tables.execute(query).fetchone()
    assert row is not None
    return float(row[0])


def contents(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_same_request_gives_the_same_bytes_with_one_process_and_with_two(tmp_path: Path) -> None:
    request = LogRequest(3_000, 3, LAST_DAY, seed=5, shape=LogShape(rows_per_file=800))
    assert simulate_log(request, tmp_path / "one", 1) == simulate_log(request, tmp_path / "two", 2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 3 * 4 + 6


def test_another_seed_gives_another_log(tmp_path: Path) -> None:
    for seed in (1, 2):
        simulate_log(LogRequest(500, 1, LAST_DAY, seed=seed), tmp_path / str(seed))
    name = "impressions/part-00000.parquet"
    assert contents(tmp_path / "1")[name] != contents(tmp_path / "2")[name]


def test_columns_have_the_types_of_the_input_contract(log: Path) -> None:
    def columns(name: str) -> dict[str, pa.DataType]:
        schema = pq.read_schema(log / name / "part-00000.parquet")
        return dict(zip(schema.names, schema.types, strict=True))

    assert columns("impressions") == {
        "request_id": pa.int64(), "user_id": pa.int64(), "ad_id": pa.int64(), "served_at": UTC_TIME,
        "surface": pa.string(), "position": pa.int32(), "dwell_ms": pa.int32(), "propensity": pa.float64(),
        "is_random": pa.bool_(), "ranker_score": pa.float32(), "country": pa.string(), "device": pa.string(),
    }  # fmt: skip
    assert columns("engagements") == {
        "user_id": pa.int64(), "ad_id": pa.int64(), "kind": pa.string(), "engaged_at": UTC_TIME,
        "request_id": pa.int64(), "value": pa.float64(),
    }  # fmt: skip
    assert columns("ads") == {
        "ad_id": pa.int64(), "advertiser_id": pa.int64(), "category_id": pa.int64(), "created_at": UTC_TIME,
    }  # fmt: skip
    assert columns("truth")["relevance"] == pa.float32()


def test_truth_stands_row_for_row_beside_the_impressions(log: Path) -> None:
    files = sorted((log / "impressions").iterdir())
    assert len(files) == 5
    for file in files:
        seen, truth = pq.read_table(file), pq.read_table(log / "truth" / file.name)
        assert seen.num_rows == truth.num_rows
        broken = truth["is_broken"].to_numpy()
        for name in ("request_id", "user_id", "ad_id", "position"):
            here, there = seen[name].to_numpy(), truth[name].to_numpy()
            np.testing.assert_array_equal(here[~broken], there[~broken])


def test_exactly_the_rows_asked_for_are_written(tables: duckdb.DuckDBPyConnection) -> None:
    assert value(tables, "select count(*) from impressions") == REQUEST.num_rows


def test_the_planted_examination_curve_is_found_again_in_the_truth(tables: duckdb.DuckDBPyConnection) -> None:
    worst = value(
        tables,
        "select max(abs(looked - probability) / sqrt(probability * (1 - probability) / n)) from "
        "(select surface, position, avg(is_examined::int) looked, count(*) n from seen group by all) "
        "join truth_examination using (surface, position)",
    )
    # 90 cells: the largest of as many standard normal values is above 4.5 once in 1,600 logs.
    assert worst < 4.5
    assert value(tables, "select count(*) from truth_examination") == 3 * SHAPE.max_slate


def test_relevance_is_one_fact_for_a_user_and_an_ad(tables: duckdb.DuckDBPyConnection) -> None:
    changing = (
        "select count(*) from (select user_id, ad_id from truth group by all "
        "having min(is_relevant) != max(is_relevant) or min(relevance) != max(relevance))"
    )
    assert value(tables, changing) == 0
    assert value(tables, "select count(distinct (user_id, ad_id)) / count(*) from truth") < 0.6


def test_mean_relevance_of_what_is_served_is_the_one_asked_for(tables: duckdb.DuckDBPyConnection) -> None:
    assert value(tables, "select avg(relevance) from truth") == pytest.approx(
        SHAPE.served_relevance, rel=0.05
    )
    assert value(tables, "select avg(is_relevant::int) from truth") == pytest.approx(0.08, rel=0.1)


def test_the_ranker_puts_relevant_ads_first(tables: duckdb.DuckDBPyConnection) -> None:
    first = value(tables, "select avg(relevance) from seen where position = 0 and not is_random")
    last = value(tables, "select avg(relevance) from seen where position >= 20 and not is_random")
    random = value(tables, "select avg(relevance) from seen where is_random")
    assert first > 1.5 * last
    assert random < value(tables, "select avg(relevance) from seen where not is_random")


def test_rates_are_as_configured(tables: duckdb.DuckDBPyConnection) -> None:
    def share(condition: str, table: str = "truth") -> float:
        return value(tables, f"select avg(({condition})::int) from {table}")

    assert share("is_duplicate") == pytest.approx(SHAPE.duplicates, rel=0.15)
    assert share("is_broken") == pytest.approx(SHAPE.broken, rel=0.15)
    assert share("is_bot") == pytest.approx(SHAPE.bot_rows, rel=0.25)
    assert share("dwell_ms is null", "seen") == pytest.approx(SHAPE.dwell_missing, rel=0.1)
    assert share("is_random", "seen") == pytest.approx(SHAPE.random_slot_share, rel=0.1)


def test_high_rates_of_faults_are_reached_too(tmp_path: Path) -> None:
    shape = LogShape(rows_per_file=20_000, duplicates=0.05, broken=0.05)
    counts = simulate_log(LogRequest(200_000, 2, LAST_DAY, seed=3, shape=shape), tmp_path / "log")
    assert counts["duplicates"] == pytest.approx(10_000, rel=0.05)
    assert counts["broken"] == pytest.approx(10_000, rel=0.05)


def test_clicks_need_a_look_and_mostly_a_want(tables: duckdb.DuckDBPyConnection) -> None:
    tables.execute(
        "create or replace view clicked as select seen.*, e.kind is not null clicked from seen left join "
        "(select distinct request_id, ad_id, kind from engagements where kind = 'click' "
        "and request_id is not null) e using (request_id, ad_id) where not is_duplicate"
    )
    assert value(tables, "select count(*) from clicked where clicked and not is_examined") == 0
    wanted = value(tables, "select avg(clicked::int) from clicked where is_examined and is_relevant")
    assert wanted == pytest.approx(SHAPE.click_given_want * SHAPE.share_of_users_who_click, rel=0.2)
    unwanted = value(tables, "select avg(clicked::int) from clicked where is_examined and not is_relevant")
    assert unwanted == pytest.approx(SHAPE.accidental_click, rel=0.25)


def test_scrolled_past_ads_stay_short_in_view(tables: duckdb.DuckDBPyConnection) -> None:
    def share_above(limit_ms: int, condition: str) -> float:
        return value(
            tables, f"select avg((dwell_ms > {limit_ms})::int) from seen where dwell_ms >= 0 and {condition}"
        )

    assert 0.02 < share_above(400, "not is_examined") < 0.08
    assert share_above(400, "is_examined") > 0.95
    assert share_above(4000, "is_examined and is_relevant") > 5 * share_above(
        4000, "is_examined and not is_relevant"
    )


def test_nobody_engages_before_the_impression(tables: duckdb.DuckDBPyConnection) -> None:
    early = (
        "select count(*) from engagements e join (select request_id, ad_id, min(served_at) served_at "
        "from truth group by all) using (request_id, ad_id) where engaged_at <= served_at"
    )
    assert value(tables, early) == 0
    unserved = (
        "select count(*) from engagements e anti join (select user_id, ad_id, served_at from truth) t "
        "on e.user_id = t.user_id and e.ad_id = t.ad_id and t.served_at < e.engaged_at"
    )
    assert value(tables, unserved) == 0


def test_what_was_not_clicked_is_often_engaged_with_elsewhere(tables: duckdb.DuckDBPyConnection) -> None:
    caught = value(
        tables,
        "select avg(exists(select 1 from engagements e where e.user_id = s.user_id and e.ad_id = s.ad_id "
        "and e.kind not in ('hide', 'report'))::int) from seen s where is_examined and is_relevant",
    )
    assert caught > 0.2


def test_some_engagements_do_not_know_their_request(tables: duckdb.DuckDBPyConnection) -> None:
    shares = dict(
        tables.execute(
            "select kind, avg((request_id is null)::int) from engagements group by kind"
        ).fetchall()
    )
    assert set(shares) == {"click", "long_click", "save", "conversion", "hide", "report"}
    assert shares["conversion"] > 0.5 and shares["save"] > 0.2
    assert shares["long_click"] == shares["hide"] == 0


def test_a_new_ad_is_not_served_before_it_is_created(tables: duckdb.DuckDBPyConnection) -> None:
    window = f"served_at >= created_at and served_at < timestamptz '{LAST_DAY} 00:00:00Z' + interval 1 day"
    assert value(tables, f"select count(*) from truth join ads using (ad_id) where not ({window})") == 0
    new = f"created_at >= timestamptz '{LAST_DAY} 00:00:00Z' - interval 4 day"
    assert value(tables, f"select avg(({new})::int) from ads") == pytest.approx(0.1, abs=0.01)
    assert value(tables, f"select count(*) from truth semi join ads on truth.ad_id = ads.ad_id and {new}") > 0


def test_the_ranker_scores_what_it_chose_and_sorts_by_it(tables: duckdb.DuckDBPyConnection) -> None:
    assert value(tables, "select count(*) from impressions where is_random = (ranker_score is not null)") == 0
    whole = "request_id is not null and position >= 0 and not is_random"
    out_of_order = (
        "select count(*) from (select ranker_score > lag(ranker_score) over "
        f"(partition by request_id order by position) as is_above from impressions where {whole}) where is_above"
    )
    assert value(tables, out_of_order) == 0


def test_a_random_slot_states_its_propensity_and_no_other_slot_makes_one_up(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    assert value(tables, "select count(*) from impressions where is_random != (propensity is not null)") == 0
    wrong = (
        "select count(*) from (select propensity, (select count(*) from ads where created_at <= served_at) "
        "alive from seen where is_random limit 500) where abs(propensity * alive - 1) > 1e-9"
    )
    assert value(tables, wrong) == 0


def test_no_request_shows_an_ad_twice(tables: duckdb.DuckDBPyConnection) -> None:
    twice = "select count(*) - count(distinct (request_id, ad_id)) from truth where not is_duplicate"
    assert value(tables, twice) == 0
    assert value(tables, "select max(position) from truth") == SHAPE.max_slate - 1


def test_a_duplicate_equals_a_row_of_this_file_or_of_the_one_before(log: Path) -> None:
    places: Counter[str] = Counter()
    before: set[tuple[object, ...]] = set()
    for file in sorted((log / "impressions").iterdir()):
        again = pq.read_table(log / "truth" / file.name)["is_duplicate"].to_pylist()
        rows = [tuple(row.values()) for row in pq.read_table(file).to_pylist()]
        first = {row for row, is_again in zip(rows, again, strict=True) if not is_again}
        for row, is_again in zip(rows, again, strict=True):
            if is_again:
                places["here" if row in first else "before" if row in before else "nowhere"] += 1
        before = first
    assert places["nowhere"] == 0
    assert places["here"] > 1000 and places["before"] > 1000


def test_a_user_has_one_country_and_one_device(tables: duckdb.DuckDBPyConnection) -> None:
    mixed = (
        "select count(*) from (select user_id from seen group by user_id "
        "having count(distinct (country, device)) > 1)"
    )
    assert value(tables, mixed) == 0


def test_users_come_back_on_other_days_and_in_other_files(tables: duckdb.DuckDBPyConnection) -> None:
    days = "select avg(n) from (select count(distinct served_at::date) n from seen group by user_id)"
    assert value(tables, days) > 1.5


def test_a_bot_has_far_more_impressions_than_a_user(tables: duckdb.DuckDBPyConnection) -> None:
    bots = value(tables, "select count(*) / count(distinct user_id) from truth where is_bot")
    assert bots > 5 * value(tables, "select count(*) / count(distinct user_id) from seen")


def test_the_record_holds_every_parameter(log: Path) -> None:
    record = json.loads((log / "simulation.json").read_text())
    assert record["seed"] == 11 and record["shape"]["broken"] == 0.01
    assert record["counts"]["impressions"] == REQUEST.num_rows


def test_a_folder_with_something_in_it_is_not_touched_unless_told(tmp_path: Path) -> None:
    request = LogRequest(100, 1, LAST_DAY)
    simulate_log(request, tmp_path / "log")
    with pytest.raises(UserError, match="--overwrite"):
        simulate_log(request, tmp_path / "log")
    simulate_log(request, tmp_path / "log", overwrite=True)


@settings(max_examples=25, deadline=None)
@given(
    num_rows=st.integers(1, 2_500),
    num_days=st.integers(1, 10),
    seed=st.integers(0, 2**62),
    rows_per_file=st.sampled_from([100, 333, 5_000]),
    slate=st.tuples(st.integers(1, 40), st.integers(1, 40)).map(sorted),
    rate=st.sampled_from([0.0, 0.05, 0.2]),
    pool_ads=st.sampled_from([1, 64]),
)
def test_any_log_has_its_rows_inside_its_window(
    num_rows: int, num_days: int, seed: int, rows_per_file: int, slate: list[int], rate: float, pool_ads: int
) -> None:
    shape = LogShape(
        rows_per_file=rows_per_file, min_slate=slate[0], max_slate=slate[1], duplicates=rate, broken=rate,
        random_slot_share=rate, bot_rows=rate, pool_ads=pool_ads,
    )  # fmt: skip
    request = LogRequest(num_rows, num_days, LAST_DAY, seed, shape)
    with tempfile.TemporaryDirectory() as name:
        counts = simulate_log(request, Path(name))
        truth = pq.read_table(Path(name) / "truth")
        engaged = pq.read_table(Path(name) / "engagements")
    assert counts["impressions"] == truth.num_rows == num_rows
    served_us = truth["served_at"].cast(pa.int64()).to_numpy()
    last_us = request.first_us + num_days * 86_400_000_000
    assert request.first_us <= served_us.min() and served_us.max() < last_us
    positions = truth["position"].to_numpy()
    assert positions.min() >= 0 and positions.max() < slate[1]
    if engaged.num_rows:
        assert engaged["engaged_at"].cast(pa.int64()).to_numpy().max() < request.until_us
