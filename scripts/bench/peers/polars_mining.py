"""The mining job in Polars: lazy frames on the streaming engine, and the public writer of the DuckDB peer."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from scripts.bench.peers.mining_rules import DAY_US, Rules, num_threads
from scripts.bench.peers.tfrecord_shards import Shards, record_batch

KEY = ["user_id", "request_id", "ad_id", "position"]


def read_engagements(folder: Path, rules: Rules) -> pl.DataFrame:
    kinds = pl.DataFrame(
        [(kind.name, kind.code, kind.is_positive, kind.attribution_us) for kind in rules.kinds],
        schema={"kind": pl.String, "code": pl.Int64, "is_positive": pl.Boolean, "attribution": pl.Int64},
        orient="row",
    )
    t = pl.col("engaged_at").dt.epoch("us")
    return (
        pl.scan_parquet(folder / "**/*.parquet")
        .filter(pl.col("user_id").is_not_null(), pl.col("ad_id").is_not_null())
        .filter(t.is_between(rules.engagements_from_us, rules.engagements_to_us))
        .join(kinds.lazy(), on="kind")
        .select(
            "user_id",
            "ad_id",
            pl.col("request_id").alias("engaged_request"),
            t.alias("engaged_t"),
            "code",
            "is_positive",
            "attribution",
        )
        .with_row_index("event")
        .collect(engine="streaming")
    )


def read_log(folder: Path, engaged: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    anchored = (
        engaged.filter("is_positive", pl.col("engaged_t") >= rules.start_us - rules.clock_skew_us)
        .select("user_id")
        .unique()
    )
    t = pl.col("served_at").dt.epoch("us")
    return (
        pl.scan_parquet(folder / "**/*.parquet")
        .filter(pl.all_horizontal(pl.col("request_id", "user_id", "ad_id", "served_at").is_not_null()))
        .filter(pl.col("position").fill_null(0) >= 0, pl.col("dwell_ms").fill_null(0) >= 0)
        .filter(t >= rules.start_us, t < rules.end_us)
        .select(
            "user_id", "ad_id", "request_id", t.alias("t"),
            pl.col("position").fill_null(-1).cast(pl.Int64), pl.col("dwell_ms").fill_null(-1).cast(pl.Int64),
        )
        .join(anchored.lazy(), on="user_id", how="semi")
        .collect(engine="streaming")
    )  # fmt: skip


def attribute(touched: pl.DataFrame, engaged: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    answers = engaged.lazy().join(touched.lazy(), on=["user_id", "ad_id"])
    by_request = answers.filter(
        pl.col("request_id") == pl.col("engaged_request"),
        pl.col("t") <= pl.col("engaged_t") + rules.clock_skew_us,
    )
    by_time = answers.filter(pl.col("engaged_request").is_null(), pl.col("t") <= pl.col("engaged_t"))
    return (
        pl.concat([by_request, by_time])
        .sort("t", "position")
        .group_by("event")
        .last()
        .filter(pl.col("engaged_t") - pl.col("t") <= pl.col("attribution"))
        .group_by(*KEY, "t", "dwell_ms")
        .agg(
            pl.col("code").filter("is_positive").max().alias("positive"),
            pl.col("code").filter(~pl.col("is_positive")).max().alias("explicit"),
        )
        .collect()
    )


def decide(log: pl.DataFrame, engaged: pl.DataFrame, rules: Rules) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Positives and negatives."""
    day = (pl.col("t") - rules.start_us) // DAY_US
    is_busy = pl.col("len") > rules.max_impressions_per_user_day
    busy = log.lazy().group_by("user_id", day).len().filter(is_busy)
    bots = (
        log.lazy()
        .join(busy.select("user_id").unique(), on="user_id", how="semi")
        .unique(KEY)
        .group_by("user_id", day)
        .len()
        .filter(is_busy)
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
    attributed = attribute(touched, engaged, rules).join(bots, on="user_id", how="anti")
    positives = attributed.filter(pl.col("positive").is_not_null())
    explicit = attributed.filter(pl.col("positive").is_null()).join(positives, on="user_id", how="semi")
    events = engaged.filter("is_positive").select("user_id", "ad_id", "engaged_t")
    guarded = (
        touched.lazy()
        .join(events.lazy(), on=["user_id", "ad_id"])
        .filter(
            pl.col("engaged_t").is_between(
                pl.col("t") - rules.guard_before_us, pl.col("t") + rules.guard_after_us
            )
        )
        .select(KEY)
        .unique()
        .collect(engine="streaming")
    )
    spared = touched.join(attributed, on=KEY, how="anti").join(guarded, on=KEY, how="anti")
    deepest = positives.group_by("user_id", "request_id").agg(pl.col("position").max().alias("deepest"))
    has_lingered = pl.col("dwell_ms") > rules.max_dwell_ms
    lingered = log.lazy().filter(has_lingered).select("user_id", "ad_id").unique()
    examined = (pl.col("position") <= rules.max_position) & (
        (pl.col("dwell_ms") < 0) | (pl.col("dwell_ms") >= rules.min_dwell_ms)
    )
    if rules.is_unknown_dropped:
        examined &= (pl.col("position") >= 0) & (pl.col("dwell_ms") >= 0)
    clicked_below = (pl.col("position") >= 0) & (pl.col("position") < pl.col("deepest").fill_null(-1))
    candidates = pl.concat(
        [
            log.lazy().join(pairs.lazy(), on=["user_id", "ad_id"], how="anti"),
            spared.select(log.columns).lazy(),
        ]
    )
    eligible = (
        candidates.join(positives.lazy().select("user_id").unique(), on="user_id", how="semi")
        .filter(pl.col("t") + rules.maturity_us <= rules.as_of_us)
        .join(deepest.lazy(), on=["user_id", "request_id"], how="left")
        .filter(examined | clicked_below)
    )
    if rules.is_lingering_of_the_ad:
        eligible = eligible.join(lingered, on=["user_id", "ad_id"], how="anti")
    else:
        eligible = eligible.filter(~has_lingered)
    served = (
        eligible.join(explicit.lazy(), on=["user_id", "ad_id"], how="anti")
        .group_by("user_id", "ad_id")
        .agg(pl.col("t", "request_id", "position", "dwell_ms").get(pl.col("t").arg_max()))
        .collect(engine="streaming")
        .sort("user_id", "t", "ad_id", descending=[False, True, False])
        .group_by("user_id", maintain_order=True)
        .head(rules.negatives_per_user)
        .with_columns(kind=pl.lit(0, pl.Int64), weight=confidence(rules))
    )
    hidden = explicit.with_columns(kind=pl.col("explicit"), weight=pl.lit(1.0))
    columns = ["user_id", "t", "request_id", "ad_id", "kind", "position", "dwell_ms", "weight"]
    return positives, pl.concat([served.select(columns), hidden.select(columns)])


def confidence(rules: Rules) -> pl.Expr:
    dwell = pl.col("dwell_ms")
    rise = ((dwell - rules.shortest_ms) / rules.rise_ms).clip(0, 1)
    fall = ((rules.longest_ms - dwell) / rules.fall_ms).clip(0, 1)
    sure = rules.floor + (1 - rules.floor) * pl.min_horizontal(rise, fall)
    return pl.when(dwell < 0).then(rules.unknown).otherwise(sure)


def gather(positives: pl.DataFrame, negatives: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    def lists(rows: pl.DataFrame, side: str, names: list[str]) -> pl.LazyFrame:
        return (
            rows.lazy()
            .sort("user_id", "t", "request_id", "ad_id")
            .with_columns(served_at_ms=pl.col("t") // 1000, request_hash=pl.col("request_id"))
            .group_by("user_id", maintain_order=True)
            .agg(pl.col("ad_id", "kind", "served_at_ms", "request_hash", *names).name.prefix(f"{side}_"))
        )

    positives = positives.with_columns(
        kind=pl.col("positive"),
        weight=pl.col("positive").replace_strict(rules.positive_weights, return_dtype=pl.Float64),
    )
    return (
        lists(positives, "positive", ["weight"])
        .join(lists(negatives, "negative", ["weight", "position", "dwell_ms"]), on="user_id", how="left")
        .with_columns(bucket=(pl.col("user_id").hash() % rules.num_buckets).cast(pl.Int32))
        .sort("bucket", "user_id")
        .collect()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rules", type=Path, required=True)
    parser.add_argument(
        "--threads", type=num_threads, required=True
    )  # from POLARS_MAX_THREADS, which the caller sets
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    rules = Rules.read(arguments.rules)
    engaged = read_engagements(arguments.log / "engagements", rules)
    log = read_log(arguments.log / "impressions", engaged, rules)
    records = gather(*decide(log, engaged, rules), rules)
    del log
    with Shards(arguments.out) as shards:
        for part in records.iter_slices(16_384):
            for batch in part.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches():
                shards.write(record_batch(batch))


if __name__ == "__main__":
    main()
