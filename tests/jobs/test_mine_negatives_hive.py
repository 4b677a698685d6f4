"""Logs by their names in a Hive metastore, the built-in one (Derby), kept by day."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from scripts.robustness.standalone import quick_java

from tests.jobs.job_runs import TIMEOUT_S, mine, run_alone
from tests.jobs.published_days import content_of, published
from tests.toy_logs import AS_OF, DAY, toy_log

SIZE = ("--set", "mining.num_buckets=4", "--set", "spark.num_partitions=2")

# The metastore serves one process at a time: another one fills it.
FILL = """
import sys
from pyspark.sql import SparkSession
folder, *settings = sys.argv[1:]
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
for setting in settings:
    builder = builder.config(*setting.split("=", 1))
spark = builder.getOrCreate()
spark.sql("create database logs")
for table, moment in (("impressions", "served_at"), ("engagements", "engaged_at")):
    rows = spark.read.parquet(f"{folder}/{table}").selectExpr("*", f"cast({moment} as date) as ds")
    rows.repartition(1).write.format("parquet").partitionBy("ds").saveAsTable(f"logs.{table}")
"""


@pytest.mark.slow
def test_tables_of_a_hive_metastore_give_the_bytes_of_the_same_logs_by_path(
    spark: SparkSession, tmp_path: Path
) -> None:
    folder = toy_log(100).write(tmp_path / "log")
    by_path = mine(folder, tmp_path / "by_path", *SIZE)
    assert by_path.exit_code == 0, by_path.stderr
    settings = [
        "spark.sql.catalogImplementation=hive",
        f"spark.sql.warehouse.dir={tmp_path}/warehouse",
        f"spark.hadoop.javax.jdo.option.ConnectionURL=jdbc:derby:;databaseName={tmp_path}/metastore;create=true",
        "spark.sql.session.timeZone=UTC",
    ]
    quick = [f"spark.driver.defaultJavaOptions={quick_java()}", "spark.sql.shuffle.partitions=1"]
    fill = [sys.executable, "-c", FILL, str(folder), *settings, *quick]
    subprocess.run(fill, check=True, timeout=TIMEOUT_S)
    assert len(list((tmp_path / "warehouse/logs.db/impressions").glob("ds=*"))) > 2
    config = tmp_path / "tables.yaml"
    conf = "".join(f"    {name}: {value!r}\n" for name, value in (s.split("=", 1) for s in settings))
    tables = "".join(
        f"  {name}: {{table: logs.{name}, day_column: ds}}\n" for name in ("impressions", "engagements")
    )
    config.write_text(f"input:\n{tables}spark:\n  conf:\n{conf}")
    arguments = ["--config", config, "--date", DAY, "--as-of", AS_OF, "--out", tmp_path / "out", *SIZE]
    run = run_alone(*arguments)
    assert run.exit_code == 0, run.stderr
    assert content_of(tmp_path / "out") == content_of(tmp_path / "by_path")
    again = run_alone(*arguments)
    assert "already published" in again.stdout
    assert published(tmp_path / "out").input["impressions"]["place"] == "logs.impressions"
