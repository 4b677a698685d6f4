"""Settings of a deployment: variables of the scheduler's environment, read in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from scrollpast.dates import parse_date
from scrollpast.errors import UserError

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TRAIN_ON = ("daily", "never", *WEEKDAYS)


def _of(variable: str, default: Any) -> Any:
    return field(default=default, metadata={"variable": f"SCROLLPAST_{variable}"})


@dataclass(frozen=True)
class Settings:
    """One field for every variable; reading the settings accesses no file and no network.

    A default of None depends on another field; the field's description names it.
    """

    home: str = _of("HOME", "")
    """Folder of this repository, with jobs/ and conf/; default: the repository of the DAG's file"""
    python: str | None = _of("JOB_PYTHON", None)
    """Interpreter that runs the jobs, with the locks mining, training and report; HOME/.venv/bin/python"""
    config: str | None = _of("CONFIG", None)
    """Configuration of the jobs; HOME/conf/cluster.yaml"""
    logs: str | None = _of("LOGS", None)
    """Folder that holds impressions/ and engagements/ as Parquet; HOME/logs"""
    ads: str | None = _of("ADS", None)
    """Table of ads as Parquet, for rules and features that need it; empty: no table is passed to the jobs"""
    out: str | None = _of("OUT", None)
    """Folder for negatives/, vocabulary/, models/ and reports/; HOME/out"""
    day_folder: str = _of("DAY_FOLDER", "ds=%Y-%m-%d")
    """Folder of a day in impressions/ and engagements/, as a strftime format"""
    mark: str = _of("MARK", "_SUCCESS")
    """File that marks a complete folder of a day; empty: any file is enough"""
    schedule: str = _of("SCHEDULE", "0 2 * * *")
    """Start of a run as a cron expression, UTC; a run mines a day that is over and mature"""
    start: str = _of("START", "2026-01-01")
    """First day of the schedule; earlier days cannot be backfilled"""
    maturity_days: int = _of("MATURITY_DAYS", 1)
    """Days after a day's end whose engagements count; more days delay the model, 0 leaves every label immature"""
    in_order: int = _of("IN_ORDER", 1)
    """1: a day is mined after the day before it, which the gate and the training read; 0: independently"""
    poke_s: int = _of("POKE_S", 300)
    """Seconds between two checks for the logs"""
    wait_h: float = _of("WAIT_H", 12.0)
    """Hours until a missing log is a failure"""
    train_on: str = _of("TRAIN_ON", "monday")
    """Mined days after which a model is trained: a weekday, daily, or never (only on demand)"""
    train_days: int = _of("TRAIN_DAYS", 14)
    """Number of days before the held-out day that a model is trained on, where they are published"""
    ranks: int = _of("RANKS", 1)
    """Processes of the training"""
    features: tuple[str, ...] = _of("FEATURES", ())
    """Categorical columns of ads for the vocabulary, separated by commas"""
    user_rows: str | None = _of("USER_ROWS", None)
    """Rows of the table of users; default: the default of the vocabulary job"""
    metrics: tuple[str, ...] = _of("METRICS", ("recall@100",))
    """Metrics in which a model must not be worse, separated by commas"""
    largest_loss: float = _of("LARGEST_LOSS", 0.05)
    """Relative loss in a metric that a new model may have without proof of equality"""
    spark_connection: str = _of("SPARK_CONNECTION", "spark_default")
    """Airflow's connection to Spark; a connection that does not exist means yarn"""
    spark_properties: str | None = _of("SPARK_PROPERTIES", None)
    """File of Spark's properties for spark-submit; empty: Spark's defaults"""
    py_files: str | None = _of("PY_FILES", None)
    """Archive of scripts/env/package.sh, for executors without an installed scrollpast"""
    mining_pool: str = _of("MINING_POOL", "default_pool")
    """Airflow's pool for Spark tasks"""
    training_pool: str = _of("TRAINING_POOL", "default_pool")
    """Airflow's pool for PyTorch tasks"""
    retries: int = _of("RETRIES", 2)
    """Retries of a failed task; a user's mistake and a held day are not retried"""
    retry_delay_s: int = _of("RETRY_DELAY_S", 300)
    """Seconds before the first retry; doubled before each further retry"""
    notify: str = _of("NOTIFY", "")
    """Function called with the result of a day, as package.module.function; empty: the task's log"""

    @staticmethod
    def read(environment: Mapping[str, str], home: Path) -> Settings:
        """Read the settings of an environment; an absent or empty variable leaves the default.

        Args:
            home: folder of the repository; overridden by ``SCROLLPAST_HOME``.

        Raises:
            UserError: a value does not have the type of its field.
        """
        values: dict[str, Any] = {"home": str(home)}
        for entry in dataclasses.fields(Settings):
            variable = entry.metadata["variable"]
            text = environment.get(variable, "")
            # An empty value is valid only where the default is a text.
            if text or (variable in environment and isinstance(entry.default, str) and entry.name != "home"):
                values[entry.name] = _parsed(variable, text, entry.default)
        settings = Settings(**values)
        settings._check()
        return dataclasses.replace(
            settings,
            python=settings.python or f"{settings.home}/.venv/bin/python",
            config=settings.config or f"{settings.home}/conf/cluster.yaml",
            logs=settings.logs or f"{settings.home}/logs",
            out=settings.out or f"{settings.home}/out",
        )

    def is_training_day(self, day: date) -> bool:
        """True if a model is trained after this day is mined."""
        return self.train_on == "daily" or self.train_on == WEEKDAYS[day.weekday()]

    def _check(self) -> None:
        for name, low in (
            ("in_order", 0),
            ("maturity_days", 0),
            ("poke_s", 1),
            ("train_days", 1),
            ("ranks", 1),
            ("retries", 0),
        ):
            if getattr(self, name) < low:
                raise _mistake(name, f"{low} or more", str(getattr(self, name)))
        if self.train_on not in _TRAIN_ON:
            raise _mistake("train_on", f"one of {', '.join(_TRAIN_ON)}", repr(self.train_on))
        try:
            parse_date(self.start)
        except ValueError as error:
            raise _mistake("start", str(error), repr(self.start)) from None


def _parsed(variable: str, text: str, default: Any) -> Any:
    """Value of a variable, parsed as the type of the default."""
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if not isinstance(default, (int, float)):
        return text
    try:
        return type(default)(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise UserError(
            variable, expected=kind, found=repr(text), remedy="correct the scheduler's environment"
        ) from None


def _mistake(name: str, expected: str, found: str) -> UserError:
    variable = next(f.metadata["variable"] for f in dataclasses.fields(Settings) if f.name == name)
    return UserError(variable, expected=expected, found=found, remedy="correct the scheduler's environment")
