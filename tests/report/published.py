"""Everything that a report can be made from, made up: days, an examination, a run, a comparison."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scrollpast.report.inputs import Inputs, read_inputs
from scrollpast.shards.manifest import publish_manifest, read_manifest
from scrollpast.shards.revocations import SCHEMA, write_revocations
from tests.training.data.days import records, write_day

DS = "2026-11-21"
BEFORE = "2026-11-20"
LEDGER = {
    "invalid": 1_234, "suppressed": 0, "unanchored": 572_026, "duplicate": 4_769, "bot": 0, "positive": 11_976,
    "explicit_negative": 436, "immature": 365_598, "engaged_elsewhere": 19_713, "not_examined": 156_170,
    "lingered": 44_052, "too_new": 17, "repeat": 78_087, "over_cap": 3, "negative": 69_035,
}  # fmt: skip
EXPOSURE = {
    "schema_version": 1, "catalogue": "ads", "num_ads": 2_000, "num_negatives": 6_000, "num_positives": 900,
    "share_of_ads_with_negatives": 0.75, "gini": 0.6789, "top_1_percent_share": 0.2053,
    "lorenz": {
        "ads": [round(x, 2) for x in np.linspace(0, 1, 101)],
        "negatives": [round(x**3, 6) for x in np.linspace(0, 1, 101)],
    },
    "slices": {
        name: {"num_ads": n, "num_negatives": 2_000, "num_positives": 300, "share_of_ads_with_negatives": 0.5}
        for name, n in (("head", 100), ("tail", 300), ("without_positives", 1_600))
    },
}  # fmt: skip
HEALTH = {
    "figures": {
        "impressions": {"value": 1_323_116.0, "cases": None},
        "engagement_rate": {"value": 0.009, "cases": 1_321_882},
        "duplicate_share": {"value": 0.4, "cases": 700_000},
    },
    "lag_h": 72.0,
    "sketch": "",
    "gate": {
        "trailing_days": ["2026-11-13", "2026-11-14", "2026-11-20"],
        "breaches": [{"figure": "duplicate_share", "value": 0.4, "low": 0.001, "high": 0.02, "median": 0.01}],
        "bands": {
            "impressions": {"median": 1_300_000.0, "low": 900_000.0, "high": 1_800_000.0},
            "engagement_rate": {"median": 0.01, "low": 0.007, "high": 0.013},
            "duplicate_share": {"median": 0.01, "low": 0.001, "high": 0.02},
        },
    },
}
CONFIG = {
    "mining": {
        "negatives_per_user": 64,
        "examined": {
            "min_dwell_ms": 250, "max_dwell_ms": 4000, "table": None,
            "surfaces": {"search": {"min_dwell_ms": 300, "max_dwell_ms": None}},
        },
    },
    "gate": {"bounds": {"duplicate_share": {"low": None, "high": 0.3}}},
}  # fmt: skip
EXAMINATION: dict[str, Any] = {
    "schema_version": 1,
    "ds": DS,
    "surfaces": {
        "feed": {
            "num_impressions": 194_544,
            "chosen": "harvested",
            "why": "fewest assumptions of the estimators that are precise enough",
            "estimates": {
                "harvested": {
                    "estimator": "harvested", "positions": [0, 1, 2, 3], "probability": [0.9, 0.6, 0.4, 0.3],
                    "low": [0.8, 0.5, 0.35, 0.2], "high": [1.0, 0.7, 0.45, 0.4], "num_clicks": 4_557, "level": "dwell",
                }
            },
            "abstained": {"randomised": "no slot was filled at random (is_random)"},
            "dwell": {"shares": [0.4, 0.6], "means": [4.9, 7.1], "spreads": [0.5, 0.5]},
            "dwell_histogram": {
                "dwell_ms": np.expm1((np.arange(320) + 0.5) / 20).round(1).tolist(),
                "num_impressions": np.exp(-(((np.arange(320) - 120) / 30) ** 2)).round(4).tolist(),
            },
            "thresholds_ms": {"min_dwell_ms": 460},
        },
        "search": {
            "num_impressions": 77, "chosen": None, "why": "no estimator has an estimate", "estimates": {},
            "abstained": {"harvested": "every impression of the surface has the same position"}, "dwell": None,
            "dwell_histogram": {"dwell_ms": [1.0, 2.0], "num_impressions": [0.0, 0.0]}, "thresholds_ms": {},
        },
    },
}  # fmt: skip
COMPARISON: dict[str, Any] = {
    "schema_version": 1,
    "baseline": {"arm": "random", "ratio": 0},
    "level": 0.95,
    "num_verdicts": 3,
    "metrics": {"recall@100": {"better": "higher"}, "served share in top 100": {"better": "lower"}},
    "seeds": [0, 1], "num_users": 256, "num_new_users": 107, "num_ads": 2_297,
    "days": {"filtered": ["ds=2026-11-20"]}, "evaluated_on": ["ds=2026-11-21"], "vocabulary": "0123",
    "notes": ["one seed"], "skipped": [{"arm": "naive", "reason": "it needs days of the set naive"}],
    "rows": [
        {
            "metric": metric, "arm": arm, "ratio": ratio, "value": 0.2 + 0.01 * ratio, "low": 0.1, "high": 0.3,
            "num_users": 256, "num_seeds": 2, "seed_deviation": 0.01,
            "difference": None if arm == "random" else 0.01 * ratio,
            "difference_low": None, "difference_high": None,
            "joint_low": None if arm == "random" else -0.004,
            "joint_high": None if arm == "random" else 0.06,
            "verdict": None if arm == "random" else verdict,
        }
        for metric, verdict in (("recall@100", "better"), ("served share in top 100", "worse"))
        for arm, ratio in (("random", 0), ("filtered", 2))
    ],
}  # fmt: skip
PURITY: dict[str, Any] = {
    "num_logs": 3,
    "num_rows": 2_000_000,
    "arms": {
        "naive": {"num_negatives": 213_258, "share_of_naive": 1.0, "false_share": 0.0673},
        "defaults": {"num_negatives": 154_958, "share_of_naive": 0.7266, "false_share": 0.0204},
    },
    "yields": [0.1, 0.5, 0.8],
    "purity": {"naive: any": [0.351, 0.351, 0.351], "defaults: largest weights": [0.987, 0.911, None]},
}
RECALL = {"mean": 0.2284, "low": 0.2114, "high": 0.2465, "num_users": 1_907}


@dataclass(frozen=True)
class Output:
    """Files of an output, by their folder."""

    root: Path

    @property
    def day(self) -> Path:
        return self.root / "negatives" / f"ds={DS}"

    def inputs(self, *days: Path, **named: Any) -> Inputs:
        """Inputs of a report on the day, or on these days: every existing file, unless ``named`` overrides it."""
        given = {
            "runs": [str(self.root / "run")],
            "comparison": str(self.root / "comparison"),
            "examination": str(self.root / "examination"),
            "purity": str(self.root / "quality.json"),
        } | named
        return read_inputs([str(day) for day in days or (self.day,)], **given)

    def arguments(self, **named: Any) -> Namespace:
        """The command line that names all that is there."""
        given = {
            "days": [str(self.day)],
            "run": [str(self.root / "run")],
            "comparison": str(self.root / "comparison"),
            "examination": str(self.root / "examination"),
            "purity": str(self.root / "quality.json"),
            "out": str(self.root / "report.html"),
            "floor": None,
        }
        return Namespace(**(given | named))

    def change(self, **fields: Any) -> None:
        """Replace fields of the day's manifest."""
        publish_manifest(str(self.day), replace(read_manifest(str(self.day)), **fields), replace=True)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def make_output(root: Path) -> Output:
    """Two days of 120 users, of which the later one has revocations, and everything made from them."""
    output = Output(root)
    random = np.random.Generator(np.random.Philox(3))
    shards = [records(random, 100 * shard, 30) for shard in range(4)]
    write_day(root / "negatives", shards, ds=BEFORE)
    write_day(root / "negatives", shards, ds=DS)
    earlier = root / "negatives" / f"ds={BEFORE}"
    half = {name: number // 2 for name, number in LEDGER.items()}
    publish_manifest(str(earlier), replace(read_manifest(str(earlier)), ledger=half), replace=True)
    write_json(output.day / "exposure" / "part-0.json", EXPOSURE)
    user = next(row for row in shards[0] if row["negative_ad_id"])
    revoked = pa.Table.from_pylist(
        [
            {
                "user_id": user["user_id"],
                "ad_id": user["negative_ad_id"][0],
                "served_at_ms": user["negative_served_at_ms"][0],
                "bucket": 0,
                "reason": "long_click",
                "engaged_at_ms": user["negative_served_at_ms"][0] + 36 * 3_600_000,
            }
        ],
        schema=SCHEMA,
    )
    output.change(
        ledger=LEDGER,
        config=CONFIG,
        health=HEALTH,
        exposure_file="exposure/part-0.json",
        revocation_file=write_revocations(revoked, str(output.day)),
        num_revoked=1,
    )
    write_json(root / "examination" / "examination.json", EXAMINATION)
    write_json(root / "quality.json", PURITY)
    write_json(root / "comparison" / "comparison.json", COMPARISON)
    write_json(
        root / "run" / "checkpoints" / "step=00000003" / "metrics.json",
        {
            "schema_version": 1, "checkpoint": "run/checkpoints/step=00000003", "step": 3, "num_users": 1_907,
            "evaluated_on": ["days/ds=2026-11-22"], "metrics": {"recall@100": RECALL, "slices/auc, new ads": None},
        },
    )  # fmt: skip
    points = [
        {
            "step": step,
            "loss": 7.0 - step,
            "gradient/in_batch": 0.9,
            "gradient/hard": 0.1,
            "gradient/neighbour": 0.0,
        }
        for step in (1, 2, 3)
    ] + [{"step": 3, "evaluation/recall@100": 0.21}]
    curve = "".join(json.dumps(point) + "\n" for point in points)
    (root / "run" / "curve.jsonl").write_text(curve, encoding="utf-8")
    return output
