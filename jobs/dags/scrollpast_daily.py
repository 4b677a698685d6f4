r"""Every day: wait for the logs, mine, gate, report; every week: a vocabulary, a model, and its publication.

    wait_for_impressions ─┐
    wait_for_engagements ─┴► mine ► gate ─┬► plan_training ► vocabulary ► train ► evaluate ► publish ─┐
                                          └────────── on most days ─────────────────────────────────┴► report ► notify

A run mines the last day that is mature when the run begins. By default (maturity 1) the run of the interval that
begins on the 20th mines the 19th, with the data known when the 21st began. The parameter `day` names another day.
A day gives the same result whenever it runs, because no job replaces what is published from the same input. Any task
may therefore be retried, and any range backfilled, in order:

    airflow backfill create --dag-id scrollpast_daily --from-date A --to-date B --max-active-runs 1 \
        --reprocess-behavior failed

A job's exit code decides about retries. Exit code 1 is retried. Exit codes 2 (a mistake in the input or
configuration) and 3 (the gate held the day) are not, because a retry gives the same result. A held day stops the
later tasks of its run, not the next days. Release the day as the gate's message says and clear the task `gate`, or
correct the log and clear `mine`.

The variables SCROLLPAST_… of the scheduler's environment set paths and options; each is a field of
scrollpast.orchestration.settings.Settings, with its default. Airflow's environment needs scrollpast (without its
extras), and a spark-submit on the PATH; the jobs run in a separate environment. Spark's driver must run where the
task runs (deploy mode client), because YARN does not return the exit code of a driver elsewhere.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, CronDataIntervalTimetable, Param, TriggerRule, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from scrollpast.orchestration.settings import Settings

HELD = 3
NOT_TRIED_AGAIN = (2, HELD)

settings = Settings.read(os.environ, home=Path(__file__).resolve().parents[2])
negatives, models = f"{settings.out}/negatives", f"{settings.out}/models"
tables = {name: f"{settings.logs}/{name}" for name in ("impressions", "engagements")}


def day_of(dag_run: Any, params: Any) -> date:
    """The day that a run mines: the parameter `day`, else the last day that was mature when the run began."""
    if params["day"]:
        return date.fromisoformat(params["day"])
    begun = dag_run.data_interval_start
    if begun is None:  # triggered without a date: as if on schedule
        begun = dag_run.run_after - timedelta(days=1)
    return begun.date() - timedelta(days=settings.maturity_days)


def as_of(dag_run: Any, params: Any) -> date:
    """The date whose start (UTC) limits the engagements that a run may use."""
    return day_of(dag_run, params) + timedelta(days=1 + settings.maturity_days)


class SubmitJob(SparkSubmitOperator):
    """A job of jobs/ through spark-submit. Returns the gate's message where the gate held the day, else ""."""

    application_args: list[Any] | None

    def __init__(self, *, job: str, arguments: Sequence[Any], **options: Any) -> None:
        super().__init__(
            application=f"{settings.home}/jobs/{job}",
            application_args=list(arguments),
            name=f"scrollpast {job.removesuffix('.py')}",
            conn_id=settings.spark_connection,
            properties_file=settings.spark_properties,
            py_files=settings.py_files,
            env_vars={"PYSPARK_PYTHON": settings.python, "PYSPARK_DRIVER_PYTHON": settings.python},
            pool=settings.mining_pool,
            **options,
        )

    def execute(self, context: Any) -> str:
        self.application_args = list(flat(self.application_args or []))
        try:
            super().execute(context)
        except AirflowException as failure:
            # The provider reports the exit code only in its message, before the end of the output.
            text = str(failure)
            told = text.partition("\nLast spark-submit output:")[0]
            codes = [int(code) for code in re.findall(r"(?:Error|exit) code is: (\d+)", told)]
            said = re.findall(r"^\w+\.py: error: (.+)$", text, re.MULTILINE)
            message = said[-1] if said else text
            if HELD in codes:
                return message
            if set(codes) & set(NOT_TRIED_AGAIN):
                raise AirflowFailException(message) from failure
            raise
        return ""


class RunJob(BaseOperator):
    """A job of jobs/ in the jobs' own interpreter. The exit code decides whether the task is retried."""

    template_fields = ("arguments",)

    def __init__(
        self, *, job: str, arguments: Sequence[Any], launcher: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__(**options)
        self.job, self.arguments, self.launcher = job, list(arguments), list(launcher)
        self._hook: SubprocessHook | None = None

    def execute(self, context: Any) -> None:  # noqa: ARG002 (Airflow's)
        self._hook = SubprocessHook()
        program = [settings.python, *self.launcher, f"{settings.home}/jobs/{self.job}"]
        done = self._hook.run_command([*program, *flat(self.arguments)], cwd=settings.home)
        if done.exit_code:
            failure = AirflowFailException if done.exit_code in NOT_TRIED_AGAIN else AirflowException
            raise failure(f"exit code {done.exit_code}: {done.output}")

    def on_kill(self) -> None:
        if self._hook is not None:
            self._hook.send_sigterm()


def flat(arguments: Iterable[Any]) -> Iterator[str]:
    """Arguments of a command, with lists flattened; a list with a missing value (None or "") is left out."""
    for argument in arguments:
        if not isinstance(argument, (list, tuple)):
            yield str(argument)
        elif None not in argument and "" not in argument:
            yield from flat(argument)


def options(name: str, values: Iterable[str]) -> list[str]:
    """The words of a repeatable option, once for each value."""
    return [word for value in values for word in (name, value)]


def tell(event: dict[str, Any]) -> None:
    """Pass the end of a day to the function that `notify` of the settings names, else to the log."""
    if settings.notify:
        from importlib import import_module

        module, _, function = settings.notify.rpartition(".")
        getattr(import_module(module), function)(event)
        return
    level = logging.INFO if event["is_done"] else logging.ERROR
    logging.getLogger("scrollpast").log(level, "%s, %s: %s", event["dag_id"], event["day"], event["message"])


def tell_failure(context: Any) -> None:
    """Callback of a task that has failed for good."""
    instance = context["ti"]
    reason = context.get("exception") or "failed"
    tell(event_of(context, is_done=False, message=f"{instance.task_id}: {reason}"))


def event_of(context: Any, *, is_done: bool, message: str) -> dict[str, Any]:
    """Description of a run in messages."""
    dag_run = context["dag_run"]
    return {
        "dag_id": dag_run.dag_id,
        "run_id": dag_run.run_id,
        "day": str(day_of(dag_run, context["params"])),
        "task_id": context["ti"].task_id,
        "is_done": is_done,
        "message": message,
    }


waiting = {"mode": "reschedule", "poke_interval": settings.poke_s, "timeout": settings.wait_h * 3600}
of_training = {"pool": settings.training_pool}
config = ["--config", settings.config]
ads = ["--ads", settings.ads]

with DAG(
    "scrollpast_daily",
    description="Mines the hard negatives of a day, and trains on the negatives of the days before",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable(settings.schedule, timezone="UTC"),
    start_date=datetime.fromisoformat(settings.start).replace(tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "day": Param(None, type=["null", "string"], format="date", description="Day to mine, as 2026-11-20"),
        "train": Param(default=False, type="boolean", description="Train a model, whatever day it is"),
    },
    user_defined_macros={"day_of": day_of, "as_of": as_of},
    default_args={
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_delay_s),
        "retry_exponential_backoff": True,
        "on_failure_callback": tell_failure,
    },
    tags=["scrollpast"],
) as dag:

    def has_arrived(table: str, day: date) -> bool:
        """True if the log of a day has arrived."""
        from scrollpast.orchestration.days import has_arrived as is_there

        return is_there(tables[table], day, settings.day_folder, settings.mark)

    @task.sensor(**waiting)
    def wait_for_impressions(dag_run: Any = None, params: Any = None) -> bool:
        return has_arrived("impressions", day_of(dag_run, params))

    @task.sensor(**waiting)
    def wait_for_engagements(dag_run: Any = None, params: Any = None) -> bool:
        """Wait for the later days too: they hold engagements with the day's ads until the day is mature."""
        day = day_of(dag_run, params)
        days = [day + timedelta(days=later) for later in range(1 + settings.maturity_days)]
        return all(has_arrived("engagements", of) for of in days)

    mine = SubmitJob(
        task_id="mine",
        job="mine_negatives.py",
        arguments=[
            *config,
            *("--date", "{{ day_of(dag_run, params) }}", "--as-of", "{{ as_of(dag_run, params) }}"),
            *("--impressions", tables["impressions"], "--engagements", tables["engagements"], ads),
            *("--out", negatives),
        ],
        # The gate compares with the days before, and training reads them.
        depends_on_past=bool(settings.in_order),
    )

    @task
    def gate(said: str, dag_run: Any = None, params: Any = None) -> None:
        """Read the state of the day from its folder: a held day may have been released since the job ended."""
        from scrollpast.orchestration.days import DayState, held_uri, state_of

        day = day_of(dag_run, params)
        state = state_of(negatives, day)
        if state is DayState.HELD:
            message = f"{held_uri(negatives, day)}: the gate held the day; publish it with mine_negatives.py --release"
            raise AirflowFailException(said or message)
        if state is DayState.MISSING:
            message = f"{negatives}: expected ds={day} to be published, found nothing; clear the task mine"
            raise AirflowFailException(message)

    @task(multiple_outputs=True)
    def plan_training(dag_run: Any = None, params: Any = None) -> dict[str, Any]:
        """Training days, evaluation day and folder of the run; empty on a day without training."""
        from scrollpast.orchestration.training_plan import plan_training as plan_of

        day = day_of(dag_run, params)
        planned = None
        if params["train"] or settings.is_training_day(day):
            planned = plan_of(negatives, models, day, settings.train_days)
            if planned is None:
                print(
                    f"no training: none of the {settings.train_days} days before {day} is published; mine one of them"
                )
        if planned is None:
            return {"days": [], "held_out": "", "run": ""}
        return {"days": list(planned.days), "held_out": planned.held_out, "run": planned.run}

    # Skips the training tasks, each through the one before it; the report has its own trigger rule.
    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def is_training_day(run: str) -> bool:
        return bool(run)

    plan = plan_training()

    vocabulary = SubmitJob(
        task_id="vocabulary",
        job="build_vocabulary.py",
        arguments=[
            *(plan["days"], *config, ads, *options("--feature", settings.features)),
            *(["--num-user-rows", settings.user_rows], "--out", settings.out),
        ],
    )

    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(settings.ranks)]
    train = RunJob(
        task_id="train",
        job="train_two_tower.py",
        launcher=several if settings.ranks > 1 else [],
        arguments=[plan["days"], *config, "--out", plan["run"]],
        **of_training,
    )

    evaluate = RunJob(
        task_id="evaluate",
        job="evaluate_two_tower.py",
        arguments=[plan["run"], plan["held_out"]],
        **of_training,
    )

    publish = RunJob(
        task_id="publish",
        job="publish_model.py",
        arguments=[
            *(plan["run"], plan["held_out"], "--models", models),
            *(*options("--metric", settings.metrics), "--largest-loss", settings.largest_loss),
        ],
        **of_training,
    )

    report = RunJob(
        task_id="report",
        job="write_report.py",
        arguments=[
            f"{negatives}/ds={{{{ day_of(dag_run, params) }}}}",
            ["--run", plan["run"]],
            *("--out", f"{settings.out}/reports/ds={{{{ day_of(dag_run, params) }}}}.html"),
        ],
        # The training tasks are skipped on most days.
        trigger_rule=TriggerRule.NONE_FAILED,
    )

    @task
    def notify(**context: Any) -> None:
        day = day_of(context["dag_run"], context["params"])
        message = f"published; its report is {settings.out}/reports/ds={day}.html"
        tell(event_of(context, is_done=True, message=message))

    passed = gate(mine.output)
    [wait_for_impressions(), wait_for_engagements()] >> mine >> passed
    (
        passed
        >> plan
        >> is_training_day(plan["run"])
        >> vocabulary
        >> train
        >> evaluate
        >> publish
        >> report
        >> notify()
    )
    passed >> report
