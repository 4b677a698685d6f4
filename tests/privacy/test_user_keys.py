"""User ids as keyed hashes: which number a user is, and that nothing tells who that is."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.jobs.job_runs import JobRun, arguments_of, mine, run_alone, run_job
from tests.jobs.published_days import content_of, day_of, published
from tests.toy_logs import ToyLog, toy_log

from scrollpast.config import Privacy
from scrollpast.errors import UserError
from scrollpast.privacy.user_keys import UserKey, check_user_key, read_user_key
from scrollpast.shards.reader import ShardReader

KEY = UserKey(b"0123456789abcdef0123456789abcdef")
VARIABLE = "SCROLLPAST_TEST_USER_KEY"
NAMED = ("--set", f"privacy.user_key_env={VARIABLE}")


def test_an_id_is_the_first_63_bits_of_the_hmac() -> None:
    digest = hmac.new(KEY.secret, b"17", hashlib.sha256).digest()
    assert KEY.id_of(17) == int.from_bytes(digest[:8], "little") & (2**63 - 1)
    assert KEY.id_of("17") == KEY.id_of(17)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=40))
def test_a_column_of_numbers_is_hashed_id_by_id(users: list[int | None]) -> None:
    hidden = KEY.hide(pa.array(users, pa.int64()))
    assert hidden.to_pylist() == [None if user is None else KEY.id_of(user) for user in users]


@given(st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=40))
def test_a_column_of_texts_is_hashed_id_by_id(users: list[str | None]) -> None:
    for kind in (pa.string(), pa.large_string()):
        hidden = KEY.hide(pa.array(users, kind))
        assert hidden.to_pylist() == [None if user is None else KEY.id_of(user) for user in users]


def test_a_key_is_in_no_text() -> None:
    assert "0123" not in f"{KEY!r} {KEY} {KEY.fingerprint}"
    assert KEY.fingerprint != UserKey(KEY.secret + b"!").fingerprint


@pytest.mark.parametrize("secret", [None, "", "too short"])
def test_a_variable_that_holds_no_secret_is_refused_without_being_shown(
    secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if secret is not None:
        monkeypatch.setenv(VARIABLE, secret)
    with pytest.raises(
        UserError, match=f"privacy.user_key_env .{VARIABLE}.: expected .* at least 32 bytes"
    ) as told:
        read_user_key(Privacy(user_key_env=VARIABLE))
    assert "too short" not in str(told.value)


def test_another_key_than_a_days_is_refused() -> None:
    check_user_key(KEY, KEY.fingerprint, "day")
    check_user_key(None, None, "day")
    for key, fingerprint in ((KEY, None), (None, KEY.fingerprint), (KEY, "0" * 16)):
        with pytest.raises(UserError, match=r"privacy\.user_key_env, day: expected"):
            check_user_key(key, fingerprint, "day")


@pytest.fixture(scope="module")
def log() -> ToyLog:
    return toy_log().with_text_ids()


@pytest.fixture(scope="module")
def folder(log: ToyLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return log.write(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def keyed(folder: Path, spark: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobRun]:
    """A day mined with a key by a process of its own, with Spark's event log and metrics kept beside it."""
    out = tmp_path_factory.mktemp("keyed")
    (out / "events").mkdir()
    events = f'{{"spark.eventLog.enabled": "true", "spark.eventLog.dir": "file://{out}/events"}}'
    run = run_alone(
        *arguments_of(folder, out), *NAMED,
        *("--set", "mining.num_buckets=4", "--set", "spark.num_partitions=2"),
        *("--set", f"spark.conf={events}", "--set", f"metrics.path={out}/metrics", "--debug"),
        **{VARIABLE: KEY.secret.decode()},
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    return out, run


def test_users_are_the_same_but_for_their_names(
    keyed: tuple[Path, JobRun], folder: Path, log: ToyLog, tmp_path: Path
) -> None:
    assert mine(folder, tmp_path).exit_code == 0
    plain, hidden = published(tmp_path), published(keyed[0])
    assert hidden.user_key == KEY.fingerprint and plain.user_key is None
    assert (hidden.ledger, hidden.num_records) == (plain.ledger, plain.num_records)
    in_log = {user for user in log.impressions["user_id"].to_pylist() if user is not None}
    users = {
        record["user_id"] for batch in ShardReader([str(day_of(keyed[0]))]) for record in batch.to_pylist()
    }
    assert users and users <= {KEY.id_of(user) for user in in_log}


def test_neither_the_key_nor_a_user_is_in_any_file_or_line(keyed: tuple[Path, JobRun], log: ToyLog) -> None:
    out, run = keyed
    texts = {str(user).encode() for user in log.impressions["user_id"].unique().to_pylist() if user}
    assert all(len(text) >= 4 for text in texts), "short ids are found by chance"
    secrets = texts | {KEY.secret, KEY.secret.hex().encode()}
    files = [path for path in out.rglob("*") if path.is_file()]
    assert any("events" in str(path) for path in files) and any("quarantine" in str(path) for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path
    console = (run.stdout + run.stderr).encode()
    assert not [secret for secret in secrets if secret in console]


def test_the_quarantine_hides_users_too(keyed: tuple[Path, JobRun], log: ToyLog) -> None:
    import pyarrow.parquet as pq

    manifest = published(keyed[0])
    rows = pa.concat_tables([pq.read_table(day_of(keyed[0]) / path) for path in manifest.quarantine_files])
    assert rows.schema.field("user_id").type == pa.int64()
    known = {KEY.id_of(user) for user in log.impressions["user_id"].to_pylist() if user is not None}
    users = set(rows["user_id"].to_pylist())
    assert users - {None} <= known and None in users


def test_another_key_replaces_a_day_only_when_told_to(
    keyed: tuple[Path, JobRun], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "another secret of at least 32 bytes")
    assert mine(folder, tmp_path, *NAMED).exit_code == 0
    before = content_of(tmp_path)
    monkeypatch.setenv(VARIABLE, KEY.secret.decode())
    again = mine(folder, tmp_path, *NAMED)
    assert again.exit_code == 2 and "a change of the key of user ids" in again.error
    assert content_of(tmp_path) == before
    assert mine(folder, tmp_path, *NAMED, "--overwrite").exit_code == 0
    assert content_of(tmp_path).shards == content_of(keyed[0]).shards


def test_days_of_two_keys_are_not_read_together(
    keyed: tuple[Path, JobRun], folder: Path, tmp_path: Path
) -> None:
    assert mine(folder, tmp_path).exit_code == 0
    with pytest.raises(UserError, match="expected days whose user ids were hashed with the same key"):
        ShardReader([str(day_of(tmp_path)), str(day_of(keyed[0]))])


def test_revocations_need_the_days_key(
    keyed: tuple[Path, JobRun], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day, engagements = str(day_of(keyed[0])), f"--engagements={folder / 'engagements'}"
    without = run_job("revoke_negatives", day, engagements)
    assert without.exit_code == 2 and f"expected key {KEY.fingerprint}" in without.stderr
    monkeypatch.setenv(VARIABLE, KEY.secret.decode())
    assert run_job("revoke_negatives", day, engagements, *NAMED).exit_code == 0


def test_a_key_survives_the_way_to_a_task() -> None:
    assert pickle.loads(pickle.dumps(KEY)) == KEY
    assert np.array_equal(KEY.ids_of(pa.array([1, 2])), [KEY.id_of(1), KEY.id_of(2)])
