"""Input tables of the job: opened and checked against their contracts, checked by row counts, described."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scrollpast.config import Config
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.mining.io import contracts
from scrollpast.mining.io.source import Source
from scrollpast.mining.io.sources import open_source
from scrollpast.mining.publication import iso
from scrollpast.mining.rules.rules import Rules, Window
from scrollpast.mining.spark.map_in_arrow import TimeRange

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def open_inputs(config: Config, rules: Rules, get_spark: Callable[[], SparkSession]) -> dict[str, Source]:
    """Open the tables by name: impressions, engagements, and ads where they are given or needed.

    Raises:
        UserError: a table is missing, or does not fit its contract.
    """
    mining, window = config.mining, rules.window
    features = [(name, contracts.CATEGORY) for name in rules.user_features]
    score = [(rules.score_column, contracts.NULLABLE_NUMBER)] if rules.score_column else []
    attributes = [
        (name, contracts.TIMESTAMP if name == contracts.CREATED_AT else contracts.CATEGORY)
        for name in rules.ad_attributes
    ]
    served = TimeRange(contracts.SERVED_AT, window.start_us, window.end_us - 1)
    engaged = TimeRange(contracts.ENGAGED_AT, rules.engagements_from_us, rules.engagements_to_us)
    wanted: list[tuple[contracts.TableContract, Any, TimeRange | None]] = [
        (contracts.IMPRESSIONS.extended([*features, *score]), config.input.impressions, served),
        (contracts.ENGAGEMENTS, config.input.engagements, engaged),
    ]
    is_ads_given = config.input.ads.path is not None or config.input.ads.table is not None
    if attributes or is_ads_given:
        wanted.append((contracts.AGED_ADS.extended(attributes), config.input.ads, None))
    inputs: dict[str, Source] = {}
    for contract, table, rows in wanted:
        inputs[contract.name] = open_source(
            table,
            contract,
            get_spark,
            rows=rows,
            # Every engagement goes through the shuffle, and all later stages wait for the read.
            rows_per_task=config.spark.rows_per_task // (8 if contract.name == "engagements" else 1) or 1,
            num_tasks=config.spark.num_partitions,
            may_be_empty=contract.name == "engagements" and not mining.require_engagements,
            null_ids=config.input.null_ids,
        )
        first = inputs["impressions"]
        contract.check_same_keys(
            inputs[contract.name].schema, inputs[contract.name].place, first.schema, first.place
        )
    return inputs


def no_impressions(source: Source, window: Window) -> UserError:
    """Error of a window without a row."""
    return UserError(
        f"impressions ({source.place})",
        expected=f"rows served from {iso(window.start_us)} to {iso(window.end_us)}",
        found=source.describe_times(),
        remedy="check --date and --days, and that the log of these days has arrived",
    )


def check_all_read(source: Source, num_read: int) -> None:
    """Compare the number of rows that tasks read with the counts in the files' footers."""
    if source.num_rows is not None and num_read != source.num_rows:
        raise ScrollpastError(
            f"impressions ({source.place})",
            expected=f"{source.num_rows:,} rows, as the files' footers count them",
            found=f"{num_read:,} rows read ({num_read - source.num_rows:+,})",
            remedy="the files changed while they were read, run again",
        )


def describe(inputs: dict[str, Source], num_rows: dict[str, int], num_suppressed: int) -> dict[str, Any]:
    """Description of the input in the manifest.

    Args:
        num_rows: rows of a table that the run used.
        num_suppressed: engagements left out because their users are on the suppression list.
    """
    described = {
        name: {"place": source.place, "num_rows": num_rows.get(name), "fingerprint": source.fingerprint}
        for name, source in inputs.items()
    }
    if num_suppressed:
        described["engagements"]["num_suppressed"] = num_suppressed
    return described
