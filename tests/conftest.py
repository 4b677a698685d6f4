"""Shared fixtures of the tests: a Spark session for each process, and the folder of the published logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parents[1]

LONGEST = (
    "jobs/dags/test_scrollpast_daily_runs.py",
    "cluster/test_submit.py",
    "jobs/test_train_two_tower.py",
    "jobs/test_spark_35.py",
    "jobs/test_mine_negatives_bad_input.py",
    "jobs/test_mine_negatives_same_bytes.py",
    "jobs/test_mine_neighbours.py",
    "training/test_ranks.py",
    "jobs/test_estimate_examination.py",
    "jobs/test_mine_negatives_hive.py",
    "jobs/test_compare_negatives.py",
    "scripts/test_chaos.py",
    "scripts/test_bench_generations.py",
    "privacy/test_rights.py",
)
"""Files that take more than a minute: workers that take whole files begin with them, so that none ends long after
the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    if missing := [str(path) for path in places if not path.exists()]:
        raise pytest.UsageError(f"LONGEST of {__file__}: expected files, found none at {', '.join(missing)}")
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.java)


# The first example of a test may compile a kernel: how long one takes says nothing about the code.
settings.register_profile("scrollpast", deadline=None)
settings.load_profile("scrollpast")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session on two cores that tries a task four times; jobs that run in this process use it as well."""
    from scrollpast.config import Spark
    from scrollpast.mining.spark.session import spark_session

    conf = {
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    with spark_session(Spark(master="local[2,4]", conf=conf), "tests", debug=False) as session:
        yield session


@pytest.fixture(scope="session")
def real_logs() -> Path:
    """The folder of real public logs: ``SCROLLPAST_DATA``, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("SCROLLPAST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real logs: {folder} is no folder (SCROLLPAST_DATA names another)")
    return folder
