#!/usr/bin/env python3
"""Effect of the exposure guard over generations of train → serve → log → mine, with the guard on and off.

A simulated funnel serves the first day. Then, for each day, the log is mined and a retriever is trained from scratch on
all days so far. Most of each user's pool for the next day are the retriever's nearest ads; the rest (--explored) is the
funnel's own draw. New ads appear every day. The measure is recall by the simulation's truth, because only shown ads
can get clicks: of the 50 live ads that a user wants most when the day begins, the share among the retriever's first
100. An ad is new if it was created in the 48 h before. Other ads are head or tail by the world's popularity, which does
not depend on the ads shown.

The guard against exposure is a quarantine for new ads (mining.exposure.new_ad_quarantine_h), and a floor under the
probability of rare ads among the random negatives (training.negatives.random.tail_floor). Without the guard, random
negatives are drawn by popularity alone. A served negative weighs 1 here (--hard-weight), as much as a positive of
another anchor. At the product's default of 0.01 served negatives would hardly change the shown ads, guard or not.

Days are mined 24 h after their end, so that labels are final, but served at once: the simulation omits the wait.
With --out DIR a run that was stopped resumes; an unfinished generation starts again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scripts.bench.benchmarking import RESULTS, save, seeds
from scripts.bench.generations_figures import NEW_H, SEARCHED, WANTED, Found, plot, render

from scrollpast.ann_index.index import AdIndex
from scrollpast.argument_types import number, whole_number
from scrollpast.cli_runner import run_job
from scrollpast.config import InputTable, load_config
from scrollpast.errors import UserError
from scrollpast.mining.pipeline import mine
from scrollpast.mining.spark.session import spark_session
from scrollpast.mining.vocabulary.build import build_vocabulary
from scrollpast.shards.filesystem import resolve, write_atomically
from scrollpast.shards.reader import ShardReader
from scrollpast.simulation.log import LogRequest, calibrate_intercept, simulate_log
from scrollpast.simulation.shape import LogShape, shape_from
from scrollpast.simulation.world import DAY_US, World, build_world
from scrollpast.training.cli import ENDED_BY_SIGTERM, train_to_the_end
from scrollpast.training.engine.checkpoint import chosen_checkpoint
from scrollpast.training.engine.console import silence_libraries
from scrollpast.training.engine.distributed import process_group
from scrollpast.training.export.towers import write_export
from scrollpast.training.serving.export_files import read_ad_embeddings
from scrollpast.training.serving.user_tower import UserTower

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LAST_DAY = date(2026, 11, 20)
POOL = 64
SAMPLE = 500
HOUR_US = 3_600_000_000
SHAPE = (
    *("duplicates=0", "broken=0", "bot_rows=0", "new_ad_share=0.4", "ads_exponent=0.6"),
    *("served_relevance=0.2", "share_of_users_who_click=1", "impressions_per_user=200", f"pool_ads={POOL}"),
)
TRAINING = (
    *("data.batch_size=256", "epochs=1000", "model.embedding_dim=32", "model.output_dim=32"),
    *("optimizer.warmup_steps=20", "checkpoints.every_steps=1000000", "log_every_steps=1000000"),
    "negatives.random.alpha=0.75",
)
QUARANTINE_H = 72


@dataclass(frozen=True)
class Arm:
    """Options of mining and training that an arm changes."""

    name: str
    mining: tuple[str, ...] = ()
    training: tuple[str, ...] = ()


ARMS = (
    Arm("guard off"),
    Arm(
        "guard on",
        (f"mining.exposure.new_ad_quarantine_h={QUARANTINE_H}",),
        ("negatives.random.tail_floor=0.5",),
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench_generations.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("--rows", type=whole_number(1), default=100_000, metavar="N", help="impressions a day (1e5)")
    option("--generations", type=whole_number(1), default=5, metavar="N", help="generations of an arm (5)")
    option("--seeds", type=seeds, default="1,2,3", metavar="S,S", help="one world a seed (1,2,3)")
    option(
        "--steps",
        type=whole_number(1),
        default=100,
        metavar="N",
        help="steps of every training, from scratch (100)",
    )
    option(
        "--hard-weight",
        type=number(1e-6, 1e6),
        default=1.0,
        metavar="W",
        help="weight of a served negative (1.0)",
    )
    option(
        "--explored",
        type=number(0, 1),
        default=0.25,
        metavar="S",
        help="share of pools left to the funnel (0.25)",
    )
    option("--out", type=Path, metavar="DIR", help="keep logs, days, runs and figures there")
    option("--results", type=Path, default=RESULTS, help="folder of table and plot (scripts/bench/results)")
    return run_job(parser, compare)


def compare(arguments: argparse.Namespace) -> int:
    silence_libraries()
    torch.set_num_threads(1)  # batches are small, and results do not depend on the number of cores
    found: Found = {arm.name: [] for arm in ARMS}
    with (
        tempfile.TemporaryDirectory(prefix="scrollpast-generations-") as temporary,
        spark_session(load_config(None).spark, "bench_generations", debug=arguments.debug) as spark,
        # Training runs in this process: thirty separate jobs would spend more time on imports than on training.
        process_group("cpu") as device,
    ):
        folder = arguments.out or Path(temporary)
        _keep_settings(arguments, folder)
        for seed in arguments.seeds:
            for arm in ARMS:
                place = folder / f"seed-{seed}" / arm.name.replace(" ", "-")
                loop = Loop(arm, place, arguments, seed, spark, device)
                found[arm.name].append(
                    [loop.generation(number) for number in range(1, arguments.generations + 1)]
                )
    table = render(found)
    print(table)
    save(arguments.results, "generations", table, {"arms": found})
    plot(found, arguments.results / "generations.svg")
    return 0


@dataclass
class Loop:
    """One arm in one world."""

    arm: Arm
    place: Path
    arguments: argparse.Namespace
    seed: int
    spark: SparkSession
    device: torch.device
    request: LogRequest = field(init=False)
    world: World = field(init=False)
    popularity: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        num_days, rows = self.arguments.generations + 1, self.arguments.rows
        shape = shape_from([*SHAPE, f"rows_per_file={rows}"])
        self.request = LogRequest(rows * num_days, num_days, LAST_DAY, self.seed, shape)
        self.world = _world(self.request, shape)
        self.popularity = _popularity(self.world)

    def generation(self, number: int) -> dict[str, float]:
        """Mine the day before, train, serve the day, measure; returns the figures, from an earlier run where kept."""
        kept = self.place / f"generation-{number}.json"
        if kept.exists():
            return dict(json.loads(kept.read_text()))
        # Files of an interrupted generation would leak the log of a later day.
        for path in self.place.glob(f"log/*/day-{number}.parquet"):
            path.unlink()
        if number == 1:
            self._simulate(0)
        day = self._mine(number - 1)
        export = self._train(number)
        figures = self._serve(number, export)
        self._simulate(number)
        figures |= self._shown(number) | {"new_negatives": self._new_among_negatives(day)}
        write_atomically(*resolve(str(kept)), json.dumps(figures).encode())
        print(
            f"seed {self.seed}, {self.arm.name}, generation {number}: {figures}", file=sys.stderr, flush=True
        )
        return figures

    def _day(self, number: int) -> date:
        return LAST_DAY - timedelta(days=self.request.num_days - 1 - number)

    def _starts_us(self, number: int) -> int:
        return self.request.first_us + number * DAY_US

    def _simulate(self, number: int) -> None:
        """Simulate the log of a day into files beside those of the days before."""
        retrieved = self.place / f"retrieved-{number}.npy" if number else None
        drawn = self.place / f"drawn-{number}"
        simulate_log(replace(self.request, only_day=number, retrieved=retrieved), drawn, overwrite=True)
        for name in ("engagements", "impressions"):
            (part,) = (drawn / name).iterdir()
            (self.place / "log" / name).mkdir(parents=True, exist_ok=True)
            part.rename(self.place / "log" / name / f"day-{number}.parquet")
        # Nobody knows an ad before it is there.
        ads = pq.read_table(drawn / "ads")
        is_there = pc.less(ads["created_at"].cast("int64"), self._starts_us(number + 1))
        (self.place / f"ads-{number}").mkdir(exist_ok=True)
        pq.write_table(ads.filter(is_there), self.place / f"ads-{number}" / "part-0.parquet")

    def _mine(self, number: int) -> str:
        """A day, with final labels of clicks."""
        tables = {name: self.place / "log" / name for name in ("impressions", "engagements")}
        tables["ads"] = self.place / f"ads-{number}"
        config = load_config(
            None,
            [
                *(f"input.{name}.path={path}" for name, path in tables.items()),
                f"output.path={self.place / 'days'}",
                "mining.num_buckets=4",
                # The gate is off: every day differs from the day before, because another retriever served it.
                "gate.enabled=false",
                *self.arm.mining,
            ],
        )
        day = self._day(number)
        as_of = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=2)
        return mine(config, day, 1, as_of, lambda: self.spark).uri

    def _train(self, number: int) -> Path:
        """Train a retriever on all days before this day; returns the folder of its export."""
        days = [str(self.place / "days" / f"ds={self._day(before)}") for before in range(number)]
        vocabulary = build_vocabulary(
            load_config(None),
            days,
            InputTable(path=str(self.place / f"ads-{number - 1}")),
            lambda: self.spark,
            features=["advertiser_id", "category_id"],
            num_user_rows=16_384,
        )
        uri = vocabulary.write(str(self.place))
        settings = [
            *TRAINING,
            *self.arm.training,
            f"seed={self.seed}",
            f"max_steps={self.arguments.steps}",
            f"negatives.hard.weight={self.arguments.hard_weight}",
        ]
        options = load_config(None, [f"training.{setting}" for setting in settings]).training
        trained, export = self.place / f"run-{number}", self.place / f"export-{number}"
        for folder in (trained, export):
            shutil.rmtree(folder, ignore_errors=True)
        outcome = train_to_the_end(options, days, vocabulary, uri, str(trained), self.device)
        if outcome.reason == "stopped":
            raise SystemExit(ENDED_BY_SIGTERM)
        checkpoint = chosen_checkpoint(str(trained), options.evaluation.metric)
        write_export(
            checkpoint, vocabulary, str(export), lambda ad_RD: AdIndex.build(ad_RD, "flat"), index_kind="flat"
        )
        return export

    def _serve(self, number: int, export: Path) -> dict[str, float]:
        """Put the nearest ads into the users' pools of the day; returns recall of the ads that users want most."""
        num_alive = int(np.searchsorted(self.world.ad_created_us, self._starts_us(number), side="right"))
        tower, ad_RD = UserTower.load(str(export)), read_ad_embeddings(str(export))
        # Rows in the vocabulary of the live ads, in the order of the world; the vocabulary holds them since yesterday.
        ids = tower.ad_ids(np.arange(len(ad_RD)))
        row_of = np.zeros(self.world.ad_created_us.size + 1, np.int64)
        row_of[ids] = np.arange(len(ids))
        rows = row_of[1 : num_alive + 1]
        num_users = self.world.user_keep.size
        histories = self._histories(number)
        user_UD = tower(np.arange(1, num_users + 1), histories, {}).numpy()
        scores_UA = np.where(rows > 0, user_UD @ ad_RD[rows].T, -np.inf)
        nearest_UK = np.argsort(-scores_UA, axis=1, kind="stable")[:, :SEARCHED]
        pools = np.full((num_users, POOL), -1, np.int32)
        num_retrieved = POOL - round(POOL * self.arguments.explored)
        pools[:, :num_retrieved] = nearest_UK[:, :num_retrieved]
        np.save(self.place / f"retrieved-{number}.npy", pools)
        return self._recalls(nearest_UK, number, num_alive)

    def _histories(self, number: int) -> list[list[int]]:
        """The positives of every user on the days before, oldest first."""
        found: list[list[int]] = [[] for _ in range(self.world.user_keep.size)]
        for before in range(number):
            day = str(self.place / "days" / f"ds={self._day(before)}")
            for batch in ShardReader([day], features=["user_id", "positive_ad_id"]):
                for user, ads in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    found[user - 1] += ads
        return found

    def _recalls(self, nearest_UK: NDArray[np.int64], number: int, num_alive: int) -> dict[str, float]:
        """Share of the ads that users want most among the nearest ads, by slice of the wanted ads."""
        world, spread = self.world, self.request.shape.relevance_spread
        random = np.random.Generator(np.random.Philox(key=[self.seed, 2]))
        users = np.sort(random.choice(len(nearest_UK), min(SAMPLE, len(nearest_UK)), replace=False))
        odds_UA = (
            spread * world.user_vector[users] @ world.ad_vector[:num_alive].T + world.ad_quality[:num_alive]
        )
        wanted_UW = np.argsort(-odds_UA, axis=1, kind="stable")[:, :WANTED]
        is_found_UW = (wanted_UW[:, :, None] == nearest_UK[users][:, None, :]).any(axis=2)
        is_new = world.ad_created_us[:num_alive] >= self._starts_us(number) - NEW_H * HOUR_US
        is_head = self.popularity[:num_alive] > np.median(self.popularity)
        slices = {
            "all": np.ones(num_alive, np.bool_),
            "new": is_new,
            "tail": ~is_new & ~is_head,
            "head": ~is_new & is_head,
        }
        found = {}
        for name, of_slice in slices.items():
            counts = of_slice[wanted_UW]
            has_some = counts.any(axis=1)
            found[name] = float(
                ((is_found_UW & counts).sum(axis=1)[has_some] / counts.sum(axis=1)[has_some]).mean()
            )
        return found

    def _shown(self, number: int) -> dict[str, float]:
        """Distribution of the day's impressions over the live ads."""
        shown = pq.read_table(self.place / "log" / "impressions" / f"day-{number}.parquet", columns=["ad_id"])
        created_us = self.world.ad_created_us
        num_alive = int(np.searchsorted(created_us, self._starts_us(number + 1)))
        counts = np.bincount(shown["ad_id"].to_numpy() - 1, minlength=num_alive)
        lorenz = np.cumsum(np.sort(counts)) / counts.sum()
        is_new = created_us[:num_alive] >= self._starts_us(number) - NEW_H * HOUR_US
        return {
            "shown": float((counts > 0).mean()),
            "new_shown": float(counts[is_new].sum() / counts.sum()),
            "gini": float(1 + 1 / num_alive - 2 * lorenz.mean()),
        }

    def _new_among_negatives(self, day: str) -> float:
        """The share of a day's negatives whose ad was younger than the quarantine when it was served."""
        names = ["negative_ad_id", "negative_served_at_ms"]
        ads, served_ms = (
            np.concatenate([batch[name].flatten().to_numpy() for batch in ShardReader([day], features=names)])
            for name in names
        )
        age_us = served_ms * 1000 - self.world.ad_created_us[ads - 1]
        return float((age_us < QUARANTINE_H * HOUR_US).mean())


def _keep_settings(arguments: argparse.Namespace, folder: Path) -> None:
    """Save the settings in the folder, and refuse a folder with figures of other settings."""
    names = ("rows", "generations", "steps", "hard_weight", "explored")
    settings = {name: getattr(arguments, name) for name in names}
    path = folder / "settings.json"
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists() and (kept := json.loads(path.read_text())) != settings:
        raise UserError(
            f"--out {folder}",
            expected=f"figures of {settings}",
            found=f"of {kept}",
            remedy="pass another folder, or the same options",
        )
    path.write_text(json.dumps(settings))


def _world(request: LogRequest, shape: LogShape) -> World:
    intercept = calibrate_intercept(request)
    return build_world(shape, request.num_rows, request.first_us, request.num_days, request.seed, intercept)


def _popularity(world: World) -> NDArray[np.float64]:
    """Probability of every ad in the funnel's own draws, from the funnel's alias table."""
    share = world.ad_keep.copy()
    np.add.at(share, world.ad_other, 1 - world.ad_keep)
    return np.asarray(share / len(share))


if __name__ == "__main__":
    sys.exit(main())
