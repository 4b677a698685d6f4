"""The mining job in DuckDB: hand-tuned SQL, then TFRecord shards by the fastest public writer.

The SQL follows the rules of a run (mining_rules.py). It is fast for four reasons. The log is read twice and never
sorted. Engaged ads are processed on the few rows of engaged (user, ad) pairs. Other rows are filtered by dwell while
they are read. The aggregation by (user, ad), which the rules need, also removes duplicates.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb
from scripts.bench.peers.mining_rules import DAY_US, Rules, num_threads
from scripts.bench.peers.tfrecord_shards import Shards, record_batch

LISTED_ROWS = 15_000_000
"""Rows gathered into lists at a time; lists cannot be spilled to disk."""

ENGAGEMENTS = """
CREATE TEMP TABLE engaged AS
SELECT row_number() OVER () AS id, user_id, ad_id, request_id, epoch_us(engaged_at) AS t,
       code, is_positive, attribution
FROM read_parquet('{engagements}') JOIN kinds USING (kind)
WHERE user_id IS NOT NULL AND ad_id IS NOT NULL
  AND epoch_us(engaged_at) BETWEEN {engagements_from_us} AND {engagements_to_us};
"""

# Only rows of users with a positive engagement that an impression of the window may have caused leave the scan.
SCAN = """
SELECT user_id, ad_id, request_id, coalesce(position, -1)::INTEGER AS position,
       coalesce(dwell_ms, -1)::INTEGER AS dwell_ms, epoch_us(served_at) AS t
FROM read_parquet('{impressions}')
WHERE served_at >= make_timestamptz({start_us}) AND served_at < make_timestamptz({end_us})
  AND request_id IS NOT NULL AND user_id IS NOT NULL AND ad_id IS NOT NULL
  AND (position IS NULL OR position >= 0) AND (dwell_ms IS NULL OR dwell_ms >= 0)
  AND user_id IN (SELECT user_id FROM engaged WHERE is_positive AND t >= {start_us} - {clock_skew_us})
"""

RULES = """
CREATE TEMP TABLE log AS {scan};

-- Bots: counted with re-deliveries first, exactly for the few users that this leaves.
CREATE TEMP TABLE bots AS
SELECT DISTINCT user_id FROM (
    SELECT user_id, (t - {start_us}) // {day} AS day, count(DISTINCT (request_id, ad_id, position)) AS n
    FROM log WHERE user_id IN (
        SELECT user_id FROM (SELECT user_id, (t - {start_us}) // {day} AS day FROM log)
        GROUP BY user_id, day HAVING count(*) > {max_impressions_per_user_day})
    GROUP BY ALL) WHERE n > {max_impressions_per_user_day};

-- Impressions of engaged ads, each once.
CREATE TEMP TABLE touched AS
SELECT row_number() OVER () AS id, * FROM (
    SELECT user_id, ad_id, request_id, position, min(t) AS t, arg_min(dwell_ms, t) AS dwell_ms
    FROM log SEMI JOIN engaged USING (user_id, ad_id) GROUP BY ALL);

CREATE TEMP TABLE attributed AS
WITH answers AS (
    SELECT e.code, e.is_positive, e.attribution, e.t, max((i.t, i.position, i.id)) AS last
    FROM engaged e JOIN touched i USING (user_id, ad_id, request_id)
    WHERE i.t <= e.t + {clock_skew_us} GROUP BY e.id, e.code, e.is_positive, e.attribution, e.t
    UNION ALL
    SELECT e.code, e.is_positive, e.attribution, e.t, max((i.t, i.position, i.id)) AS last
    FROM engaged e JOIN touched i USING (user_id, ad_id)
    WHERE e.request_id IS NULL AND i.t <= e.t GROUP BY e.id, e.code, e.is_positive, e.attribution, e.t)
SELECT i.*, max(a.code) FILTER (a.is_positive) AS positive, max(a.code) FILTER (NOT a.is_positive) AS explicit
FROM answers a JOIN touched i ON i.id = a.last[3] WHERE a.t - i.t <= a.attribution GROUP BY ALL;

CREATE TEMP TABLE positives AS
SELECT * FROM attributed WHERE positive IS NOT NULL AND user_id NOT IN (FROM bots);

CREATE TEMP TABLE explicit_negatives AS
SELECT * FROM attributed WHERE positive IS NULL AND explicit IS NOT NULL
  AND user_id IN (SELECT user_id FROM positives);

-- Engaged ads that nothing guards, and that were not the answer themselves.
CREATE TEMP TABLE spared AS
SELECT user_id, ad_id, request_id, position, dwell_ms, t FROM touched i
WHERE id NOT IN (SELECT id FROM attributed) AND NOT EXISTS (
    FROM engaged e WHERE e.user_id = i.user_id AND e.ad_id = i.ad_id AND e.is_positive
      AND e.t BETWEEN i.t - {guard_before_us} AND i.t + {guard_after_us});

CREATE TEMP TABLE deepest AS
SELECT user_id, request_id, max(position) AS deepest FROM positives GROUP BY ALL;

CREATE TEMP TABLE kept AS
WITH candidates AS (
    SELECT * FROM log ANTI JOIN engaged USING (user_id, ad_id) UNION ALL FROM spared),
seen AS (
    SELECT c.* FROM candidates c LEFT JOIN deepest d USING (user_id, request_id)
    WHERE c.t + {maturity_us} <= {as_of_us}
      AND ({is_examined} OR (c.position >= 0 AND c.position < coalesce(d.deepest, -1)))
      AND c.user_id IN (SELECT user_id FROM positives)),
latest AS (
    SELECT user_id, ad_id, max((t, request_id, position, dwell_ms)) AS last FROM seen
    {without_lingered}
    ANTI JOIN explicit_negatives USING (user_id, ad_id)
    {not_lingered} GROUP BY ALL)
SELECT user_id, ad_id, last[1] AS t, last[2] AS request_id, last[3] AS position, last[4] AS dwell_ms FROM latest
QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY last[1] DESC, hash(ad_id)) <= {negatives_per_user};
"""

RECORDS = """
WITH negatives AS (
    SELECT user_id, ad_id, 0 AS kind, t, request_id, position, dwell_ms,
           (CASE WHEN dwell_ms < 0 THEN {unknown} ELSE {floor} + (1 - {floor}) * least(
               greatest(least((dwell_ms - {shortest_ms}) / {rise_ms}, 1), 0),
               greatest(least(({longest_ms} - dwell_ms) / {fall_ms}, 1), 0)
           ) END)::FLOAT AS weight
    FROM kept
    UNION ALL
    SELECT user_id, ad_id, explicit, t, request_id, position, dwell_ms, 1.0::FLOAT FROM explicit_negatives),
n AS (
    SELECT user_id, list(ad_id ORDER BY t, request_id, ad_id) AS negative_ad_id,
           list(kind ORDER BY t, request_id, ad_id) AS negative_kind,
           list(t // 1000 ORDER BY t, request_id, ad_id) AS negative_served_at_ms,
           list(request_id ORDER BY t, request_id, ad_id) AS negative_request_hash,
           list(position::BIGINT ORDER BY t, request_id, ad_id) AS negative_position,
           list(dwell_ms::BIGINT ORDER BY t, request_id, ad_id) AS negative_dwell_ms,
           list(weight ORDER BY t, request_id, ad_id) AS negative_weight
    FROM negatives WHERE hash(user_id) % {num_buckets} BETWEEN {first} AND {last} GROUP BY user_id),
p AS (
    SELECT user_id, list(ad_id ORDER BY t, request_id, ad_id) AS positive_ad_id,
           list(positive ORDER BY t, request_id, ad_id) AS positive_kind,
           list(t // 1000 ORDER BY t, request_id, ad_id) AS positive_served_at_ms,
           list(request_id ORDER BY t, request_id, ad_id) AS positive_request_hash,
           list(kinds.weight ORDER BY t, request_id, ad_id) AS positive_weight
    FROM positives JOIN kinds ON kinds.code = positive
    WHERE hash(user_id) % {num_buckets} BETWEEN {first} AND {last} GROUP BY user_id)
SELECT user_id, (hash(user_id) % {num_buckets})::INTEGER AS bucket, p.* EXCLUDE user_id, n.* EXCLUDE user_id
FROM p LEFT JOIN n USING (user_id) ORDER BY bucket, user_id
"""


EXAMINED = "(c.position <= {max_position} AND (c.dwell_ms < 0 OR c.dwell_ms >= {min_dwell_ms}){both_known})"
BOTH_KNOWN = " AND c.position >= 0 AND c.dwell_ms >= 0"
OF_NO_LINGERED_AD = (
    "ANTI JOIN (SELECT user_id, ad_id FROM log WHERE dwell_ms > {max_dwell_ms}) USING (user_id, ad_id)"
)
NOT_LINGERED = "WHERE dwell_ms <= {max_dwell_ms}"


def words_of(rules: Rules, log: Path) -> dict[str, object]:
    """The values of the placeholders of the SQL."""
    words: dict[str, object] = {
        name: getattr(rules, name)
        for name in (
            "start_us", "end_us", "as_of_us", "num_buckets", "max_impressions_per_user_day", "clock_skew_us",
            "maturity_us", "guard_before_us", "guard_after_us", "max_position", "min_dwell_ms", "max_dwell_ms",
            "floor", "unknown", "negatives_per_user", "engagements_from_us", "engagements_to_us", "shortest_ms",
            "longest_ms", "rise_ms", "fall_ms",
        )
    }  # fmt: skip
    words["day"] = DAY_US
    words["impressions"] = f"{log}/impressions/**/*.parquet"
    words["engagements"] = f"{log}/engagements/**/*.parquet"
    words["is_examined"] = EXAMINED.format(both_known=BOTH_KNOWN if rules.is_unknown_dropped else "", **words)
    words["without_lingered"] = OF_NO_LINGERED_AD.format(**words) if rules.is_lingering_of_the_ad else ""
    words["not_lingered"] = "" if rules.is_lingering_of_the_ad else NOT_LINGERED.format(**words)
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rules", type=Path, required=True)
    parser.add_argument("--threads", type=num_threads, required=True)
    parser.add_argument("--memory", default="16GB")
    arguments = parser.parse_args()
    rules = Rules.read(arguments.rules)
    words = words_of(rules, arguments.log)
    arguments.out.mkdir(parents=True)
    database = duckdb.connect(
        str(arguments.out / "scratch.duckdb"),
        config={
            "threads": arguments.threads,
            "memory_limit": arguments.memory,
            "preserve_insertion_order": False,
        },
    )
    database.execute("SET TimeZone = 'UTC'")
    database.execute(
        "CREATE TEMP TABLE kinds"
        " (kind VARCHAR, code BIGINT, is_positive BOOLEAN, attribution BIGINT, weight FLOAT)"
    )
    database.executemany(
        "INSERT INTO kinds VALUES (?, ?, ?, ?, ?)",
        [[kind.name, kind.code, kind.is_positive, kind.attribution_us, kind.weight] for kind in rules.kinds],
    )
    database.execute(ENGAGEMENTS.format(**words))
    database.execute(RULES.format(scan=SCAN.format(**words), **words))
    # A few buckets at a time, so that their lists fit into memory.
    (num_rows,) = database.execute("SELECT count(*) FROM kept").fetchall()[0]
    at_once = max(1, rules.num_buckets * LISTED_ROWS // max(num_rows, LISTED_ROWS))
    with Shards(arguments.out) as shards:
        for first in range(0, rules.num_buckets, at_once):
            last = first + at_once - 1
            query = RECORDS.format(first=first, last=last, **words)
            for batch in database.sql(query).to_arrow_reader(16_384):
                shards.write(record_batch(batch))
    database.close()
    (arguments.out / "scratch.duckdb").unlink()


if __name__ == "__main__":
    main()
