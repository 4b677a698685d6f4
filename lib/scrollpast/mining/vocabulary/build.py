"""Build a vocabulary: count the ads and feature values of days' records in Spark, and join the table of ads.

The manifests of the days then name the vocabulary, so that training finds it without an option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scrollpast.config import Config, InputTable
from scrollpast.errors import UserError
from scrollpast.hashing import hash_column, ids_of
from scrollpast.mining.io.contracts import AD_ID, ADS, CATEGORY
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.sources import open_source, run
from scrollpast.mining.spark.map_in_arrow import collect_table, map_batches
from scrollpast.mining.spark.progress import progress
from scrollpast.mining.vocabulary.rows import AD, RAW_ID, Counts, lay_out
from scrollpast.privacy.suppression import UserSet, folder_of, read_suppressed
from scrollpast.record_schema import USER_FEATURE_PREFIX, USER_ID
from scrollpast.shards.manifest import Manifest
from scrollpast.shards.reader import PublishedShard, ShardReader, decode_shard, read_shard_content
from scrollpast.shards.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_POSITIVES, _NEGATIVES = "positive_ad_id", "negative_ad_id"
_COUNTED = "feature string, value long, positives long, negatives long"
_ADS_COUNTED = ""  # no user feature has this name
_TAKEN_NAMES = ("row", AD_ID, RAW_ID, AD, "count")


def build_vocabulary(
    config: Config,
    manifests: Sequence[str],
    ads: InputTable,
    get_spark: Callable[[], SparkSession],
    *,
    features: Sequence[str] = (),
    num_user_rows: int | None = None,
    max_codes: int = 100_000,
    parent: Vocabulary | None = None,
) -> Vocabulary:
    """Count the ads and user features of published days and assign rows and codes; see `lay_out`.

    Args:
        ads: the table of ads, all of which get a row; may be left out if ``features`` is empty.
        num_user_rows: None = the parent's number, or about a million.
        max_codes: the largest number of codes of one feature; rarer values are unknown.

    Raises:
        UserError: a day is not published, the table of ads lacks a feature or all of the days' ads, or the parent
            differs.
        CorruptShardError: a shard differs from its manifest entry.
    """
    reader = ShardReader(manifests)
    user_features = reader.days[0].user_features if reader.days else ()
    _check_names(features)
    has_ads = ads.path is not None or ads.table is not None
    source = None
    if has_ads or features:
        contract = ADS.extended((name, CATEGORY) for name in features)
        source = open_source(
            ads,
            contract,
            get_spark,
            rows_per_task=config.spark.rows_per_task,
            null_ids=config.input.null_ids,
        )
    if num_user_rows is None:
        num_user_rows = (1 << 20) + 1 if parent is None else parent.num_user_rows
    spark = get_spark()
    num_records = sum(day.num_records for day in reader.days)
    with progress(spark, "count ads", num_records):
        counts = _count(spark, reader.shards, user_features, _suppressed(reader.shards))
    with progress(spark, "read ads", source.num_rows if source else None):
        catalogue = _read_catalogue(spark, source, features)
    _check_overlap(counts, catalogue, source, reader.days)
    return lay_out(
        counts,
        catalogue,
        days=[day.ds for day in reader.days],
        num_user_rows=num_user_rows,
        max_codes=max_codes,
        parent=parent,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _suppressed(shards: Sequence[PublishedShard]) -> dict[str, UserSet]:
    """Users of the suppression list of each day, by the URI of the day."""
    return {uri: read_suppressed(folder_of(uri)) for uri in {shard.day_uri for shard in shards}}


def _count(
    spark: SparkSession,
    shards: Sequence[PublishedShard],
    user_features: Sequence[str],
    suppressed: Mapping[str, UserSet],
) -> Counts:
    """Count each shard in a task, and sum in Spark."""
    from pyspark.sql import functions as sql

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                shard = shards[number]
                yield from count_shard(shard, user_features, suppressed[shard.day_uri])

    num_tasks = max(1, min(len(shards), 4 * spark.sparkContext.defaultParallelism))
    counted = map_batches(spark.range(0, len(shards), 1, num_tasks), count, _COUNTED)
    totals = [sql.sum(name).alias(name) for name in ("positives", "negatives")]
    # A shard names an ad once, so that a partial sum before the shuffle saves little. The main cost is Spark's
    # default number of partitions, 200.
    by_value = counted.repartition(num_tasks, "feature", "value").groupBy("feature", "value")
    table = collect_table(by_value.agg(*totals))

    def of(feature: str, name: str) -> Any:
        return table.filter(pc.equal(table["feature"], feature))[name].to_numpy()

    ads, positives, negatives = (of(_ADS_COUNTED, name) for name in ("value", "positives", "negatives"))
    user_values = {name: (of(name, "value"), of(name, "positives")) for name in user_features}
    return Counts(ads, positives, negatives, user_values)


def count_shard(
    shard: PublishedShard, user_features: Sequence[str], suppressed: UserSet | None = None
) -> Iterator[pa.RecordBatch]:
    """Counts of a shard: positives and negatives of each ad, records with each user value.

    Args:
        suppressed: users whose records are not counted; an interrupted run may have left records of them in the day.
    """
    content, frames = read_shard_content(shard)
    names = [USER_FEATURE_PREFIX + name for name in user_features]
    fields = [pa.field(name, pa.list_(pa.int64())) for name in (_POSITIVES, _NEGATIVES)]
    features = [pa.field(name, pa.int64()) for name in (*names, *((USER_ID,) if suppressed else ()))]
    batch = decode_shard(shard, content, frames, pa.schema(fields + features), verify=False)
    if suppressed:
        batch = batch.filter(pa.array(~suppressed.in_files(batch[USER_ID])))
    positives, negatives = (batch.column(name).flatten().to_numpy() for name in (_POSITIVES, _NEGATIVES))
    ads = np.unique(np.concatenate([positives, negatives]))
    bins = len(ads) if len(ads) else 1
    yield _counted(
        _ADS_COUNTED,
        ads,
        np.bincount(np.searchsorted(ads, positives), minlength=bins)[: len(ads)],
        np.bincount(np.searchsorted(ads, negatives), minlength=bins)[: len(ads)],
    )
    for feature, name in zip(user_features, names, strict=True):
        values, records = np.unique(batch.column(name).drop_null().to_numpy(), return_counts=True)
        yield _counted(feature, values, records, np.zeros_like(records))


def _counted(feature: str, values: Any, positives: Any, negatives: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "feature": pa.repeat(feature, len(values)),
            "value": pa.array(values, pa.int64()),
            "positives": pa.array(positives, pa.int64()),
            "negatives": pa.array(negatives, pa.int64()),
        }
    )


def _read_catalogue(spark: SparkSession, source: Source | None, features: Sequence[str]) -> pa.Table:
    """Table of ads with ids as in records and features as text; empty where no table is given."""
    schema = pa.schema([(AD, pa.int64()), (RAW_ID, pa.string()), *((name, pa.string()) for name in features)])
    if source is None:
        return schema.empty_table()

    def read(_: int, batches: Iterable[pa.RecordBatch]) -> Iterable[tuple[Any, ...]]:
        for batch in batches:
            yield (_to_bytes(catalogue_rows(batch, schema)),)

    parts = run(source, spark, read, "payload binary").collect()
    tables = [pa.ipc.open_stream(payload).read_all() for (payload,) in parts]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def catalogue_rows(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows of the table of ads as a catalogue: the id in records, and the id in the log if it is text."""
    batch = batch.filter(pc.is_valid(batch[AD_ID]))
    ids = batch[AD_ID]
    is_whole = pa.types.is_integer(ids.type)
    hashes = np.zeros(len(ids), np.int64) if is_whole else hash_column(ids)
    columns = [
        pa.array(ids_of(ids, hashes)),
        pa.nulls(len(ids), pa.string()) if is_whole else ids.cast(pa.string()),
        *(batch[name].cast(pa.string()) for name in schema.names[2:]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _to_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def _check_names(features: Sequence[str]) -> None:
    for name in features:
        if name in _TAKEN_NAMES or name.startswith(USER_FEATURE_PREFIX) or features.count(name) > 1:
            raise UserError(
                f"--feature {name}",
                expected="a column of ads, once, with a name of its own",
                found=f"{name!r}, given twice or reserved by the vocabulary",
                remedy="rename the column where the table is made, or leave it out",
            )


def _check_overlap(
    counts: Counts, catalogue: pa.Table, source: Source | None, days: Sequence[Manifest]
) -> None:
    if not len(counts.ads):
        raise UserError(
            ", ".join(day.ds for day in days) or "days",
            expected="records with ads",
            found="none",
            remedy="mine other days",
        )
    if source is not None and not np.isin(catalogue[AD].to_numpy(), counts.ads).any():
        raise UserError(
            f"ads ({source.place})",
            expected=f"some of the {len(counts.ads):,} ads of the records",
            found="none of them",
            remedy="pass the table of the same log, with ids of the same type: a string never equals a long",
        )
