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
    """One field for every variable; reading them touches no file and no network.

    A default of None depends on another field and is explained there.
    """

    home: str = _of("HOME", "")
    """Folder of this repository, with jobs/ and conf/; the one that the DAG's file lies in"""
    python: str | None = _of("JOB_PYTHON", None)
    """Interpreter that runs the jobs, with the locks mining, training and report; HOME/.venv/bin/python"""
    config: str | None = _of("CONFIG", None)
    """Configuration of the jobs; HOME/conf/cluster.yaml"""
    logs: str | None = _of("LOGS", None)
    """Folder that holds impressions/ and engagements/ as Parquet; HOME/logs"""
    ads: str | None = _of("ADS", None)
    """Table of ads as Parquet, for rules and features that need it; none: the jobs get none"""
    out: str | None = _of("OUT", None)
    """Folder for negatives/, vocabulary/, models/ and reports/; HOME/out"""
    day_folder: str = _of("DAY_FOLDER", "ds=%Y-%m-%d")
    """Folder of a day in impressions/ and engagements/, as strftime writes it"""
    mark: str = _of("MARK", "_SUCCESS")
    """File that says a day's folder is complete; empty: any file will do"""
    schedule: str = _of("SCHEDULE", "0 2 * * *")
    """When a run begins, as cron has it, UTC; a run mines a day that is over and mature"""
    start: str = _of("START", "2026-01-01")
    """First day that the schedule knows; none before it can be backfilled"""
    maturity_days: int = _of("MATURITY_DAYS", 1)
    """Days after a day's end whose engagements still count; longer costs freshness, 0 leaves every label immature"""
    in_order: int = _of("IN_ORDER", 1)
    """1: a day is mined once the one before it is, as the gate and the training go by that; 0: in any case"""
    poke_s: int = _of("POKE_S", 300)
    """Seconds between two looks for the logs"""
    wait_h: float = _of("WAIT_H", 12.0)
    """Hours until a log that does not come is a failure"""
    train_on: str = _of("TRAIN_ON", "monday")
    """Mined days after which a model is trained: a weekday, daily, or never (but on demand)"""
    train_days: int = _of("TRAIN_DAYS", 14)
    """Days before the one that is held out which a model is trained on, where they are published"""
    ranks: int = _of("RANKS", 1)
    """Processes of the training"""
    features: tuple[str, ...] = _of("FEATURES", ())
    """Categorical columns of ads for the vocabulary, with commas between"""
    user_rows: str | None = _of("USER_ROWS", None)
    """Rows of the table of users; the vocabulary's own default"""
    metrics: tuple[str, ...] = _of("METRICS", ("recall@100",))
    """Metrics in which a model must not be worse, separated by commas"""
    largest_loss: float = _of("LARGEST_LOSS", 0.05)
    """Part of a metric that a new model may lose unproven"""
    spark_connection: str = _of("SPARK_CONNECTION", "spark_default")
    """Airflow's connection to Spark; one that is not there becomes yarn"""
    spark_properties: str | None = _of("SPARK_PROPERTIES", None)
    """File of Spark's properties for spark-submit; none: Spark's own"""
    py_files: str | None = _of("PY_FILES", None)
    """Archive that scripts/env/package.sh made, where the executors have no scrollpast of their own"""
    mining_pool: str = _of("MINING_POOL", "default_pool")
    """Airflow's pool for what runs in Spark"""
    training_pool: str = _of("TRAINING_POOL", "default_pool")
    """Airflow's pool for what runs in PyTorch"""
    retries: int = _of("RETRIES", 2)
    """Further tries of a task that failed; a user's mistake and a held day are not tried again"""
    retry_delay_s: int = _of("RETRY_DELAY_S", 300)
    """Seconds before the first of them, twice as long before the next"""
    notify: str = _of("NOTIFY", "")
    """Function that is told how a day ended, as package.module.function; none: the task's log"""

    @staticmethod
    def read(environment: Mapping[str, str], home: Path) -> Settings:
        """The settings of an environment; a variable that is absent or empty leaves the default.

        Args:
            home: folder of the repository, over which ``SCROLLPAST_HOME`` goes.

        Raises:
            UserError: a value of another kind than its field's.
        """
        values: dict[str, Any] = {"home": str(home)}
        for entry in dataclasses.fields(Settings):
            variable = entry.metadata["variable"]
            text = environment.get(variable, "")
            # Empty is a choice only where the default is a text.
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
        """Whether a model is trained once this day is mined."""
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
    """A value of the kind that the default has."""
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
