"""The page as text: the same bytes for the same input, escaped, and with every section whatever is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrollpast.report.cli import write_report
from scrollpast.report.page import compose, render
from tests.report.published import DS, EXAMINATION, Output, write_json

SECTIONS = [
    "funnel", "examination", "dwell", "per-user", "exposure", "gate", "revocations", "purity",
    "comparison", "training", "trend",
]  # fmt: skip


def section(html: str, name: str) -> str:
    return html.partition(f'<section id="{name}"')[2].partition("</section>")[0]


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(output: Output) -> None:
    first = render(compose(output.inputs()))
    assert render(compose(output.inputs())) == first


def test_the_file_needs_nothing_beside_it(output: Output) -> None:
    html = render(compose(output.inputs()))
    assert (
        re.findall(r"https?:|@import|<script|<link(?! rel=\"icon\" href=\"data:,\")|<img|<iframe", html) == []
    )
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_colours_are_those_of_the_style_sheet(output: Output) -> None:
    html = render(compose(output.inputs()))
    pictures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", pictures)) == set()
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert set(re.findall(r"var\((--[\w-]+)\)", pictures)) <= set(re.findall(r"(--[\w-]+):", style))


def test_text_from_outside_is_text(output: Output) -> None:
    hostile = '<script>alert("1")</script>'
    changed = {**EXAMINATION, "surfaces": {hostile: EXAMINATION["surfaces"]["feed"]}}
    write_json(output.root / "examination" / "examination.json", changed)
    html = render(compose(output.inputs()))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 5


def test_a_section_without_data_says_what_would_make_it(output: Output) -> None:
    output.change(
        config={}, health=None, exposure_file=None, revocation_file=None, num_revoked=0, ledger={"bot": 0}
    )
    (output.root / "negatives" / "ds=2026-11-20" / "manifest.json").unlink()
    page = compose(output.inputs(runs=[], comparison=None, examination=None, purity=None))
    assert [each.name for each in page.sections] == SECTIONS
    html = render(page)
    jobs = {
        "funnel": "mine_negatives", "examination": "estimate_examination", "dwell": "estimate_examination",
        "exposure": "mine_negatives", "gate": "mine_negatives", "revocations": "revoke_negatives",
        "comparison": "compare_negatives", "training": "train_two_tower", "trend": "mine_negatives",
    }  # fmt: skip
    for name, job in jobs.items():
        assert f"jobs/{job}.py" in section(html, name), name
    assert "scripts/bench/bench_quality.py" in section(html, "purity")
    assert "<svg" in section(html, "per-user")


def test_a_section_with_data_shows_it_as_a_picture_and_as_numbers(output: Output) -> None:
    html = render(compose(output.inputs()))
    for name in set(SECTIONS) - {"revocations"}:
        assert "<svg" in section(html, name), name
        assert "<details>" in section(html, name), name
    assert "<table>" in section(html, "revocations")


def test_the_report_lies_beside_the_day_if_no_place_is_named(
    output: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write_report(output.arguments(out=None)) == 0
    path = output.root / "negatives" / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out == f"Hard negatives of {DS}: 11 sections; wrote {path}\n"


def test_a_report_replaces_the_one_before_at_once(output: Output) -> None:
    path = output.root / "report.html"
    path.write_text("before", encoding="utf-8")
    write_report(output.arguments())
    assert path.read_text(encoding="utf-8") != "before"
    assert [each.name for each in Path(output.root).iterdir() if each.name.startswith(".")] == []
