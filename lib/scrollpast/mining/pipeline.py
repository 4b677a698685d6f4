"""The mining job from its input tables to a published day.

    engagements ──scan──┐ (who may have an anchor)
                        ├─ shuffle by bucket ─── decide ── ad cap ── seal ── gate ── manifest
    impressions ──scan──┘

Rows cross the shuffle as messages (packed columns). Counts are part of the same messages, so that a retried or lost
task neither loses nor repeats a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from scrollpast.config import Config
from scrollpast.documents.health import GateVerdict, Health
from scrollpast.errors import HeldError, ScrollpastError
from scrollpast.mining import bucket_tasks
from scrollpast.mining.examination.table import read_examination
from scrollpast.mining.exposure import num_parts
from scrollpast.mining.gate.bands import judge
from scrollpast.mining.gate.day_metrics import BucketSigns, health_of, with_seen_before
from scrollpast.mining.gate.held_days import (
    day_uri,
    discard,
    folder_of_days,
    grace_s,
    held_uri,
    hold_day,
    why_held,
)
from scrollpast.mining.gate.trailing_days import read_trailing
from scrollpast.mining.io.inputs import (
    check_all_read,
    describe,
    features_of_users,
    no_impressions,
    open_inputs,
)
from scrollpast.mining.io.plausibility import doubts
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.unknown_features import unknown_feature_notes
from scrollpast.mining.publication import (
    Published,
    check_writable,
    find_published,
    make_manifest,
    with_revocations,
    write_table,
)
from scrollpast.mining.rules.ledger import Ledger
from scrollpast.mining.rules.rules import Rules, Window
from scrollpast.mining.scan import TALLY
from scrollpast.mining.spark.packed_columns import unpack
from scrollpast.mining.spark.progress import progress
from scrollpast.mining.stages import Stages
from scrollpast.mining.users import USERS_TALLY, check_users, count_users, history_notes
from scrollpast.privacy.forgetting import obey, publish_obeying
from scrollpast.privacy.suppression import check_key_of_list, read_suppressed
from scrollpast.privacy.user_keys import read_user_key
from scrollpast.shards.filesystem import write_named
from scrollpast.shards.manifest import (
    Manifest,
    ShardEntry,
    published_manifest,
    remove_unpublished,
    removed_on_failure,
    sweep_orphans,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class MinedDay:
    """Result of a run. ``is_new`` is False where the day was published from the same input before."""

    uri: str
    manifest: Manifest
    is_new: bool
    warnings: list[str] = field(default_factory=list)


class DayHeld(HeldError):
    """The gate did not let a day pass; ``mined`` says where it was kept and what it holds."""

    mined: MinedDay


def mine(
    config: Config,
    last_day: date,
    num_days: int,
    as_of: datetime,
    get_spark: Callable[[], SparkSession],
    *,
    overwrite: bool = False,
    as_of_given: bool = True,
) -> MinedDay:
    """Mine the ``num_days`` days that end with ``last_day`` and publish them as ``ds=<last_day>``.

    Args:
        as_of: the moment (UTC) up to which the run uses engagements.
        get_spark: called after all checks that need no Spark.
        overwrite: replace the day if it is published.
        as_of_given: True if the user chose ``as_of``; False: a moment other than before is no change.

    Raises:
        UserError: the input or the configuration cannot be mined; nothing was published.
        DayHeld: a metric of the day is outside its limits; the day was held, and nothing was published.
        ScrollpastError: the job failed; nothing was published.
    """
    uri = day_uri(config, last_day)
    window = Window.of_days(last_day, num_days, as_of)
    examination = read_examination(config.mining.examined.table)
    user_key = read_user_key(config.privacy)
    suppressed = read_suppressed(folder_of_days(config))
    check_key_of_list(suppressed, user_key, folder_of_days(config))
    rules = Rules.of(config.mining, window, examination, user_key, suppressed)
    inputs = open_inputs(config, rules, get_spark)
    rules = replace(rules, features_of_users=features_of_users(inputs, rules))
    # Manifest of the day before the run read its input: a day published since then is not replaced.
    replaced = published_manifest(uri) if overwrite else None
    published = None
    if not overwrite:
        published = find_published(uri, config, rules, inputs, as_of_given=as_of_given)
        if published is not None and not published.news:
            return MinedDay(uri, obey(uri, published.manifest), is_new=False)
        replaced = None if published is None else published.manifest
    if inputs["impressions"].num_rows == 0:  # known from Parquet footers, before Spark starts
        raise no_impressions(inputs["impressions"], window)
    check_writable(uri)
    try:
        with removed_on_failure(uri), ExitStack() as stack:
            return _Run(get_spark(), config, rules, last_day, stack).mine(inputs, replaced, published)
    except DayHeld as held:
        # An earlier run that was killed may have written the same files.
        with suppress(OSError, ScrollpastError):
            remove_unpublished(uri, held.mined.manifest.paths)
        raise


class _Run:
    """One run: its stages, the gate, and the publication of the written files."""

    def __init__(
        self, spark: SparkSession, config: Config, rules: Rules, last_day: date, stack: ExitStack
    ) -> None:
        self._spark = spark
        self._config = config
        self._rules = rules
        self._last_day = last_day
        self._day_uri = day_uri(config, last_day)
        self._stages = Stages(spark, config, rules, self._day_uri, stack)

    def mine(
        self, inputs: dict[str, Source], replaced: Manifest | None, published: Published | None
    ) -> MinedDay:
        """Mine and publish.

        Args:
            replaced: the manifest of the day that is replaced; None = none was published.
            published: the published day, to be updated; unchanged shards are not written again.
        """
        impressions, users = inputs["impressions"], inputs.get("users")
        self._stages.warnings += [note for source in inputs.values() for note in source.notes]
        engagements, engaged_counts, anchored = self._stages.read_engagements(inputs["engagements"])
        attributes = self._stages.read_attributes(inputs.get("ads"))
        read_users = users if self._rules.reads_users else None
        decided = self._stages.decide(impressions, engagements, read_users, anchored, attributes)
        with progress(self._spark, "scan and decide impressions", impressions.num_rows):
            reports = decided.where("content != 'selected'").select("content", "payload").collect()
        ledger = Ledger()
        num_read, num_impressions, num_timed = _add_tallies(
            ledger, (p for content, p in reports if content == TALLY)
        )
        check_all_read("impressions", impressions, num_read)
        num_users = count_users(p for content, p in reports if content == USERS_TALLY)
        if read_users is not None:
            check_all_read("users", read_users, num_users["read"])
        if not num_timed:  # rows without a time are in every window, and do not make a day
            raise no_impressions(impressions, self._rules.window)
        if users is not None:
            self._stages.warnings += check_users(num_users, users.place, self._rules)
        suspects = [unpack(p) for content, p in reports if content == bucket_tasks.SUSPECTS]
        limits = self._stages.limit_ads(decided, suspects)
        with progress(self._spark, "write shards"):
            num_selected = sum(metadata["num_selected"] for _, metadata in suspects)
            paths = frozenset() if published is None else published.paths
            sealed, exposure = self._stages.seal(decided, limits, attributes, num_parts(num_selected), paths)
        for cells, metadata in sealed:
            ledger.add(cells, metadata["surfaces"])
        ledger.check(num_impressions)
        signs = BucketSigns.sum(p for content, p in reports if content == bucket_tasks.SIGNS)
        health, verdict = self._judge(health_of(ledger, signs, exposure, self._rules))
        self._stages.warnings += doubts(ledger, signs, exposure)
        self._stages.warnings += unknown_feature_notes(
            (metadata for _, metadata in sealed),
            self._rules,
            {name: source.place for name, source in inputs.items()},
        )
        num_positives = sum(metadata["num_positives"] for _, metadata in sealed)
        if read_users is not None:
            num_in_history = sum(metadata["num_in_history"] for _, metadata in sealed)
            self._stages.warnings += history_notes(num_positives, num_in_history, read_users.place)
        manifest = make_manifest(
            ds=self._last_day.isoformat(),
            window=self._rules.window,
            config=self._config,
            user_key=self._rules.user_key,
            suppressed=self._rules.suppressed,
            inputs=describe(
                inputs,
                {
                    "impressions": num_impressions,
                    "engagements": engaged_counts["in_reach"],
                    "users": num_users["read"] if read_users is not None else None,
                },
                engaged_counts["suppressed"],
            ),
            ledger=ledger,
            shards=[ShardEntry(**metadata["entry"]) for _, metadata in sealed if metadata["entry"]],
            num_positives=num_positives,
            num_negatives=sum(metadata["num_negatives"] for _, metadata in sealed),
            ledger_file=write_table(ledger.table(), "ledger", self._day_uri),
            quarantine_files=[
                bytes(p).decode() for content, p in reports if content == bucket_tasks.QUARANTINE_FILE
            ],
            health=health.model_copy(update={"gate": verdict}).model_dump(mode="json"),
            exposure_file=write_named(exposure.to_json().encode(), "exposure", "json", self._day_uri),
        )
        manifest = with_revocations(manifest, self._day_uri)
        if verdict is not None and verdict.breaches:
            uri = hold_day(self._config, self._last_day, manifest)
            held = DayHeld(**why_held(self._config, self._last_day, verdict, overwrite=replaced is not None))
            held.mined = MinedDay(uri, manifest, is_new=True, warnings=self._stages.warnings)
            raise held
        if published is not None:
            self._stages.warnings.append(
                f"mined again because of a change in {', '.join(published.news)}: "
                f"{published.num_changed(manifest):,} of {manifest.num_buckets:,} buckets changed"
            )
        manifest = publish_obeying(self._day_uri, manifest, replacing=replaced)
        sweep_orphans(self._day_uri, manifest, older_than_s=grace_s(self._config))
        discard(held_uri(self._config, self._last_day))
        return MinedDay(self._day_uri, manifest, is_new=True, warnings=self._stages.warnings)

    def _judge(self, health: Health) -> tuple[Health, GateVerdict | None]:
        """Compare the metrics with those of the trailing days; no verdict where the gate is switched off."""
        config, rules = self._config, self._rules
        if not config.gate.enabled:
            return health, None
        trailing = read_trailing(folder_of_days(config), self._last_day, rules.window, health, config)
        note = trailing.note(config)
        if note is not None:
            self._stages.warnings.append(note)
        health = with_seen_before(health, trailing.sketches)
        required = config.mining.require_engagements
        return health, judge(health, trailing.days, config.gate, engagements_required=required)


def _add_tallies(ledger: Ledger, tallies: Iterable[bytes]) -> tuple[int, int, int]:
    """Add the tallies to the ledger; returns the scans' counts: rows read, impressions, impressions with a time."""
    num_read = num_impressions = num_timed = 0
    for payload in tallies:
        cells, metadata = unpack(payload)
        ledger.add(cells, metadata["surfaces"])
        num_read += metadata["num_read"]
        num_impressions += metadata["num_impressions"]
        num_timed += metadata["num_timed"]
    return num_read, num_impressions, num_timed
