"""Forgetting that lasts: the suppression list, and what mining makes of it."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.jobs.job_runs import JobRun, mine, run_job
from tests.jobs.published_days import day_of, published, records_of
from tests.toy_logs import ToyLog, toy_log

from scrollpast.errors import UserError
from scrollpast.hashing import hash_column, ids_of
from scrollpast.privacy import suppression
from scrollpast.privacy.suppression import (
    LIST_NAME,
    UserSet,
    folder_of,
    lift,
    read_suppressed,
    suppress,
)
from scrollpast.privacy.user_keys import UserKey

KEY = UserKey(b"0123456789abcdef0123456789abcdef")
VARIABLE = "SCROLLPAST_TEST_USER_KEY"
LOG = toy_log(200)
USERS = st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1).map(str), st.text(max_size=9)), max_size=8)


@pytest.mark.java
@given(names=USERS, others=USERS, key=st.sampled_from([None, KEY]), is_whole=st.booleans())
def test_a_user_is_found_in_a_log_and_in_files_by_the_same_list(
    names: list[str], others: list[str], key: UserKey | None, is_whole: bool
) -> None:
    """The list matches with ids as numbers or as texts, hashed with or without a key."""
    in_log = [*names, *others]
    if is_whole:
        in_log = [name for name in in_log if name.lstrip("-").isdigit()]
    column = (
        pa.array([int(name) for name in in_log], pa.int64()) if is_whole else pa.array(in_log, pa.string())
    )
    hashes = hash_column(column)
    users = UserSet.of(names, key)
    expected = [name in names or (is_whole and int(name) in map(_whole, names)) for name in in_log]
    assert users.in_log(column, hashes, key).tolist() == expected
    records = ids_of(column, hashes) if key is None else key.ids_of(column)
    assert users.in_files(pa.array(records, pa.int64())).tolist() == expected
    if key is None:  # broken rows keep the ids of the log
        assert users.in_files(column).tolist() == expected
    buckets = users.buckets(7)
    assert all(
        bucket in buckets
        for bucket, is_theirs in zip(_buckets(column, key), expected, strict=True)
        if is_theirs
    )


def _whole(name: str) -> int | None:
    return int(name) if name.lstrip("-").isdigit() and name.isascii() else None


def _buckets(column: pa.Array, key: UserKey | None) -> list[int]:
    hashes = hash_column(column) if key is None else suppression.xxhash64(key.ids_of(column))
    return [int(value) for value in np.mod(hashes, 7)]


def test_a_null_is_nobody() -> None:
    for key in (None, KEY):
        users = UserSet.of(["", "0"], key)
        for column in (pa.array([None, "0"], pa.string()), pa.array([None, 0], pa.int64())):
            assert users.in_log(column, hash_column(column), key).tolist() == [False, True]
        assert users.in_files(pa.array([None], pa.int64())).tolist() == [False]


def test_users_that_several_jobs_add_at_once_are_all_on_the_list(tmp_path: Path) -> None:
    folder = str(tmp_path)
    names = [str(number) for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: suppress(folder, UserSet.of([name], None)), names))
    assert read_suppressed(folder).digest == UserSet.of(names, None).digest
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda name: lift(folder, UserSet.of([name], None)), names[:20]))
    assert min(taken) > 0
    assert read_suppressed(folder).digest == UserSet.of(names[20:], None).digest


def test_a_list_under_another_key_is_left_alone(tmp_path: Path) -> None:
    suppress(str(tmp_path), UserSet.of(["a"], KEY))
    before = (tmp_path / LIST_NAME).read_bytes()
    with pytest.raises(UserError, match=rf"{LIST_NAME}: expected users under the key {KEY.fingerprint}"):
        suppress(str(tmp_path), UserSet.of(["b"], None))
    assert (tmp_path / LIST_NAME).read_bytes() == before
    assert b'"a"' not in before and str(KEY.id_of("a")).encode() not in before


@pytest.mark.parametrize(
    "content", ["", "[]", '{"schema_version": 2, "users": [], "user_key": null}', '{"users"']
)
def test_a_damaged_list_stops_the_job(content: str, tmp_path: Path) -> None:
    (tmp_path / LIST_NAME).write_text(content)
    with pytest.raises(UserError, match=f"{LIST_NAME}: expected the list of forgotten users"):
        read_suppressed(str(tmp_path))


def test_a_held_day_belongs_to_the_folder_of_the_published_ones() -> None:
    assert folder_of("s3://b/n/ds=2026-11-20") == folder_of("s3://b/n/held/ds=2026-11-20") == "s3://b/n"


# Mining


def forget(out: Path, *names: object, more: tuple[str, ...] = ()) -> JobRun:
    done = run_job("forget_users", out, *(word for name in names for word in ("--user", name)), *more)
    assert done.exit_code == 0, done.stderr
    return done


def without(log: ToyLog, users: list[int]) -> ToyLog:
    """The log as it would be if the users had never been there."""

    def left(table: pa.Table) -> pa.Table:
        is_theirs = pc.fill_null(pc.is_in(table["user_id"], pa.array(users)), False)
        return table.filter(pc.invert(is_theirs))

    return ToyLog(left(log.impressions), left(log.engagements), log.ads)


@pytest.mark.parametrize("is_keyed", [False, True])
def test_a_day_that_is_mined_later_is_that_of_the_log_without_the_forgotten(
    spark: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_keyed: bool
) -> None:
    monkeypatch.setenv(VARIABLE, KEY.secret.decode())
    key = ("--set", f"privacy.user_key_env={VARIABLE}") if is_keyed else ()
    log, out = LOG.write(tmp_path / "log"), tmp_path / "out"
    assert mine(log, out, *key).exit_code == 0
    before = published(out)
    users = [3, 7, 11]
    forget(out, *users, more=key)
    again = mine(log, out, "--overwrite", *key)
    assert again.exit_code == 0, again.stderr
    clean = without(LOG, users).write(tmp_path / "clean")
    assert mine(clean, tmp_path / "expected", *key).exit_code == 0
    after, expected = published(out), published(tmp_path / "expected")
    assert [entry.sha256 for entry in after.shards] == [entry.sha256 for entry in expected.shards]
    # A user's broken rows are counted as such, and shown nowhere.
    quarantined = [pq.read_table(day_of(out) / path) for path in after.quarantine_files]
    wanted = [pq.read_table(day_of(tmp_path / "expected") / path) for path in expected.quarantine_files]
    assert pa.concat_tables(quarantined).equals(pa.concat_tables(wanted))
    assert sum(after.ledger.values()) == sum(before.ledger.values())
    assert after.ledger["invalid"] == before.ledger["invalid"]
    num_gone = sum(before.ledger.values()) - sum(expected.ledger.values())
    assert after.ledger["suppressed"] == num_gone - (after.ledger["invalid"] - expected.ledger["invalid"])
    assert after.ledger["suppressed"] > 0 == before.ledger["suppressed"]
    others = set(after.ledger) - {"suppressed", "invalid"}
    assert {name: after.ledger[name] for name in others} == {name: expected.ledger[name] for name in others}
    assert after.input["engagements"]["num_suppressed"] > 0
    assert after.suppressed == read_suppressed(str(out)).digest
    assert "suppressed" in again.stdout


def test_who_is_taken_off_the_list_is_mined_again(spark: object, tmp_path: Path) -> None:
    log, out = LOG.write(tmp_path / "log"), tmp_path / "out"
    assert mine(log, out).exit_code == 0
    before = records_of(out)
    forget(out, 3, 7)
    again = forget(out, 3, more=("--allow-again",))
    assert "1 users may be mined again: removed from 1 of 1 lists" in again.stdout
    assert mine(log, out, "--overwrite").exit_code == 0
    assert set(before["user_id"].to_pylist()) - set(records_of(out)["user_id"].to_pylist()) == {7}


def test_a_run_that_finds_a_day_with_users_of_the_list_takes_them_out(spark: object, tmp_path: Path) -> None:
    """As where a job was killed between its publication and its last look at the list."""
    log, out = LOG.write(tmp_path / "log"), tmp_path / "out"
    assert mine(log, out).exit_code == 0
    suppress(str(out), UserSet.of(["3"], None))
    assert 3 in records_of(out)["user_id"].to_pylist()
    again = mine(log, out)
    assert again.exit_code == 0, again.stderr
    assert "already published from the same input" in again.stdout
    assert 3 not in records_of(out)["user_id"].to_pylist()
    manifest = published(out)
    assert manifest.suppressed == read_suppressed(str(out)).digest
    assert mine(log, out).exit_code == 0
    assert published(out) == manifest


def test_a_held_day_is_released_without_the_forgotten(spark: object, tmp_path: Path) -> None:
    log, out = LOG.write(tmp_path / "log"), tmp_path / "out"
    held = mine(log, out, "--set", "gate.bounds.engagement_rate={low: 0.89}")
    assert held.exit_code == 3
    suppress(str(out), UserSet.of(["3"], None))
    assert mine(log, out, "--release").exit_code == 0
    assert 3 not in records_of(out)["user_id"].to_pylist()
    assert not (out / "held" / "ds=2026-11-20").exists()


def test_a_vocabulary_does_not_count_who_is_still_in_a_day(spark: object, tmp_path: Path) -> None:
    """As after a run of forget_users that was killed."""
    log, out = LOG.write(tmp_path / "log"), tmp_path / "out"
    assert mine(log, out).exit_code == 0
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    suppress(str(out), UserSet.of(["3"], None))
    forget(copy, 3)
    for folder in (out, copy):
        built = run_job(
            "build_vocabulary", day_of(folder), "--ads", log / "ads", "--out", folder / "vocabulary"
        )
        assert built.exit_code == 0, built.stderr
    tables = [pq.read_table(next((folder / "vocabulary").rglob("ads*.parquet"))) for folder in (out, copy)]
    assert tables[0].equals(tables[1])


def test_a_list_of_another_key_stops_the_job_before_it_reads_a_log(
    spark: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY.secret.decode())
    log, out = LOG.write(tmp_path / "log"), tmp_path / "out"
    suppress(str(out), UserSet.of(["3"], KEY))
    refused = mine(log, out)
    assert refused.exit_code == 2
    assert LIST_NAME in refused.stderr and KEY.fingerprint in refused.stderr
    assert mine(log, out, "--set", f"privacy.user_key_env={VARIABLE}").exit_code == 0
    document = json.loads((out / LIST_NAME).read_text())
    assert document["user_key"] == KEY.fingerprint
