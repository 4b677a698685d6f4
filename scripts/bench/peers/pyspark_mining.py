"""The mining job in plain PySpark, as a competent user writes it: joins, windows, collect_list, a Python writer."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - its usual name
from scripts.bench.peers.mining_rules import DAY_US, Rules, num_threads

KEY = ["user_id", "request_id", "ad_id", "position"]


def read_engagements(spark: SparkSession, folder: str, rules: Rules) -> DataFrame:
    kinds = spark.createDataFrame(
        [(kind.name, kind.code, kind.is_positive, kind.attribution_us) for kind in rules.kinds],
        "kind string, code int, is_positive boolean, attribution long",
    )
    t = F.unix_micros("engaged_at")
    return (
        spark.read.parquet(folder)
        .where("user_id is not null and ad_id is not null")
        .where(t.between(rules.engagements_from_us, rules.engagements_to_us))
        .join(F.broadcast(kinds), "kind")
        .select(
            "user_id",
            "ad_id",
            F.col("request_id").alias("engaged_request"),
            t.alias("engaged_t"),
            "code",
            "is_positive",
            "attribution",
        )
        .withColumn("event", F.monotonically_increasing_id())
        .cache()
    )


def read_log(spark: SparkSession, folder: str, engaged: DataFrame, rules: Rules) -> DataFrame:
    """Valid rows of the users who may have a positive, each once."""
    anchored = (
        engaged.where(F.col("is_positive") & (F.col("engaged_t") >= rules.start_us - rules.clock_skew_us))
        .select("user_id")
        .distinct()
    )
    rows = (
        spark.read.parquet(folder)
        .where("request_id is not null and user_id is not null and ad_id is not null and served_at is not null")
        .where("(position is null or position >= 0) and (dwell_ms is null or dwell_ms >= 0)")
        .withColumn("t", F.unix_micros("served_at"))
        .where((F.col("t") >= rules.start_us) & (F.col("t") < rules.end_us))
        .select(
            "user_id", "ad_id", "request_id", "t",
            F.coalesce("position", F.lit(-1)).alias("position"), F.coalesce("dwell_ms", F.lit(-1)).alias("dwell_ms"),
        )
        .join(F.broadcast(anchored), "user_id", "left_semi")
    )  # fmt: skip
    first = Window.partitionBy(*KEY).orderBy("t", "dwell_ms")
    return rows.withColumn("copy", F.row_number().over(first)).where("copy = 1").drop("copy")


def attribute(log: DataFrame, engaged: DataFrame, rules: Rules) -> DataFrame:
    """Impressions with the kind of the engagement that they were answered with: columns positive and explicit."""
    touched = log.join(
        engaged.select("user_id", "ad_id").distinct(), ["user_id", "ad_id"], "left_semi"
    ).cache()
    place = F.struct("t", "position", "request_id")
    by_request = (
        engaged.where("engaged_request is not null")
        .join(touched, ["user_id", "ad_id"])
        .where("request_id = engaged_request")
        .where(F.col("t") <= F.col("engaged_t") + rules.clock_skew_us)
    )
    by_time = (
        engaged.where("engaged_request is null").join(touched, ["user_id", "ad_id"]).where("t <= engaged_t")
    )
    answered = (
        by_request.unionByName(by_time)
        .groupBy("event", "user_id", "ad_id", "code", "is_positive", "attribution", "engaged_t")
        .agg(F.max(place).alias("last"))
        .select("user_id", "ad_id", "code", "is_positive", "attribution", "engaged_t", "last.*")
        .where(F.col("engaged_t") - F.col("t") <= F.col("attribution"))
    )
    return answered.groupBy(*KEY).agg(
        F.max(F.when(F.col("is_positive"), F.col("code"))).alias("positive"),
        F.max(F.when(~F.col("is_positive"), F.col("code"))).alias("explicit"),
    )


def decide(log: DataFrame, engaged: DataFrame, rules: Rules) -> tuple[DataFrame, DataFrame]:
    """Positives and negatives."""
    day = F.floor((F.col("t") - rules.start_us) / DAY_US)
    is_busy = F.col("count") > rules.max_impressions_per_user_day
    bots = log.groupBy("user_id", day).count().where(is_busy).select("user_id").distinct()
    decided = log.join(attribute(log, engaged, rules), KEY, "left").join(
        F.broadcast(bots), "user_id", "left_anti"
    )
    of_user = Window.partitionBy("user_id")
    of_pair = Window.partitionBy("user_id", "ad_id")
    of_slate = Window.partitionBy("user_id", "request_id")
    is_positive = F.col("positive").isNotNull()
    events = (
        engaged.where("is_positive")
        .groupBy("user_id", "ad_id")
        .agg(F.collect_list("engaged_t").alias("events"))
    )
    first, last = F.col("t") - rules.guard_before_us, F.col("t") + rules.guard_after_us
    near = F.exists("events", lambda t: t.between(first, last))
    has_lingered = F.col("dwell_ms") > rules.max_dwell_ms
    lingered = F.max(has_lingered).over(of_pair) if rules.is_lingering_of_the_ad else has_lingered
    examined = (F.col("position") <= rules.max_position) & (
        (F.col("dwell_ms") < 0) | (F.col("dwell_ms") >= rules.min_dwell_ms)
    )
    if rules.is_unknown_dropped:
        examined &= (F.col("position") >= 0) & (F.col("dwell_ms") >= 0)
    clicked_below = (F.col("position") >= 0) & (F.col("position") < F.coalesce("deepest", F.lit(-1)))
    decided = (
        decided.withColumn("has_anchor", F.max(is_positive).over(of_user))
        .where("has_anchor")
        .withColumn("deepest", F.max(F.when(is_positive, F.col("position"))).over(of_slate))
        .withColumn("lingered", lingered)
        .withColumn("hidden", F.max(F.col("explicit").isNotNull() & ~is_positive).over(of_pair))
        .cache()
    )
    positives = decided.where("positive is not null")
    explicit = decided.where("positive is null and explicit is not null")
    candidates = (
        decided.where("positive is null and explicit is null and not lingered and not hidden")
        .where(F.col("t") + rules.maturity_us <= rules.as_of_us)
        .where(examined | clicked_below)
        .join(F.broadcast(events), ["user_id", "ad_id"], "left")
        .where(F.col("events").isNull() | ~near)
    )
    latest = Window.partitionBy("user_id", "ad_id").orderBy(
        F.desc("t"), F.desc("request_id"), F.desc("position")
    )
    recent = Window.partitionBy("user_id").orderBy(F.desc("t"), F.xxhash64("ad_id"))
    served = (
        candidates.withColumn("exposure", F.row_number().over(latest))
        .where("exposure = 1")
        .withColumn("rank", F.row_number().over(recent))
        .where(F.col("rank") <= rules.negatives_per_user)
        .withColumn("kind", F.lit(0))
        .withColumn("weight", confidence(F.col("dwell_ms"), rules))
    )
    explicit = explicit.withColumn("kind", F.col("explicit")).withColumn("weight", F.lit(1.0))
    columns = ["user_id", "t", "request_id", "ad_id", "kind", "position", "dwell_ms", "weight"]
    return positives, served.select(*columns).unionByName(explicit.select(*columns))


def confidence(dwell: Column, rules: Rules) -> Column:
    def ramp(part: Column) -> Column:
        return F.greatest(F.least(part, F.lit(1.0)), F.lit(0.0))

    rise, fall = (dwell - rules.shortest_ms) / rules.rise_ms, (rules.longest_ms - dwell) / rules.fall_ms
    sure = rules.floor + (1 - rules.floor) * F.least(ramp(rise), ramp(fall))
    return F.when(dwell < 0, rules.unknown).otherwise(sure)


def gather(positives: DataFrame, negatives: DataFrame, rules: Rules) -> DataFrame:
    """One row a user with sorted lists, as a record has them."""
    weights = F.create_map(*(F.lit(part) for item in rules.positive_weights.items() for part in item))
    order = ("t", "request_id", "ad_id")
    p = positives.withColumn("weight", weights[F.col("positive")]).groupBy("user_id").agg(
        F.array_sort(F.collect_list(F.struct(*order, F.col("positive").alias("kind"), "weight"))).alias("p")
    )  # fmt: skip
    n = negatives.groupBy("user_id").agg(
        F.array_sort(F.collect_list(F.struct(*order, "kind", "position", "dwell_ms", "weight"))).alias("n")
    )
    bucket = F.pmod(F.xxhash64("user_id"), F.lit(rules.num_buckets))
    return (
        p.join(n, "user_id", "left")
        .withColumn("bucket", bucket)
        .repartition(rules.num_buckets, "bucket")
        .sortWithinPartitions("bucket", "user_id")
    )


def write(batches: Iterator[pa.RecordBatch], out: str) -> Iterator[pa.RecordBatch]:
    from scripts.bench.peers.tfrecord_shards import Shards, record_batch

    counted = 0
    with Shards(Path(out)) as shards:
        for batch in batches:
            if not len(batch):
                continue
            lists: dict[str, Any] = {"bucket": batch["bucket"], "user_id": batch["user_id"]}
            for side, fields in (("positive", "kind weight"), ("negative", "kind weight position dwell_ms")):
                column = batch[side[0]]
                offsets = column.offsets
                struct = column.values
                parts = {name: struct.field(name) for name in ("ad_id", *fields.split())}
                parts["request_hash"] = struct.field("request_id")
                parts["served_at_ms"] = pa.compute.divide(struct.field("t"), 1000)
                for name, values in parts.items():
                    lists[f"{side}_{name}"] = pa.ListArray.from_arrays(offsets, values)
            shards.write(record_batch(pa.RecordBatch.from_pydict(lists)))
            counted += len(batch)
    yield pa.RecordBatch.from_pydict({"records": pa.array([counted])})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rules", type=Path, required=True)
    parser.add_argument("--threads", type=num_threads, required=True)
    arguments = parser.parse_args()
    rules = Rules.read(arguments.rules)
    arguments.out.mkdir(parents=True)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = (
        SparkSession.builder.master(f"local[{arguments.threads}]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.memory", "6g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", rules.num_buckets)
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    engaged = read_engagements(spark, f"{arguments.log}/engagements", rules)
    log = read_log(spark, f"{arguments.log}/impressions", engaged, rules)
    positives, negatives = decide(log, engaged, rules)
    records = gather(positives, negatives, rules)
    out = str(arguments.out)
    written = records.mapInArrow(lambda batches: write(batches, out), "records long").agg(F.sum("records"))
    print(written.collect()[0][0], "records")
    spark.stop()


if __name__ == "__main__":
    main()
