"""The mining job as one would write it for Polars: lazy frames on the streaming engine, the same public writer."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from tfrecord_shards import Shards, record_batch

HOUR = 3_600_000_000
DAY = 24 * HOUR
SKEW = 60_000_000
KINDS = {"click": 1, "long_click": 2, "save": 3, "conversion": 4, "hide": 11, "report": 12}
KEY = ["user_id", "request_id", "ad_id", "position"]


def read_engagements(folder: Path, start: int, end: int, as_of: int) -> pl.DataFrame:
    t = pl.col("engaged_at").dt.epoch("us")
    return (
        pl.scan_parquet(folder / "**/*.parquet")
        .filter(pl.col("user_id").is_not_null(), pl.col("ad_id").is_not_null(), pl.col("kind").is_in(list(KINDS)))
        .filter(t.is_between(start - 168 * HOUR, min(end + 72 * HOUR, as_of)))
        .select(
            "user_id", "ad_id", pl.col("request_id").alias("engaged_request"), t.alias("engaged_t"),
            pl.col("kind").replace_strict(KINDS, return_dtype=pl.Int64).alias("code"),
        )
        .with_row_index("event")
        .collect(engine="streaming")
    )  # fmt: skip


def read_log(folder: Path, engaged: pl.DataFrame, start: int, end: int) -> pl.DataFrame:
    anchored = (
        engaged.filter(pl.col("code") < 11, pl.col("engaged_t") >= start - SKEW).select("user_id").unique()
    )
    t = pl.col("served_at").dt.epoch("us")
    return (
        pl.scan_parquet(folder / "**/*.parquet")
        .filter(pl.all_horizontal(pl.col("request_id", "user_id", "ad_id", "served_at").is_not_null()))
        .filter(pl.col("position").fill_null(0) >= 0, pl.col("dwell_ms").fill_null(0) >= 0)
        .filter(t >= start, t < end)
        .select(
            "user_id", "ad_id", "request_id", t.alias("t"),
            pl.col("position").fill_null(-1).cast(pl.Int64), pl.col("dwell_ms").fill_null(-1).cast(pl.Int64),
        )
        .join(anchored.lazy(), on="user_id", how="semi")
        .collect(engine="streaming")
    )  # fmt: skip


def attribute(touched: pl.DataFrame, engaged: pl.DataFrame) -> pl.DataFrame:
    answers = engaged.lazy().join(touched.lazy(), on=["user_id", "ad_id"])
    by_request = answers.filter(
        pl.col("request_id") == pl.col("engaged_request"), pl.col("t") <= pl.col("engaged_t") + SKEW
    )
    by_time = answers.filter(pl.col("engaged_request").is_null(), pl.col("t") <= pl.col("engaged_t"))
    return (
        pl.concat([by_request, by_time])
        .sort("t", "position")
        .group_by("event")
        .last()
        .filter(pl.col("engaged_t") - pl.col("t") <= 24 * HOUR)
        .group_by(*KEY, "t", "dwell_ms")
        .agg(
            pl.col("code").filter(pl.col("code") < 11).max().alias("positive"),
            pl.col("code").filter(pl.col("code") >= 11).max().alias("explicit"),
        )
        .collect()
    )


def decide(
    log: pl.DataFrame, engaged: pl.DataFrame, start: int, as_of: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Positives and negatives."""
    busy = log.lazy().group_by("user_id", (pl.col("t") - start) // DAY).len().filter(pl.col("len") > 2000)
    bots = (
        log.lazy()
        .join(busy.select("user_id").unique(), on="user_id", how="semi")
        .unique(KEY)
        .group_by("user_id", (pl.col("t") - start) // DAY)
        .len()
        .filter(pl.col("len") > 2000)
        .select("user_id")
        .unique()
        .collect(engine="streaming")
    )
    pairs = engaged.select("user_id", "ad_id").unique()
    touched = (
        log.lazy()
        .join(pairs.lazy(), on=["user_id", "ad_id"], how="semi")
        .unique(KEY)
        .collect(engine="streaming")
    )
    attributed = attribute(touched, engaged).join(bots, on="user_id", how="anti")
    positives = attributed.filter(pl.col("positive").is_not_null())
    explicit = attributed.filter(pl.col("positive").is_null()).join(positives, on="user_id", how="semi")
    events = engaged.filter(pl.col("code") < 11).select("user_id", "ad_id", "engaged_t")
    guarded = (
        touched.lazy()
        .join(events.lazy(), on=["user_id", "ad_id"])
        .filter(pl.col("engaged_t").is_between(pl.col("t") - 168 * HOUR, pl.col("t") + 72 * HOUR))
        .select(KEY)
        .unique()
        .collect(engine="streaming")
    )
    spared = touched.join(attributed, on=KEY, how="anti").join(guarded, on=KEY, how="anti")
    deepest = positives.group_by("user_id", "request_id").agg(pl.col("position").max().alias("deepest"))
    lingered = log.lazy().filter(pl.col("dwell_ms") > 4000).select("user_id", "ad_id").unique()
    clicked_below = (pl.col("position") >= 0) & (pl.col("position") < pl.col("deepest").fill_null(-1))
    candidates = pl.concat(
        [
            log.lazy().join(pairs.lazy(), on=["user_id", "ad_id"], how="anti"),
            spared.select(log.columns).lazy(),
        ]
    )
    served = (
        candidates.join(positives.lazy().select("user_id").unique(), on="user_id", how="semi")
        .filter(pl.col("t") + 24 * HOUR <= as_of)
        .join(deepest.lazy(), on=["user_id", "request_id"], how="left")
        .filter((pl.col("dwell_ms") < 0) | (pl.col("dwell_ms") >= 250) | clicked_below)
        .join(lingered, on=["user_id", "ad_id"], how="anti")
        .join(explicit.lazy(), on=["user_id", "ad_id"], how="anti")
        .group_by("user_id", "ad_id")
        .agg(pl.col("t", "request_id", "position", "dwell_ms").get(pl.col("t").arg_max()))
        .collect(engine="streaming")
        .sort("user_id", "t", "ad_id", descending=[False, True, False])
        .group_by("user_id", maintain_order=True)
        .head(64)
        .with_columns(kind=pl.lit(0, pl.Int64), weight=confidence())
    )
    hidden = explicit.with_columns(kind=pl.col("explicit"), weight=pl.lit(1.0))
    columns = ["user_id", "t", "request_id", "ad_id", "kind", "position", "dwell_ms", "weight"]
    return positives, pl.concat([served.select(columns), hidden.select(columns)])


def confidence() -> pl.Expr:
    dwell = pl.col("dwell_ms")
    rise, fall = ((dwell - 250) / 750).clip(0, 1), ((4000 - dwell) / 1500).clip(0, 1)
    return pl.when(dwell < 0).then(0.5).otherwise(0.25 + 0.75 * pl.min_horizontal(rise, fall))


def gather(positives: pl.DataFrame, negatives: pl.DataFrame, num_buckets: int) -> pl.DataFrame:
    def lists(rows: pl.DataFrame, side: str, names: list[str]) -> pl.LazyFrame:
        return (
            rows.lazy()
            .sort("user_id", "t", "request_id", "ad_id")
            .with_columns(served_at_ms=pl.col("t") // 1000, request_hash=pl.col("request_id"))
            .group_by("user_id", maintain_order=True)
            .agg(pl.col("ad_id", "kind", "served_at_ms", "request_hash", *names).name.prefix(f"{side}_"))
        )

    weights = {1: 0.5, 2: 0.8, 3: 0.9, 4: 1.0}
    positives = positives.with_columns(
        kind=pl.col("positive"), weight=pl.col("positive").replace_strict(weights, return_dtype=pl.Float64)
    )
    return (
        lists(positives, "positive", ["weight"])
        .join(lists(negatives, "negative", ["weight", "position", "dwell_ms"]), on="user_id", how="left")
        .with_columns(bucket=(pl.col("user_id").hash() % num_buckets).cast(pl.Int32))
        .sort("bucket", "user_id")
        .collect()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    for name in ("start", "end", "as-of", "num-buckets"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument(
        "--threads", type=int, required=True
    )  # from POLARS_MAX_THREADS, which the caller sets
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    start, end, as_of = arguments.start, arguments.end, arguments.as_of
    engaged = read_engagements(arguments.log / "engagements", start, end, as_of)
    log = read_log(arguments.log / "impressions", engaged, start, end)
    records = gather(*decide(log, engaged, start, as_of), arguments.num_buckets)
    del log
    with Shards(arguments.out) as shards:
        for part in records.iter_slices(16_384):
            for batch in part.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches():
                shards.write(record_batch(batch))


if __name__ == "__main__":
    main()
