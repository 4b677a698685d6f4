"""Command lines of forgetting users and of sweeping days: both print the result of every day."""

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
    """Run the job with the given arguments; print removals and the search for traces; returns the exit code."""
    key = read_user_key(load_config(arguments.config, arguments.set).privacy)
    forgotten = Forgotten.of(names_of(arguments.users, arguments.user), key)
    days = [day for folder in arguments.folders for day in published_days(folder)]
    for day in days:  # before any list is written: hashes under another key match no user of the day
        check_user_key(key, read_manifest(day).user_key, day)
    lists = sorted(set(map(folder_of, days)))
    if arguments.allow_again:
        return _allow_again(lists, forgotten)
    # The list before the days: a job that publishes meanwhile reads the list again after it has published.
    for uri in lists:
        suppress(uri, forgotten.users)
    days = [day for folder in arguments.folders for day in published_days(folder)]
    num_changed = 0
    for uri in days:
        done = forget(uri, forgotten.users, key)
        num_changed += done.is_changed
        print(
            f"{uri}: {done.num_records:,} records, {done.num_broken_rows:,} invalid rows and "
            f"{done.num_revocations:,} revocations removed; {len(done.removed):,} files deleted"
        )
    left = [line for folder in arguments.folders for line in traces_left(folder, forgotten)]
    if left:
        raise ScrollpastError(
            "forget_users",
            expected="no trace of the users in any file",
            found="; ".join(left[:5]) + (f"; and {len(left) - 5:,} more" if len(left) > 5 else ""),
            remedy="run forget_users again when no other job is writing there, or remove these files by hand",
        )
    print(
        f"{len(forgotten.names):,} users forgotten in {num_changed:,} of {len(days):,} days; every file was searched, "
        "and no file holds a trace of them"
    )
    if short := forgotten.num_without_traces:
        print(
            f"for {short:,} of them only records and tables were searched: an id of so few bytes is in every file "
            "by chance"
        )
    print(
        f"later runs leave them out: {_spelled(lists)}{_HOW_HASHED[key is not None]}\n"
        "not changed: logs, trained models, earlier vocabularies, and copies elsewhere"
    )
    return 0


_HOW_HASHED = {
    True: " (ids hashed under the key)",
    False: " (ids hashed without a key: anyone with an id can search for it there)",
}


def _allow_again(lists: list[str], forgotten: Forgotten) -> int:
    num_lists = sum(lift(uri, forgotten.users) > 0 for uri in lists)
    print(
        f"{len(forgotten.names):,} users may be mined again: removed from {num_lists:,} of {len(lists):,} lists: "
        f"{_spelled(lists)}\n"
        "published days stay unchanged; mine them again with --overwrite to restore the records of these users"
    )
    return 0


def _spelled(lists: list[str]) -> str:
    return ", ".join(files.join(uri, LIST_NAME) for uri in lists)


def sweep_days(arguments: argparse.Namespace) -> int:
    """Run the job with the given arguments and print the removed days; returns the exit code."""
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
