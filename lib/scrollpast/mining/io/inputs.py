"""Input tables of the job: opened and checked against their contracts, checked by row counts, described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from scrollpast.config import Config, InputTable
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
    """Open the tables by name: impressions, engagements, and ads and users where they are given or needed.

    Raises:
        UserError: a table is missing, or does not fit its contract.
    """
    mining, window = config.mining, rules.window
    inputs: dict[str, Source] = {}
    if _is_given(config.input.users) or rules.user_history is not None:
        inputs["users"] = open_source(
            config.input.users,
            contracts.users_contract(rules.user_features, rules.user_history),
            get_spark,
            rows_per_task=_rows_of_shuffled(config),
            num_tasks=config.spark.num_partitions,
            null_ids=config.input.null_ids,
        )
    of_users = features_of_users(inputs, rules)
    features = [(name, contracts.CATEGORY) for name in rules.user_features if name not in of_users]
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
    if attributes or _is_given(config.input.ads):
        wanted.append((contracts.AGED_ADS.extended(attributes), config.input.ads, None))
    for contract, table, rows in wanted:
        inputs[contract.name] = open_source(
            table,
            contract,
            get_spark,
            rows=rows,
            rows_per_task=_rows_of_shuffled(config)
            if contract.name == "engagements"
            else config.spark.rows_per_task,
            num_tasks=config.spark.num_partitions,
            may_be_empty=contract.name == "engagements" and not mining.require_engagements,
            null_ids=config.input.null_ids,
        )
        first = inputs["impressions"]
        contract.check_same_keys(
            inputs[contract.name].schema, inputs[contract.name].place, first.schema, first.place
        )
    if "users" in inputs:
        _check_keys_of_users(inputs["users"], inputs["impressions"], rules)
    return inputs


def features_of_users(inputs: Mapping[str, Source], rules: Rules) -> tuple[str, ...]:
    """User features that the table of users holds; it precedes the table of impressions."""
    names = inputs["users"].schema.names if "users" in inputs else ()
    return tuple(name for name in rules.user_features if name in names)


def _is_given(table: InputTable) -> bool:
    return table.path is not None or table.table is not None


def _rows_of_shuffled(config: Config) -> int:
    """Rows that a task reads of a table whose every row may go through the shuffle."""
    return config.spark.rows_per_task // 8 or 1


def _check_keys_of_users(users: Source, impressions: Source, rules: Rules) -> None:
    """Compare the types of user ids, and of ads in histories, with those of the impressions."""
    contracts.USERS.check_same_keys(users.schema, users.place, impressions.schema, impressions.place)
    if rules.user_history is None:
        return
    kind = users.schema.field(rules.user_history).type
    items = pa.null() if pa.types.is_null(kind) else kind.value_type
    ads = impressions.schema.field(contracts.AD_ID).type
    if not contracts.are_same_keys(items, ads):
        raise UserError(
            f"users.{rules.user_history} ({users.place})",
            expected=f"a list of {ads}, as {contracts.AD_ID} in {impressions.place}",
            found=f"a list of {items}",
            remedy="give both the same type: a string never equals a long",
        )


def no_impressions(source: Source, window: Window) -> UserError:
    """Error of a window without a row."""
    return UserError(
        f"impressions ({source.place})",
        expected=f"rows served from {iso(window.start_us)} to {iso(window.end_us)}",
        found=source.describe_times(),
        remedy="check --date and --days, and that the log of these days has arrived",
    )


def check_all_read(name: str, source: Source, num_read: int) -> None:
    """Compare the number of rows that tasks read with the counts in the files' footers."""
    if source.num_rows is not None and num_read != source.num_rows:
        raise ScrollpastError(
            f"{name} ({source.place})",
            expected=f"{source.num_rows:,} rows, as the files' footers count them",
            found=f"{num_read:,} rows read ({num_read - source.num_rows:+,})",
            remedy="the files changed while they were read, run again",
        )


def describe(
    inputs: dict[str, Source], num_rows: dict[str, int | None], num_suppressed: int
) -> dict[str, Any]:
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
