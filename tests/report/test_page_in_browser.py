"""The report as people have it: opened from disk in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scrollpast.outcomes import Outcome
from scrollpast.report.cli import write_report
from scrollpast.shards.manifest import Manifest, read_manifest
from tests.report.browser import Browser, Page
from tests.report.published import EXPOSURE, RECALL, Output, make_output

pytestmark = pytest.mark.chromium

WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
ROWS = """selector => [...document.querySelectorAll(selector + ' tr')].map(
    row => [...row.cells].map(cell => cell.textContent.trim()))"""
TEXT_CONTRASTS = """(() => {
    const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = colour => {
        context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = rgba(getComputedStyle(at).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const own = luminance(rgba(element.closest('svg') ? style.fill : style.color));
        const other = luminance(behind(element));
        const ratio = (Math.max(own, other) + 0.05) / (Math.min(own, other) + 0.05);
        found.push([ratio, walker.currentNode.data.trim().slice(0, 40)]);
    }
    return found;
})()"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Output:
    output = make_output(tmp_path_factory.mktemp("output"))
    assert write_report(output.arguments()) == 0
    return output


@pytest.fixture(scope="module")
def manifest(output: Output) -> Manifest:
    return read_manifest(str(output.day))


@pytest.fixture(
    params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=lambda p: f"{p[0]}-{p[1]}"
)
def any_page(browser: Browser, output: Output, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, scheme = request.param
    page = browser.open(output.root / "report.html", width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    yield page
    page.close()


@pytest.fixture(scope="module")
def page(browser: Browser, output: Output) -> Iterator[Page]:
    page = browser.open(output.root / "report.html", width=1280)
    yield page
    page.close()


def rows_of(page: Page, selector: str) -> list[list[str]]:
    """The cells of a table's rows, its head and foot among them."""
    return list(page.evaluate(f"({ROWS})({selector!r})"))


def tiles_of(page: Page) -> dict[str, str]:
    return dict(
        page.evaluate(
            "[...document.querySelectorAll('.tiles > div')].map(tile => [tile.querySelector('dt').textContent,"
            " tile.querySelector('.value').textContent])"
        )
    )


def test_the_browser_has_nothing_to_complain_of_and_nothing_to_fetch(any_page: Page, output: Output) -> None:
    assert any_page.events("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    asked = {
        event["request"]["url"].partition(":")[0] for event in any_page.events("Network.requestWillBeSent")
    }
    assert asked <= {"file", "data"}
    documents = [
        event["request"]["url"]
        for event in any_page.events("Network.requestWillBeSent")
        if event["request"]["url"].startswith("file")
    ]
    assert documents == [(output.root / "report.html").as_uri()]


def test_the_page_is_as_wide_as_the_window(any_page: Page) -> None:
    # Held against the width that was asked for: a phone's window grows with what does not fit, and so would a
    # comparison with window.innerWidth.
    found = any_page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert found == [any_page.width, any_page.width]


def test_wide_tables_scroll_in_a_box_that_the_keyboard_reaches(browser: Browser, output: Output) -> None:
    page = browser.open(output.root / "report.html", width=390)
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth)"
        ".map(box => [box.tabIndex, box.getAttribute('role'), box.getAttribute('aria-label')])"
    )
    assert boxes
    assert all(index == 0 and role == "region" and label for index, role, label in boxes)
    page.close()


def test_no_picture_sticks_out_of_its_section(any_page: Page) -> None:
    outside = any_page.evaluate(
        """[...document.querySelectorAll('svg text')].filter(text => text.checkVisibility()).filter(text => {
            const box = text.getBoundingClientRect(), around = text.closest('section').getBoundingClientRect();
            return box.left < around.left || box.right > around.right || box.top < around.top
                || box.bottom > around.bottom;
        }).map(text => text.textContent)"""
    )
    assert outside == []


def test_every_figure_shows_one_of_its_two_pictures(any_page: Page) -> None:
    shown = any_page.evaluate(
        "[...document.querySelectorAll('figure')].map(figure => [...figure.querySelectorAll('svg')]"
        ".filter(svg => svg.checkVisibility()).length)"
    )
    assert len(shown) >= 10
    assert set(shown) == {1}


def test_text_stands_out_by_a_contrast_of_4_5(any_page: Page) -> None:
    found: list[list[Any]] = any_page.evaluate(TEXT_CONTRASTS)
    assert len(found) > 300
    assert [entry for entry in found if entry[0] < 4.5] == []


def test_a_dark_page_is_dark_in_its_pictures_too(browser: Browser, output: Output) -> None:
    looks = {}
    for scheme in SCHEMES:
        page = browser.open(output.root / "report.html", width=1280, scheme=scheme)
        looks[scheme] = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, "
            "getComputedStyle(document.querySelector('svg text')).fill]"
        )
        assert page.picture()[:8] == b"\x89PNG\r\n\x1a\n"
        page.close()
    assert looks["light"][0] != looks["dark"][0]
    assert looks["light"][1] != looks["dark"][1]


def test_the_funnel_holds_the_manifest_and_adds_up_to_the_impressions(page: Page, manifest: Manifest) -> None:
    _, *rows, total = rows_of(page, "#funnel table")
    shown = {row[0].replace(" ", "_"): int(row[1].replace(",", "")) for row in rows}
    assert shown == manifest.ledger
    assert list(shown) == [outcome.label for outcome in Outcome]
    assert sum(shown.values()) == int(total[1].replace(",", ""))
    assert rows[-1][3] == "0"


def test_the_tiles_hold_the_manifest(page: Page, manifest: Manifest) -> None:
    assert tiles_of(page) == {
        "impressions": f"{sum(manifest.ledger.values()):,}",
        "negatives": f"{manifest.num_negatives:,}",
        "positives": f"{manifest.num_positives:,}",
        "users": f"{manifest.num_records:,}",
        "revoked": "1",
        "gate": "1 out",
        "Gini over ads": f"{EXPOSURE['gini']:.3f}",
        "recall@100": f"{RECALL['mean']:.4f}",
    }


def test_who_does_not_see_finds_their_way(page: Page) -> None:
    assert page.evaluate("[document.documentElement.lang, document.title]") == [
        "en",
        "Hard negatives of 2026-11-21",
    ]
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(each => +each.tagName[1])"
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert page.evaluate(f"document.querySelectorAll('body > {landmark}').length") == 1
    unnamed = (
        "[...document.querySelectorAll('svg')].filter(svg => svg.role !== 'img' || !svg.ariaLabel).length"
    )
    assert page.evaluate(unnamed) == 0
    without_numbers = (
        "[...document.querySelectorAll('figure')].filter(f => !f.querySelector('details table')).length"
    )
    assert page.evaluate(without_numbers) == 0
    assert (
        page.evaluate("[...document.querySelectorAll('table')].filter(t => !t.caption.textContent).length")
        == 0
    )
    assert page.evaluate("document.querySelectorAll('th:not([scope])').length") == 0


def test_every_name_is_given_once_and_every_link_leads_somewhere(page: Page) -> None:
    names = page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(names) == len(set(names))
    links = page.evaluate("[...document.querySelectorAll('[href]')].map(each => each.getAttribute('href'))")
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= set(names)
    assert {link for link in links if not link.startswith("#")} == {"data:,"}


def test_the_first_key_leads_past_the_navigation(browser: Browser, output: Output) -> None:
    page = browser.open(output.root / "report.html", width=1280)
    page.press_tab()
    focus = "[document.activeElement.getAttribute('href'), document.activeElement.getBoundingClientRect().top >= 0]"
    assert page.evaluate(focus) == ["#content", True]
    page.close()


def test_a_report_of_a_day_alone_opens_as_well(browser: Browser, output: Output, tmp_path: Path) -> None:
    alone = tmp_path / "alone.html"
    write_report(output.arguments(run=[], comparison=None, examination=None, out=str(alone)))
    page = browser.open(alone, width=390)
    assert page.events("Runtime.exceptionThrown", "Log.entryAdded") == []
    missing = page.evaluate("[...document.querySelectorAll('.missing code')].map(code => code.textContent)")
    programs = {"estimate_examination", "compare_negatives", "train_two_tower"}
    assert {re.findall(r"jobs/(\w+)\.py", command)[0] for command in missing} == programs
    page.close()
