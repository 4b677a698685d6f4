"""The command lines of forgetting users and of sweeping days: what became of every day is printed."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from scrollpast.config import load_config
from scrollpast.errors import ScrollpastError
from scrollpast.privacy.forgetting import Forgotten, forget, names_of, published_days, traces_left
from scrollpast.privacy.retention import days_to_sweep, sweep_day
from scrollpast.privacy.user_keys import read_user_key


def forget_users(arguments: argparse.Namespace) -> int:
    """Run the job as its command line says and print what went and that nothing is left; returns the exit code."""
    key = read_user_key(load_config(arguments.config, arguments.set).privacy)
    users = Forgotten.of(names_of(arguments.users, arguments.user), key)
    days = [day for folder in arguments.folders for day in published_days(folder)]
    num_changed = 0
    for uri in days:
        done = forget(uri, users, key)
        num_changed += done.is_changed
        print(
            f"{uri}: {done.num_records:,} records, {done.num_broken_rows:,} broken rows and "
            f"{done.num_revocations:,} revocations removed; {len(done.removed):,} files deleted"
        )
    left = [line for folder in arguments.folders for line in traces_left(folder, users)]
    if left:
        raise ScrollpastError(
            "forget_users",
            expected="no trace of the users in any file",
            found="; ".join(left[:5]) + (f"; and {len(left) - 5:,} more" if len(left) > 5 else ""),
            remedy="run it again once no other job is writing there, or remove these files by hand",
        )
    print(
        f"{len(users.names):,} users forgotten in {num_changed:,} of {len(days):,} days; every file was looked at, "
        "and none holds a trace of them\n"
        "not reached: logs (a day mined again from logs that hold them brings them back), trained models, and "
        "copies elsewhere"
    )
    return 0


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
