"""Forgetting: what is left of a day is what it would be without the user, and no file holds a trace."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.jobs.job_runs import JobRun, mine, run_job
from tests.jobs.published_days import day_of, published
from tests.toy_logs import toy_log

from scrollpast.errors import UserError
from scrollpast.privacy import forgetting, retention
from scrollpast.privacy.forgetting import forget, published_days
from scrollpast.privacy.traces import Forgotten, traces_left
from scrollpast.privacy.user_keys import UserKey
from scrollpast.shards import vocabulary_of_days
from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.reader import ShardReader

LOG = toy_log().with_text_ids()
VARIABLE, SECRET = "SCROLLPAST_TEST_USER_KEY", "0123456789abcdef0123456789abcdef"
KEY = UserKey(SECRET.encode())
NAMED = ("--set", f"privacy.user_key_env={VARIABLE}")
NAMES = sorted({name for name in LOG.impressions["user_id"].to_pylist() if name})


@pytest.fixture(scope="module")
def days(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day of text ids, with revocations and broken rows, and another in which the gate holds."""
    folder = tmp_path_factory.mktemp("days")
    log = LOG.write(folder / "log")
    assert mine(log, folder / "out").exit_code == 0
    day = str(day_of(folder / "out"))
    assert run_job("revoke_negatives", day, "--engagements", log / "engagements").exit_code == 0
    held = mine(log, folder / "out", "--overwrite", "--set", "gate.bounds.engagement_rate={low: 0.89}")
    assert held.exit_code == 3, held.stderr
    return folder / "out"


@pytest.fixture
def out(days: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(days, tmp_path / "out"))


def records_of(uri: str) -> dict[int, Any]:
    return {record["user_id"]: record for batch in ShardReader([uri]) for record in batch.to_pylist()}


def anchored(out: Path) -> list[str]:
    """Users with a record, as the log names them."""
    users = records_of(str(day_of(out)))
    return [name for name in NAMES if int(Forgotten.of([name], None).ids[0]) in users]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def job(out: Path, *names: str, more: Sequence[str] = ()) -> JobRun:
    return run_job("forget_users", out, *(word for name in names for word in ("--user", name)), *more)


@given(data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_day_without_some_users_is_the_rest_of_it(data: st.DataObject, days: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(days, out)
    names = data.draw(st.lists(st.sampled_from([*NAMES, "nobody at all"]), min_size=1, unique=True))
    users = Forgotten.of(names, None)
    gone = set(users.ids.tolist())
    for uri in published_days(str(out)):
        before, before_manifest, before_files = records_of(uri), read_manifest(uri), files_of(Path(uri))
        done = forget(uri, users.users, None)
        after, manifest = records_of(uri), read_manifest(uri)
        assert after == {user: record for user, record in before.items() if user not in gone}
        assert manifest.num_records == len(after)
        assert done.num_records == len(before) - len(after) == manifest.num_forgotten
        assert manifest.ledger == before_manifest.ledger
        buckets = users.users.buckets(manifest.num_buckets)
        for entry in before_manifest.shards:
            if entry.bucket not in buckets:
                assert (Path(uri) / entry.path).read_bytes() == before_files[entry.path]
        assert {"manifest.json", *manifest.paths} == set(files_of(Path(uri)))
        again = files_of(Path(uri))
        assert not forget(uri, users.users, None).is_changed
        assert files_of(Path(uri)) == again
    assert traces_left(str(out), users) == []


def test_counts_are_those_of_the_records_that_are_left(out: Path) -> None:
    names = anchored(out)[:3]
    assert job(out, *names).exit_code == 0
    manifest = published(out)
    batches = list(ShardReader([str(day_of(out))]))
    kept = sum(len(record["negative_ad_id"]) for batch in batches for record in batch.to_pylist())
    assert manifest.num_negatives == kept + manifest.num_revoked
    assert manifest.num_positives == sum(
        len(record["positive_ad_id"]) for batch in batches for record in batch.to_pylist()
    )


def test_the_job_says_what_went_and_that_nothing_is_left(out: Path) -> None:
    name = anchored(out)[0]
    users = Forgotten.of([name], None)
    assert any("records" in line for line in traces_left(str(out), users))
    assert any("the bytes of an id" in line for line in traces_left(str(out), users))
    done = job(out, name)
    assert done.exit_code == 0, done.stderr
    assert f"{day_of(out)}: 1 records" in done.stdout
    assert "1 users forgotten in 2 of 2 days" in done.stdout
    assert not any(name.encode() in content for content in files_of(out).values())


def test_a_file_that_still_holds_a_user_is_a_failure(out: Path) -> None:
    name = anchored(out)[0]
    (out / "notes.txt").write_text(f"asked about {name} today")
    done = job(out, name)
    assert done.exit_code == 1
    assert "notes.txt: the bytes of an id" in done.stderr


def test_a_run_that_dies_before_publishing_leaves_the_day_and_is_completed_by_the_next(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = anchored(out)[:2]
    before = records_of(str(day_of(out)))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(forgetting, "publish_manifest", die)
        assert job(out, *names).exit_code == 130
    assert records_of(str(day_of(out))) == before
    with monkeypatch.context() as patched:
        patched.setattr(forgetting, "remove_unpublished", die)
        assert job(out, *names).exit_code == 130
    assert job(out, *names).exit_code == 0
    assert len(records_of(str(day_of(out)))) == len(before) - 2


def once(before: Callable[[], Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with something else that happens just before its first call."""
    has_happened: list[bool] = []

    def call(*arguments: Any, **named: Any) -> Any:
        if not has_happened:
            has_happened.append(True)
            before()
        return function(*arguments, **named)

    return call


def test_a_day_that_is_mined_meanwhile_does_not_bring_a_user_back(
    spark: object, days: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that began first would publish last, with the user: it loses, and says so."""
    name = anchored(out)[0]
    forgotten: list[JobRun] = []
    monkeypatch.setattr(
        forgetting,
        "publish_manifest",
        once(lambda: forgotten.append(job(out, name)), forgetting.publish_manifest),
    )
    mined = mine(days.parent / "log", out, "--overwrite")
    assert forgotten[0].exit_code == 0, forgotten[0].stderr
    assert mined.exit_code == 1
    assert "another job replaced the day meanwhile; run again" in mined.stderr
    assert name not in anchored(out)
    assert traces_left(str(out), Forgotten.of([name], None)) == []


def test_forgetting_begins_again_where_the_day_is_mined_meanwhile(
    spark: object, days: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = anchored(out)[0]
    mined: list[JobRun] = []
    monkeypatch.setattr(
        forgetting,
        "publish_manifest",
        once(
            lambda: mined.append(mine(days.parent / "log", out, "--overwrite")), forgetting.publish_manifest
        ),
    )
    done = job(out, name)
    assert mined[0].exit_code == 0, mined[0].stderr
    assert done.exit_code == 0, done.stderr
    assert name not in anchored(out)
    assert traces_left(str(out), Forgotten.of([name], None)) == []
    assert len(records_of(str(day_of(out)))) == len(records_of(str(day_of(days)))) - 1


def test_a_vocabulary_is_named_in_the_day_that_was_left_by_forgetting(
    spark: object, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither change is lost: the day names the vocabulary, and holds nothing of the user."""
    day, name = str(day_of(out)), anchored(out)[0]
    counted = read_manifest(day)
    monkeypatch.setattr(
        forgetting,
        "publish_manifest",
        once(
            lambda: vocabulary_of_days.name_vocabulary(day, counted, str(out / "vocabulary" / "v=1")),
            forgetting.publish_manifest,
        ),
    )
    done = job(out, name)
    assert done.exit_code == 0, done.stderr
    assert read_manifest(day).ads == "../vocabulary/v=1"
    assert name not in anchored(out)


def test_a_day_that_is_mined_again_is_not_swept(
    spark: object, days: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        retention,
        "unpublish",
        once(lambda: mine(days.parent / "log", out, "--overwrite", buckets=2), retention.unpublish),
    )
    swept = run_job("sweep_days", out, "--today", "2027-06-01", "--set", "privacy.keep_days=30")
    assert swept.exit_code == 1
    assert "another job replaced the day meanwhile; run again" in swept.stderr


def test_under_a_key_a_user_is_named_as_in_the_log(
    spark: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    log, out = LOG.write(tmp_path / "log"), tmp_path / "out"
    assert mine(log, out, *NAMED).exit_code == 0
    users = records_of(str(day_of(out)))
    name = next(name for name in NAMES if KEY.id_of(name) in users)
    without = job(out, name)
    assert without.exit_code == 2 and "privacy.user_key_env" in without.stderr
    done = job(out, name, more=NAMED)
    assert done.exit_code == 0, done.stderr
    assert set(records_of(str(day_of(out)))) == set(users) - {KEY.id_of(name)}


def test_ids_that_are_numbers_are_forgotten_too(spark: object, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert mine(toy_log().write(tmp_path / "log"), out).exit_code == 0
    users = records_of(str(day_of(out)))
    names = [str(user) for user in list(users)[:2]]
    (tmp_path / "users.txt").write_text("\n".join(names) + "\n")
    done = run_job("forget_users", out, "--users", tmp_path / "users.txt")
    assert done.exit_code == 0, done.stderr
    assert set(records_of(str(day_of(out)))) == set(users) - {int(name) for name in names}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["nowhere", "--user", "x"], "expected a folder with published days (ds=…), found none"),
        (["nowhere"], "--user: expected at least one user, found none"),
        (["nowhere", "--users", "absent.txt"], "--users absent.txt: expected a text file, a user a line"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_job("forget_users", *arguments)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and found in done.stderr


def test_short_and_mostly_empty_traces_are_not_looked_for() -> None:
    assert Forgotten.of(["17"], None).traces == tuple(
        sorted(trace for trace in Forgotten.of(["17"], None).traces if len(trace) >= 5)
    )
    with pytest.raises(UserError):
        forgetting.names_of(None, [])
    assert Forgotten.of(["a", "a"], None).names == ("a",)
    assert Forgotten.of(["5"], None).users.in_files(pa.array([5, 6])).tolist() == [True, False]
