"""The hash that Spark and NumPy share: equal to Spark's own, element by element."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from chispa import assert_df_equality
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as sql

from scrollpast.hashing import ID_MASK, bucket_of, hash_column, ids_of, integers, seeded_hash, xxhash64

NUM_BUCKETS = 1024

EDGES = [0, 1, -1, 42, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)]
# Spark hashes bytes in blocks of 32, then of 8, then 4, then single ones: every remainder occurs.
TEXTS = ["", "a", "spark", "é", "日本語", "𝔘𝔫𝔦", "\x00", "a\x00b", *("0123456789" * 20)[:70], "x" * 1000]
TEXTS += [("abcdefghij" * 14)[:length] for length in range(70)]


def random_integers(count: int) -> list[int]:
    source = random.Random(7)
    return EDGES + [source.randrange(-(2**63), 2**63) for _ in range(count)]


def random_texts(count: int) -> list[str]:
    """Texts of up to 80 characters from all of Unicode but the surrogates, which no UTF-8 holds."""
    source = random.Random(8)

    def character() -> str:
        code = source.choice(
            [source.randrange(0x80), source.randrange(0xD800), source.randrange(0xE000, 0x110000)]
        )
        return chr(code)

    return TEXTS + ["".join(character() for _ in range(source.randrange(81))) for _ in range(count)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [(random_integers(2000), pa.int64()), (random_texts(2000), pa.string())],
    ids=["longs", "strings"],
)
def test_hash_bucket_and_id_are_those_that_spark_computes(
    spark: SparkSession, values: list, kind: pa.DataType
) -> None:
    column = pa.array(values, kind)
    hashes = hash_column(column)
    ours = {
        "value": column,
        "hash": pa.array(hashes),
        "bucket": pa.array(bucket_of(hashes, NUM_BUCKETS)),
        "id": pa.array(ids_of(column, hashes)),
    }
    found = spark.createDataFrame(pa.table(ours))
    hashed = sql.xxhash64("value")
    is_text = pa.types.is_string(kind)
    expected = found.select(
        "value",
        hashed.alias("hash"),
        sql.pmod(hashed, sql.lit(NUM_BUCKETS)).cast("int").alias("bucket"),
        (hashed.bitwiseAND(sql.lit(int(ID_MASK))) if is_text else sql.col("value")).alias("id"),
    )
    assert_df_equality(expected, found, ignore_nullable=True)


def test_columns_are_chained_as_spark_chains_them(spark: SparkSession) -> None:
    users, ads = np.array(random_integers(200)), np.array(random_integers(200)[::-1])
    found = spark.createDataFrame(
        pa.table({"user": users, "ad": ads, "hash": xxhash64(ads, xxhash64(users))})
    )
    expected = found.select("user", "ad", sql.xxhash64("user", "ad").alias("hash"))
    assert_df_equality(expected, found, ignore_nullable=True)


def test_known_hashes() -> None:
    # Result of `SELECT xxhash64(1L), xxhash64('spark')` in Spark 4.3, checked here without Spark.
    assert hash_column(pa.array([1])).tolist() == [-7001672635703045582]
    assert hash_column(pa.array(["spark"])).tolist() == [-1960931134668248110]


@given(st.lists(st.text(max_size=80) | st.none(), max_size=20), st.integers(0, 5))
def test_a_string_hashes_alike_however_its_column_is_stored(texts: list[str | None], cut: int) -> None:
    plain = pa.array(texts, pa.string())
    expected = hash_column(plain)
    for stored in (plain.cast(pa.large_string()), plain.dictionary_encode(), plain.cast(pa.string_view())):
        known = np.array([text is not None for text in texts], bool)
        assert hash_column(stored)[known].tolist() == expected[known].tolist()
    assert hash_column(plain[cut:]).tolist() == expected[cut:].tolist()


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_an_integer_hashes_as_a_long_however_wide_its_column_is(values: list[int]) -> None:
    narrow, wide = pa.array(values, pa.int32()), pa.array(values, pa.int64())
    assert hash_column(narrow).tolist() == hash_column(wide).tolist()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.integers(1, 100_000))
def test_every_hash_has_a_bucket(values: list[int], num_buckets: int) -> None:
    buckets = bucket_of(np.array(values, np.int64), num_buckets)
    assert buckets.dtype == np.int32
    assert buckets.tolist() == [value % num_buckets for value in values]


@given(st.lists(st.text(max_size=40), max_size=20))
def test_the_id_of_a_string_is_never_negative(texts: list[str]) -> None:
    column = pa.array(texts, pa.string())
    assert (ids_of(column, hash_column(column)) >= 0).all()


def test_nulls_are_replaced_and_integers_widened() -> None:
    column = pa.array([3, None, -4], pa.int16())
    assert integers(column, null=-1).tolist() == [3, -1, -4]
    assert integers(column).dtype == np.int64


@given(
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.lists(st.integers(0, 99), min_size=3, max_size=20),
)
def test_another_seed_or_another_order_of_columns_is_another_choice(
    one: int, other: int, keys: list[int]
) -> None:
    first, second = np.array(keys), np.array(keys[::-1]) + 100
    assert seeded_hash(one, first, second).tolist() == seeded_hash(one, first, second).tolist()
    assert (seeded_hash(one, first, second) != seeded_hash(one, second, first)).all()
    if one != other:
        assert (seeded_hash(one, first, second) != seeded_hash(other, first, second)).all()
