"""The table of users: features and histories of a job's records, bad tables, and changes of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from scrollpast.hashing import hash_column, ids_of
from scrollpast.privacy.suppression import UserSet, suppress
from scrollpast.privacy.user_keys import UserKey
from scrollpast.shards.manifest import Manifest
from tests.jobs.job_runs import JobRun, mine, run_job
from tests.jobs.published_days import content_of, published, records_of
from tests.toy_logs import DAY, NUM_ADS, toy_log, write_parquet, write_shuffled

LOG = toy_log(120)
NUM_USERS = 25
"""Of the log's 30; the other five are not in the table"""
KEY = "0123456789abcdef0123456789abcdef"
HISTORY = ("--set", "mining.user_history=watched", "--set", "mining.user_history_length=5")
FEATURES = ("--set", "mining.user_features=[age, country]")


def users_table(num_users: int = NUM_USERS) -> pa.Table:
    random = np.random.Generator(np.random.Philox(3))
    watched = [random.integers(0, NUM_ADS, user % 9).tolist() for user in range(num_users)]
    watched[6::7] = [None] * len(watched[6::7])
    return pa.table(
        {
            "user_id": pa.array(range(num_users), pa.int64()),
            "age": pa.array([["20s", "30s"][user % 2] for user in range(num_users)]),
            "watched": pa.array(watched, pa.list_(pa.int64())),
        }
    )


USERS = users_table()


@pytest.fixture
def folder(spark: SparkSession, tmp_path: Path) -> Path:
    write_parquet(USERS, tmp_path / "log" / "users")
    return LOG.write(tmp_path / "log")


def mine_users(folder: Path, out: Path, *arguments: str, **options: Any) -> JobRun:
    return mine(folder, out, f"--users={folder / 'users'}", *arguments, **options)


def done(run: JobRun) -> JobRun:
    assert run.exit_code == 0, run.stderr
    return run


def refused(run: JobRun) -> str:
    assert (run.exit_code, run.stdout) == (2, "")
    assert run.is_calm()
    return run.error


def histories(out: Path) -> dict[int, list[int]]:
    records = records_of(out)
    return dict(zip(records["user_id"].to_pylist(), records["history_ad_id"].to_pylist(), strict=True))


def test_a_record_holds_the_tables_features_and_its_last_ads(folder: Path, tmp_path: Path) -> None:
    run = done(mine_users(folder, tmp_path / "out", *HISTORY, *FEATURES))
    assert "note: user feature" not in run.stdout
    of_table = dict(zip(USERS["user_id"].to_pylist(), USERS["watched"].to_pylist(), strict=True))
    ages = (hash_column(pa.array(["20s", "30s"])) & (2**63 - 1)).tolist()
    countries = (hash_column(pa.array(["de", "fr", "dk"])) & (2**63 - 1)).tolist()
    records = records_of(tmp_path / "out").to_pylist()
    assert {record["user_id"] < NUM_USERS for record in records} == {True, False}
    for record in records:
        user = record["user_id"]
        assert record["history_ad_id"] == (of_table.get(user) or [])[-5:]
        assert record["user_age"] == (ages[user % 2] if user < NUM_USERS else -1)
        assert record["user_country"] == countries[user % 3]
    manifest = published(tmp_path / "out")
    assert manifest.has_user_history
    assert manifest.user_features == ("age", "country")
    assert manifest.input["users"]["num_rows"] == NUM_USERS
    assert manifest.input["users"]["place"] == str(folder / "users")


def test_any_partitioning_files_and_order_of_rows_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    done(mine_users(folder, tmp_path / "1", *HISTORY, *FEATURES))
    write_shuffled(USERS, tmp_path / "shuffled" / "users", num_files=4, rows_per_group=3)
    tables = (f"--users={tmp_path / 'shuffled' / 'users'}", *HISTORY, *FEATURES)
    done(mine(folder, tmp_path / "2", *tables, partitions=5))
    assert content_of(tmp_path / "1") == content_of(tmp_path / "2")


def test_a_table_that_spark_reads_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    done(mine_users(folder, tmp_path / "1", *HISTORY))
    lines = [str(row).replace("'", '"').replace("None", "null") for row in USERS.to_pylist()]
    (tmp_path / "users.json").write_text("\n".join(lines))
    columns = "user_id BIGINT, age STRING, watched ARRAY<BIGINT>"
    options = ("--set", "input.users.format=json", "--set", f"input.users.columns={columns}")
    done(mine(folder, tmp_path / "2", f"--users={tmp_path / 'users.json'}", *options, *HISTORY))
    assert content_of(tmp_path / "1") == content_of(tmp_path / "2")


def test_ids_of_text_are_those_of_the_records_ads(spark: SparkSession, tmp_path: Path) -> None:
    text = LOG.with_text_ids()
    text.write(tmp_path / "log")
    named = pa.table(
        {
            "user_id": pc.binary_join_element_wise("user", USERS["user_id"].cast(pa.string()), "-"),
            "watched": [["ad-1", "", "ad-2"]] * NUM_USERS,
        }
    )
    write_parquet(named, tmp_path / "log" / "users")
    done(mine_users(tmp_path / "log", tmp_path / "out", *HISTORY))
    ads = pa.array(["ad-1", "ad-2"])
    expected = ids_of(ads, hash_column(ads)).tolist()
    found = list(histories(tmp_path / "out").values())
    assert expected in found
    assert all(history in (expected, []) for history in found)


def test_a_table_that_no_option_reads_changes_no_byte_and_is_noted(folder: Path, tmp_path: Path) -> None:
    run = done(mine_users(folder, tmp_path / "with"))
    assert f"note: users ({folder / 'users'}) is not read: name a list column" in run.stdout
    done(mine(folder, tmp_path / "without"))
    assert content_of(tmp_path / "with") == content_of(tmp_path / "without")
    assert not published(tmp_path / "with").has_user_history


def test_keyed_ids_find_their_rows_and_forgotten_users_have_none(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCROLLPAST_TEST_KEY", KEY)
    done(mine_users(folder, tmp_path / "plain", *HISTORY))
    keyed = ("--set", "privacy.user_key_env=SCROLLPAST_TEST_KEY")
    done(mine_users(folder, tmp_path / "keyed", *HISTORY, *keyed))
    key = UserKey(KEY.encode())
    plain = histories(tmp_path / "plain")
    assert histories(tmp_path / "keyed") == {key.id_of(user): ads for user, ads in plain.items()}
    user = max(plain, key=lambda user: len(plain[user]))
    suppress(str(tmp_path / "fewer"), UserSet.of([str(user)], None))
    done(mine_users(folder, tmp_path / "fewer", *HISTORY))
    assert histories(tmp_path / "fewer") == {other: plain[other] for other in plain if other != user}
    done(run_job("forget_users", str(tmp_path / "plain"), "--user", str(user)))
    assert histories(tmp_path / "plain") == histories(tmp_path / "fewer")


def test_a_history_that_holds_most_positives_is_noted(folder: Path, tmp_path: Path) -> None:
    everything = USERS.set_column(2, "watched", pa.array([list(range(NUM_ADS))] * NUM_USERS))
    write_parquet(everything, folder / "users")
    whole = ("--set", "mining.user_history=watched")
    clicks = ("--set", "mining.kinds.glance={code: 20, role: positive, attribution_h: 24}")
    run = done(mine_users(folder, tmp_path / "out", *whole, *clicks))
    num_positives = published(tmp_path / "out").num_positives
    assert ("are in their users' histories" in run.stdout) == (num_positives >= 100)
    assert num_positives > 0


def test_a_newer_table_of_users_mines_the_day_again(folder: Path, tmp_path: Path) -> None:
    done(mine_users(folder, tmp_path / "out", *HISTORY))
    assert "nothing was done" in done(mine_users(folder, tmp_path / "out", *HISTORY)).stdout
    write_parquet(users_table(20), folder / "users")
    run = done(mine_users(folder, tmp_path / "out", *HISTORY))
    assert "mined again because of a change in the files of users" in run.stdout


class TestBadInput:
    def test_no_table(self, folder: Path, tmp_path: Path) -> None:
        assert refused(mine(folder, tmp_path / "out", *HISTORY)) == (
            "input.users: expected a path or a table, found neither; "
            "pass --users PATH or set input.users.path in the configuration"
        )

    def test_no_such_column(self, folder: Path, tmp_path: Path) -> None:
        run = mine_users(folder, tmp_path / "out", "--set", "mining.user_history=seen")
        assert refused(run) == (
            f"users ({folder / 'users' / 'part-0.parquet'}): expected the column seen (list of string or long), found "
            "only age, user_id, watched; rename or add the column where the table is made"
        )

    def test_a_history_that_is_no_list(self, folder: Path, tmp_path: Path) -> None:
        text = refused(mine_users(folder, tmp_path / "out", "--set", "mining.user_history=age"))
        assert text.startswith("users.age (")
        assert "expected list of string or long, found string;" in text

    def test_ads_of_another_type(self, folder: Path, tmp_path: Path) -> None:
        texts = USERS.set_column(2, "watched", pa.array([["1"]] * NUM_USERS))
        write_parquet(texts, folder / "users")
        assert refused(mine_users(folder, tmp_path / "out", *HISTORY)) == (
            f"users.watched ({folder / 'users'}): expected a list of int64, as ad_id in {folder / 'impressions'}, "
            "found a list of string; give both the same type: a string never equals a long"
        )

    def test_users_of_another_type(self, folder: Path, tmp_path: Path) -> None:
        write_parquet(USERS.set_column(0, "user_id", USERS["user_id"].cast(pa.string())), folder / "users")
        text = refused(mine_users(folder, tmp_path / "out", *HISTORY))
        assert text.startswith(f"users.user_id ({folder / 'users'}): expected int64, as in ")

    def test_two_rows_of_a_user(self, folder: Path, tmp_path: Path) -> None:
        write_parquet(pa.concat_tables([USERS, USERS]), folder / "users")
        text = refused(mine_users(folder, tmp_path / "out", *HISTORY))
        assert text.startswith(
            f"users.user_id ({folder / 'users'}): expected one row a user, found several rows of "
        )
        assert text.endswith(
            "keep each user's row of one moment before the mined days, where the table is made"
        )
        assert not (tmp_path / "out" / f"ds={DAY}" / "manifest.json").exists()

    def test_a_column_named_twice(self, folder: Path, tmp_path: Path) -> None:
        text = refused(
            mine_users(folder, tmp_path / "out", *HISTORY, "--set", "mining.user_features=[watched]")
        )
        assert "expected it to name watched as user_history or among user_features, found both" in text

    def test_none_of_the_users_is_a_note(self, folder: Path, tmp_path: Path) -> None:
        others = USERS.set_column(0, "user_id", pc.add(USERS["user_id"], 1000))
        write_parquet(others, folder / "users")
        run = done(mine_users(folder, tmp_path / "out", *HISTORY))
        assert f"note: users ({folder / 'users'}) has none of the " in run.stdout


def test_a_manifest_of_before_has_no_histories(folder: Path, tmp_path: Path) -> None:
    done(mine(folder, tmp_path / "out"))
    manifest = published(tmp_path / "out")
    older = "\n".join(line for line in manifest.to_json().splitlines() if "has_user_history" not in line)
    assert Manifest.from_json(older.replace('"forgotten_at": null,', '"forgotten_at": null'), "m") == manifest
