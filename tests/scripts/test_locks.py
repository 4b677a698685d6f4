"""setup.py says what the code needs, scripts/env/locks what is installed: the two agree."""

from __future__ import annotations

import re
import runpy
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = REPOSITORY / "scripts" / "env/locks"
NAMES = sorted(path.stem for path in LOCKS.glob("*.txt"))

SHARED = ("mining", "training", "development", "report", "baselines")
"""The locks that scripts/test.sh puts into one environment."""

PLACES = {
    "core": SHARED,
    "spark": ("mining",),
    "train": ("mining", "training"),
    "neighbours": ("training",),
    "report": ("mining", "report"),
    "baselines": ("baselines",),
    "dag": ("airflow",),
    "dev": ("mining", "development"),
}
STAND_INS = {"fbgemm-gpu": "fbgemm-gpu-cpu"}
"""Required by name, provided by another package: the CPU build."""


def lines(name: str) -> list[str]:
    return (LOCKS / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def pins(*names: str) -> dict[str, str]:
    pinned = (line.partition("==") for name in names for line in lines(name) if not line.startswith("#"))
    return {package: version for package, _, version in pinned}


def requirements() -> list[tuple[str, Requirement]]:
    setup = runpy.run_path(str(REPOSITORY / "setup.py"))
    by_extra = {"core": setup["CORE"], **setup["EXTRAS"]}
    return [(extra, Requirement(text)) for extra, texts in by_extra.items() for text in texts]


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_says_why_and_then_pins_one_package_a_line(name: str) -> None:
    assert lines(name)[0].startswith("# ")
    body = [line for line in lines(name) if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*", line) for line in body)
    assert len(pins(name)) == len(body)


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_names_no_place_to_download_from(name: str) -> None:
    assert not re.search(r"://|--index|--find-links", "\n".join(lines(name)))


@pytest.mark.parametrize(
    ("extra", "requirement"), [pytest.param(*pair, id=f"{pair[0]}-{pair[1].name}") for pair in requirements()]
)
def test_what_setup_py_asks_for_is_pinned_at_a_version_it_accepts(
    extra: str, requirement: Requirement
) -> None:
    pinned = pins(*PLACES[extra])[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), f"{requirement} and {pinned}"


def test_every_extra_has_its_locks() -> None:
    assert {extra for extra, _ in requirements()} == set(PLACES)


def test_locks_that_share_an_environment_agree() -> None:
    for package, version in pins(*SHARED).items():
        assert {pins(name).get(package, version) for name in SHARED} == {version}, package


def test_spark_35_stands_in_for_the_newest_and_nothing_else_differs() -> None:
    newest = pins("mining", "development")
    differing = {name: version for name, version in pins("spark35").items() if newest[name] != version}
    assert set(differing) == {"pyspark", "py4j"}
    (spark,) = (need for extra, need in requirements() if extra == "spark" and need.name == "pyspark")
    assert spark.specifier.contains(differing["pyspark"])


@pytest.mark.parametrize(
    "names",
    [
        ("mining",),
        ("mining", "training"),
        ("mining", "training", "baselines"),
        ("mining", "development"),
        ("mining", "report"),
    ],
    ids="+".join,
)
def test_locks_are_complete_though_installed_without_dependencies(names: tuple[str, ...]) -> None:
    pinned = pins(*names)
    missing = []
    for package in pinned:
        try:
            needs = distribution(package).requires or []
        except PackageNotFoundError:
            continue  # another half's lock, which is not installed here
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                name = canonicalize_name(need.name)
                version = pinned.get(STAND_INS.get(name, name))
                if version is None or not need.specifier.contains(version):
                    missing.append(f"{package} needs {need}, pinned: {version}")
    assert missing == []
