"""Spark session of a job: the submitter's session, or a local session whose log stays off the console."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scrollpast import errors
from scrollpast.config import Spark
from scrollpast.errors import ScrollpastError
from scrollpast.java import ensure_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOCAL_MASTER = "local[*,4]"
"""All cores; a task may fail three times (plain ``local[*]`` never tries again)."""

_LOCAL_CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "2g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Over TCP every task waits for a delayed acknowledgement, 25 ms and more.
    "spark.python.unix.domain.socket.enabled": "true",
    # The messages in the shuffle are compressed already.
    "spark.shuffle.compress": "false",
    "spark.shuffle.spill.compress": "false",
}
_JAVA_OPTIONS = (
    # Thresholds of Java's optimising compiler times ten: the compiler took a seventh of all processor time of a
    # day of 1e8 impressions, which the workers need.
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000"
    " -XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)
_ALWAYS = {
    "spark.sql.session.timeZone": "UTC",
    # A message is a row: sizes matter more than counts, and the partitions fit the buckets.
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
}


@contextmanager
def spark_session(settings: Spark, application: str, *, debug: bool) -> Iterator[SparkSession]:
    """Session of one job, stopped at the end; an active session (a notebook's) is used and left running.

    In plain python, the JVM's console output goes to a file that the error names. With ``debug``, or under
    spark-submit, the output stays on the console.

    Raises:
        ScrollpastError: a failure in Spark or in a task, without stack traces.
    """
    from pyspark.sql import SparkSession

    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    is_borrowed = SparkSession.getActiveSession() is not None
    log_path = None
    if not is_submitted and not is_borrowed:
        ensure_java()
        _point_spark_at_this_python()
        if not debug:
            descriptor, log_path = tempfile.mkstemp(prefix="scrollpast-spark-", suffix=".log")
            os.close(descriptor)
    spark = None
    try:
        with _standard_error_to(log_path):
            try:
                spark = _build(settings, application, is_submitted)
            except Exception as error:
                raise _not_started(error, log_path) from error
        yield spark
    except Exception as error:
        condensed = condense(error, log_path)
        if log_path is not None and log_path in str(condensed):
            log_path = None  # keep the file: the message names it
        if condensed is error:
            raise
        raise condensed from error
    finally:
        if spark is not None and not is_borrowed:
            spark.stop()
        if log_path is not None:
            os.unlink(log_path)


@contextmanager
def session_when_needed(
    settings: Spark, application: str, *, debug: bool
) -> Iterator[Callable[[], SparkSession]]:
    """Function that returns the session of a job, started by the first call.

    Checks without Spark run before the session starts, so that a mistake in the input is reported within a second.
    """
    with ExitStack() as stack:
        sessions: list[SparkSession] = []

        def get_spark() -> SparkSession:
            if not sessions:
                sessions.append(stack.enter_context(spark_session(settings, application, debug=debug)))
            return sessions[0]

        yield get_spark


def _build(settings: Spark, application: str, is_submitted: bool) -> SparkSession:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(application)
    conf = dict(_ALWAYS)
    if not is_submitted:
        builder = builder.master(settings.master or LOCAL_MASTER)
        conf = {
            **_LOCAL_CONF,
            "spark.driver.defaultJavaOptions": f"{_JAVA_OPTIONS}{class_archive()}",
            **conf,
        }
    for name, value in {**conf, **settings.conf}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def class_archive() -> str:
    """Java options for the class archive of scripts/env/archive_classes.sh; "" without an archive."""
    archive = Path(sys.prefix) / ".scrollpast" / "spark.jsa"
    if not archive.exists() or not archive.stat().st_size:
        return ""
    # With an archive of another Java or Spark, Java would log a warning and load the classes itself.
    return f' "-XX:SharedArchiveFile={archive}" -Xlog:cds*=off'


def _point_spark_at_this_python() -> None:
    # Workers would otherwise run the first `python3` on the PATH, without the packages.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    import pyspark

    # With SPARK_HOME of another Spark, its jars would run under this package's Python.
    os.environ["SPARK_HOME"] = os.path.dirname(pyspark.__file__)


@contextmanager
def _standard_error_to(path: str | None) -> Iterator[None]:
    """Context in which started processes inherit a file as their standard error."""
    if path is None:
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, 2)
        os.close(file)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


_OWN_ERROR = re.compile(r"scrollpast\.errors\.(\w+): (.+)")
_PYTHON_ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Interrupt|Exit)): (.+)$", re.MULTILINE
)
_SPARK_CODES = re.compile(r"\[[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*\] ?|[;,.]? ?SQLSTATE: ?\w{5}")
_JAVA_ERROR = re.compile(r"(?:Caused by: |: )((?:[a-z]\w*\.)+[A-Z]\w*(?:Error|Exception)): (.+)")


def condense(error: Exception, log_path: str | None) -> Exception:
    """Error of Spark without its stack traces; errors of other origins are returned unchanged."""
    text = str(error)
    own = _OWN_ERROR.search(text)
    if isinstance(error, ScrollpastError):
        return error
    if not type(error).__module__.startswith(("py4j", "pyspark")):
        return error
    if own:
        kind = getattr(errors, own.group(1), ScrollpastError)
        return _Relayed.of(kind, own.group(2))
    found = _PYTHON_ERROR.findall(text) or _JAVA_ERROR.findall(text)
    reason = ": ".join(found[-1]) if found else first_line(error)
    where = f"read Spark's log in {log_path}" if log_path else "read Spark's log"
    return ScrollpastError(
        "Spark",
        expected="all tasks to succeed",
        found=without_spark_codes(reason),
        remedy=f"{where}, or run again with --debug",
    )


def first_line(error: Exception) -> str:
    """First non-empty line of an error, or the name of its type."""
    lines = (line.strip() for line in str(error).splitlines())
    return without_spark_codes(next((line for line in lines if line), type(error).__name__))


def without_spark_codes(message: str) -> str:
    """Message without Spark's error codes: ``[PARQUET_TYPE_ILLEGAL]``, ``SQLSTATE: 42846``."""
    return _SPARK_CODES.sub("", message).strip()


def _not_started(error: Exception, log_path: str | None) -> ScrollpastError:
    """Error for a session that did not start, usually because of a refused setting. The JVM's log holds the reason."""
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    if log_path is not None and "JAVA_GATEWAY_EXITED" in reason:
        with open(log_path, encoding="utf-8", errors="replace") as log:
            lines = [line.strip() for line in log if line.strip() and not line.startswith("WARNING")]
        reason = re.sub(r'^Exception in thread "main" (?:\w+\.)*', "", lines[0]) if lines else reason
    read = f" and read Spark's log in {log_path}" if log_path else ""
    return ScrollpastError(
        "Spark",
        expected="a session to start",
        found=reason,
        remedy=f"check the section spark of the configuration{read}",
    )


class _Relayed(ScrollpastError):
    """Error of this package raised in a task: its message is complete."""

    @classmethod
    def of(cls, kind: type[ScrollpastError], message: str) -> _Relayed:
        relayed = cls.__new__(cls)
        Exception.__init__(relayed, message.strip())
        relayed.exit_code = kind.exit_code
        return relayed
