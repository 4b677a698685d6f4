"""The job from and to an S3-compatible server, as a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from scrollpast.shards.manifest import read_manifest
from scrollpast.shards.reader import ShardReader
from tests.jobs.job_runs import arguments_of, mine, run_alone
from tests.jobs.published_days import content_of
from tests.object_store import object_store
from tests.toy_logs import DAY, toy_log


def test_logs_on_s3_give_the_shards_of_the_same_logs_on_disk(spark: SparkSession, tmp_path: Path) -> None:
    folder = toy_log(100).write(tmp_path / "logs")
    options = ["--set", "mining.num_buckets=4", "--set", "spark.num_partitions=2"]
    local = mine(folder, tmp_path / "out", buckets=4, partitions=2)
    assert local.exit_code == 0, local.stderr
    with object_store() as bucket:
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).put(str(folder), f"{bucket}/logs", recursive=True)
        tables = [f"--{name}={bucket}/logs/{name}" for name in ("impressions", "engagements")]
        arguments = [*arguments_of(folder, tmp_path), *tables, "--out", f"{bucket}/mined", *options]
        stored = run_alone(*arguments)
        assert stored.exit_code == 0, stored.stderr
        assert stored.stderr == "", "progress is for terminals; a log stays quiet"
        day = f"{bucket}/mined/ds={DAY}"
        manifest = read_manifest(day)
        expected = content_of(tmp_path / "out")
        assert {(entry.path, entry.sha256) for entry in manifest.shards} == expected.shards
        assert manifest.ledger == expected.ledger
        assert sum(batch.num_rows for batch in ShardReader([day])) == manifest.num_records
        again = run_alone(*arguments)
        assert again.exit_code == 0
        assert "already published" in again.stdout
        missing = run_alone(*arguments, f"--impressions={bucket}/nowhere")
        assert missing.exit_code == 2
        assert f"impressions ({bucket}/nowhere): expected" in missing.error


@pytest.mark.parametrize("uri", ["s4://bucket/logs"])
def test_an_unknown_scheme_is_a_clear_error(tmp_path: Path, uri: str) -> None:
    run = run_alone(*arguments_of(tmp_path, tmp_path), f"--impressions={uri}")
    assert run.exit_code == 2
    assert "use a local path, s3://, gs:// or hdfs://" in run.error
