"""Sections of a report: figures of literal input, and the messages for unusual input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrollpast.documents.health import GateVerdict, Health
from scrollpast.job_commands import job_command
from scrollpast.outcomes import Outcome
from scrollpast.report.comparison import comparison
from scrollpast.report.dwell import dwell
from scrollpast.report.examination import examination
from scrollpast.report.exposure import exposure
from scrollpast.report.funnel import funnel, in_order
from scrollpast.report.gate import gate, verdict
from scrollpast.report.page import compose
from scrollpast.report.per_user import NegativesByUser, count_by_user, per_user
from scrollpast.report.purity import purity
from scrollpast.report.revocations import revocations
from scrollpast.report.sections import Missing
from scrollpast.report.training import training
from scrollpast.report.trend import trend
from scrollpast.shards.reader import ShardReader
from tests.report.published import BEFORE, DS, LEDGER, Output
from tests.report.shown import plots_of, row, table_of, text_of


@given(st.dictionaries(st.sampled_from([*(o.label for o in Outcome), "of_tomorrow"]), st.integers(0, 10**12)))
def test_no_outcome_is_lost_or_added(ledger: dict[str, int]) -> None:
    ordered = in_order(ledger)
    assert {name: number for name, number in ordered.items() if name in ledger} == ledger
    assert sum(ordered.values()) == sum(ledger.values())
    assert list(ordered)[: len(Outcome)] == [outcome.label for outcome in Outcome]


def test_the_funnel_says_how_many_impressions_every_outcome_left(output: Output) -> None:
    (plot,) = plots_of(funnel(output.inputs()))
    total = sum(LEDGER.values())
    assert plot.numbers.rows[0][:4] == ("invalid", "1,234", f"{1234 / total:.2%}", f"{total - 1234:,}")
    assert plot.numbers.rows[-1][3] == "0"
    assert "11,976 are positives; 69,035 are hard negatives, and 436 were hidden or reported" in text_of(
        funnel(output.inputs())
    )


def test_a_surface_that_abstains_says_why(output: Output) -> None:
    found = row(table_of(examination(output.inputs())), "search")
    assert found[3] == "none: every position counts as looked at"
    assert (
        "no estimator has an estimate: harvested abstains, as every impression of the surface has the same position"
        in found[5]
    )


def test_the_curve_that_is_used_has_its_intervals_in_the_numbers(output: Output) -> None:
    (plot,) = plots_of(examination(output.inputs()))
    assert plot.numbers.rows[2] == ("feed", "2", "0.400", "0.350 to 0.450")
    assert "feed from 0.90 at position 0 to 0.30 at 3" in plot.description


def test_thresholds_are_those_of_the_surface(output: Output) -> None:
    section = dwell(output.inputs())
    assert table_of(section).rows == [("feed", "250", "4,000", "460", "–")]
    (plot,) = plots_of(section)
    shares = [float(row[3].rstrip("%")) for row in plot.numbers.rows]
    assert abs(sum(shares) - 100) < 0.2
    assert "min_dwell_ms 460, offered" in plot.wide


def test_a_threshold_of_a_surface_goes_over_that_of_all(output: Output) -> None:
    from scrollpast.report.dwell import used_ms

    assert used_ms(output.inputs(), "search") == {"min_dwell_ms": 300.0, "max_dwell_ms": 4000.0}
    assert used_ms(output.inputs(), "feed") == {"min_dwell_ms": 250.0, "max_dwell_ms": 4000.0}


def test_negatives_are_counted_as_readers_see_them(output: Output) -> None:
    found = count_by_user(output.inputs().day)
    lengths = np.concatenate(
        [pc.list_value_length(batch["negative_ad_id"]).to_numpy() for batch in ShardReader([str(output.day)])]
    )
    assert found.num_users.tolist() == np.bincount(lengths).tolist()
    manifest = output.inputs().day.manifest
    assert found.num_users.sum() == manifest.num_records
    assert (
        found.num_users * np.arange(len(found.num_users))
    ).sum() == manifest.num_negatives - 1  # the revoked one


def test_a_sample_of_the_shards_says_that_it_is_one(output: Output) -> None:
    day = output.inputs().day
    found = count_by_user(day, most_bytes=day.manifest.shards[0].num_bytes)
    assert (found.num_shards, found.num_all_shards) == (1, 4)
    assert found.num_users.sum() == 30
    assert "sample" not in text_of(per_user(output.inputs()))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_the_least_number_that_so_many_users_do_not_exceed(
    lengths: list[int], level: float
) -> None:
    found = NegativesByUser(np.bincount(lengths), 1, 1).quantile(level)
    assert np.mean(np.array(lengths) <= found) >= level - 1e-9
    assert found == 0 or np.mean(np.array(lengths) <= found - 1) < level


def test_the_lorenz_curve_says_gini_and_the_top_1_percent(output: Output) -> None:
    section = exposure(output.inputs())
    (plot,) = plots_of(section)
    assert "Gini coefficient 0.679" in plot.description
    assert "the top 1% of the ads have 20.53% of the negatives" in plot.description
    assert plot.numbers.rows[5] == ("50%", "12.50%")
    assert row(table_of(section), "without positives")[1:] == ("1,600", "300", "2,000", "33.33%", "50.00%")


def test_a_figure_out_of_its_band_is_told_with_the_band(output: Output) -> None:
    section = gate(output.inputs())
    assert "Outside the expected range: duplicate share." in text_of(section)
    found = row(table_of(section), "duplicate share")
    assert found[1:7] == ("40.000%", "700,000", "1.000%", "0.100% to 2.000%", "at most 30.000%", "out")
    assert row(table_of(section), "engagement rate")[6] == "in"
    (plot,) = plots_of(section)
    assert dict(plot.numbers.rows)["engagement rate"] == "−0.33"
    assert "3 figures with a band, 1 of them outside" in plot.description


def test_the_gate_says_what_it_went_by() -> None:
    def health(found: GateVerdict | None) -> Health:
        return Health(figures={}, lag_h=72.0, sketch=(), gate=found)

    assert verdict(None)[0] == verdict(health(None))[0] == "not judged"
    assert verdict(health(GateVerdict())) == (
        "passed",
        "fixed limits only: too few days before",
    )
    assert verdict(health(GateVerdict(trailing_days=("2026-11-20",)))) == (
        "passed",
        "compared with 1 day",
    )


def test_revocations_are_counted_by_reason(output: Output) -> None:
    section = revocations(output.inputs(floor=1))
    number = output.inputs().day.manifest.num_negatives
    assert table_of(section).rows == [("long click", "1", f"{1 / number:.2%}", "1.5")]
    # The days of one negative are those of one user.
    assert table_of(revocations(output.inputs())).rows[0][-1] == "–"
    assert text_of(section).startswith(f"1 negative of {number:,}")


@pytest.mark.slow
def test_a_day_never_searched_for_revocations_differs_from_one_where_none_were_found(output: Output) -> None:
    output.change(revocation_file=None, num_revoked=0)
    for as_of, said, tile in (
        (None, "Never searched: no search", ("–", "never searched")),
        (
            "2026-12-01T12:30:00+00:00",
            "None as of 2026-12-01 12:30 UTC",
            ("0", "as of 2026-12-01 12:30 UTC"),
        ),
    ):
        output.change(revocations_as_of=as_of)
        inputs = output.inputs()
        (missing,) = revocations(inputs).blocks
        assert isinstance(missing, Missing)
        assert missing.reason.startswith(said)
        assert "jobs/revoke_negatives.py" in missing.command
        (shown,) = (one for one in compose(inputs).tiles.tiles if one.label == "revoked")
        assert (shown.value, shown.note) == tile


def test_the_trend_has_no_revoked_share_of_a_day_that_was_never_searched(output: Output) -> None:
    (plot,) = plots_of(trend(output.inputs()))
    place = list(plot.numbers.columns).index("revoked")
    number = output.inputs().day.manifest.num_negatives
    assert [cells[place] for cells in plot.numbers.rows] == ["–", f"{1 / number:.2%}"]


def test_revocations_say_when_the_last_search_was(output: Output) -> None:
    assert "The last search" not in text_of(revocations(output.inputs()))
    output.change(revocations_as_of="2026-12-01T12:30:00+00:00")
    assert "The last search was as of 2026-12-01 12:30 UTC." in text_of(revocations(output.inputs()))


def test_a_comparison_shows_differences_and_verdicts(output: Output) -> None:
    section = comparison(output.inputs())
    assert row(table_of(section), "recall@100")[1:] == (
        "random", "0.2000", "0.1000 to 0.3000", "–", "–", "baseline",
    )  # fmt: skip
    (plot,) = plots_of(section)
    assert plot.numbers.rows[0] == (
        "recall@100", "filtered, 2 own", "+0.0200", "−0.0040 to +0.0600", "better",
    )  # fmt: skip
    assert "served share in top 100, lower is better" in plot.wide
    assert "Left out: naive, it needs days of the set naive." in text_of(section)


def test_training_shows_loss_sources_and_metrics(output: Output) -> None:
    section = training(output.inputs())
    loss, sources, recall = plots_of(section)
    assert loss.numbers.rows == [("1", "6.0000"), ("2", "5.0000"), ("3", "4.0000")]
    assert sources.numbers.columns == ("step", "hard", "in batch")
    assert recall.numbers.rows == [("3", "0.2100")]
    assert table_of(section).rows == [
        ("recall@100", "0.2284", "0.2114 to 0.2465", "1,907"),
        ("auc, new ads", "–", "–", "–"),
    ]


def test_a_run_without_an_evaluation_says_how_to_have_one(output: Output) -> None:
    (output.root / "run" / "checkpoints" / "step=00000003" / "metrics.json").unlink()
    (missing,) = (block for block in training(output.inputs()).blocks if isinstance(block, Missing))
    assert missing.command == job_command("evaluate_two_tower", output.root / "run", "DAY")


def test_long_curves_are_thinned_in_the_numbers_and_end_at_the_last_step(output: Output) -> None:
    inputs = output.inputs()
    points = [{"step": step, "loss": 1 / step} for step in range(1, 1001)]
    run = replace(inputs.runs[0], points=points)
    loss, *_ = plots_of(training(replace(inputs, runs=[run])))
    assert 1 < len(loss.numbers.rows) <= 40
    assert loss.numbers.rows[-1][0] == "1,000"
    assert "one of 25 steps" in loss.numbers.caption


def test_the_trend_has_a_row_a_day(output: Output) -> None:
    (plot,) = plots_of(trend(output.inputs()))
    assert [cells[0] for cells in plot.numbers.rows] == [BEFORE, DS]
    latest = dict(zip(plot.numbers.columns, plot.numbers.rows[-1], strict=True))
    total = sum(LEDGER.values())
    assert latest["impressions"] == f"{total:,}"
    assert latest["engagement rate"] == f"{LEDGER['positive'] / (total - LEDGER['invalid']):.2%}"
    assert latest["not examined"] == f"{LEDGER['not_examined'] / total:.2%}"
    assert "bot" not in latest


# Purity


def test_purity_is_told_by_yield_and_where_there_are_too_few_nothing_is(output: Output) -> None:
    section = purity(output.inputs())
    (plot,) = plots_of(section)
    assert plot.numbers.columns == ("kept first", "10%", "50%", "80%")
    assert row(plot.numbers, "defaults: largest weights")[1:] == ("98.70%", "91.10%", "–")
    assert row(table_of(section), "defaults")[1:] == ("154,958", "72.66%", "2.04%")
    assert "Not of this day: 3 simulated logs of 2,000,000 impressions" in text_of(section)
