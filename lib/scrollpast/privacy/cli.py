"""The command lines of forgetting users and of sweeping days: what became of every day is printed."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from scrollpast.config import load_config
from scrollpast.errors import ScrollpastError
from scrollpast.privacy.forgetting import forget, names_of, published_days
from scrollpast.privacy.retention import days_to_sweep, sweep_day
from scrollpast.privacy.suppression import LIST_NAME, folder_of, lift, suppress
from scrollpast.privacy.traces import Forgotten, traces_left
from scrollpast.privacy.user_keys import check_user_key, read_user_key
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import read_manifest


def forget_users(arguments: argparse.Namespace) -> int:
    """Run the job as its command line says and print what went and that nothing is left; returns the exit code."""
    key = read_user_key(load_config(arguments.config, arguments.set).privacy)
    forgotten = Forgotten.of(names_of(arguments.users, arguments.user), key)
    days = [day for folder in arguments.folders for day in published_days(folder)]
    for day in days:  # before any list is written: users under another key would be nobody's there
        check_user_key(key, read_manifest(day).user_key, day)
    lists = sorted(set(map(folder_of, days)))
    if arguments.allow_again:
        return _allow_again(lists, forgotten)
    # The list first, the days after it: a job that publishes meanwhile reads the list once more when it has published.
    for uri in lists:
        suppress(uri, forgotten.users)
    days = [day for folder in arguments.folders for day in published_days(folder)]
    num_changed = 0
    for uri in days:
        done = forget(uri, forgotten.users, key)
        num_changed += done.is_changed
        print(
            f"{uri}: {done.num_records:,} records, {done.num_broken_rows:,} broken rows and "
            f"{done.num_revocations:,} revocations removed; {len(done.removed):,} files deleted"
        )
    left = [line for folder in arguments.folders for line in traces_left(folder, forgotten)]
    if left:
        raise ScrollpastError(
            "forget_users",
            expected="no trace of the users in any file",
            found="; ".join(left[:5]) + (f"; and {len(left) - 5:,} more" if len(left) > 5 else ""),
            remedy="run it again once no other job is writing there, or remove these files by hand",
        )
    print(
        f"{len(forgotten.names):,} users forgotten in {num_changed:,} of {len(days):,} days; every file was looked "
        "at, and none holds a trace of them"
    )
    if short := forgotten.num_without_traces:
        print(
            f"for {short:,} of them only records and tables were searched: an id of so few bytes stands in every file "
            "by chance"
        )
    print(
        f"later runs leave them out: {_spelled(lists)}{_HOW_HASHED[key is not None]}\n"
        "not reached: logs, trained models, vocabularies of before, and copies elsewhere"
    )
    return 0


_HOW_HASHED = {
    True: " (ids hashed under the key)",
    False: " (ids hashed without a key: whoever knows an id can look for it there)",
}


def _allow_again(lists: list[str], forgotten: Forgotten) -> int:
    num_lists = sum(lift(uri, forgotten.users) > 0 for uri in lists)
    print(
        f"{len(forgotten.names):,} users may be mined again: taken off {num_lists:,} of {len(lists):,} lists: "
        f"{_spelled(lists)}\n"
        "published days stay as they are; mine them again with --overwrite to have the records of these users"
    )
    return 0


def _spelled(lists: list[str]) -> str:
    return ", ".join(files.join(uri, LIST_NAME) for uri in lists)


def sweep_days(arguments: argparse.Namespace) -> int:
    """Run the job as its command line says and print which days went; returns the exit code."""
    privacy = load_config(arguments.config, arguments.set).privacy
    today = arguments.today or datetime.now(UTC).date()
    for folder in arguments.folders:
        swept = days_to_sweep(folder, privacy.keep_days, today)
        for uri in swept:
            if arguments.dry_run:
                print(f"{uri}: would be removed")
            else:
                print(f"{uri}: removed, {sweep_day(uri):,} files")
        print(f"{folder}: {len(swept):,} days past privacy.keep_days ({privacy.keep_days})")
    return 0
