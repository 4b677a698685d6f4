"""Hypothesis strategies for records: batches of every column type, and days' manifests."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import strategies as st

INT64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-300, 300), st.sampled_from([2**7, 2**14 - 1, 2**63 - 1])
)
FLOAT32 = st.floats(width=32, allow_nan=False)
COLUMN_TYPES = {
    pa.int64(): INT64,
    pa.float32(): FLOAT32,
    pa.binary(): st.binary(max_size=200),
    pa.string(): st.text(max_size=40),
    pa.large_binary(): st.binary(max_size=10),
    pa.list_(pa.int64()): st.lists(INT64, max_size=40),
    pa.list_(pa.float32()): st.lists(FLOAT32, max_size=40),
    pa.list_(pa.binary()): st.lists(st.binary(max_size=20), max_size=5),
    pa.large_list(pa.int64()): st.lists(INT64, max_size=3),
}


@st.composite
def batches(draw: st.DrawFn, *, max_rows: int = 8) -> pa.RecordBatch:
    """Any batch that a record can hold: up to 6 columns, nulls included, sometimes a slice of a longer one."""
    names = draw(st.lists(st.text(max_size=140), max_size=6, unique=True))
    types = [draw(st.sampled_from(list(COLUMN_TYPES))) for _ in names]
    num_rows = draw(st.integers(0, max_rows)) if names else 0
    columns = [
        pa.array(
            draw(st.lists(st.none() | COLUMN_TYPES[kind], min_size=num_rows, max_size=num_rows)), type=kind
        )
        for kind in types
    ]
    schema = pa.schema([pa.field(name, kind) for name, kind in zip(names, types, strict=True)])
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return batch.slice(draw(st.integers(0, num_rows)), draw(st.integers(0, num_rows)))
