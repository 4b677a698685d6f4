"""Publication of a day with neighbours: its inputs, ledger and manifest, and comparison with a published day."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrollpast.config import NEIGHBOUR_CODE, Neighbours
from scrollpast.errors import ScrollpastError, UserError
from scrollpast.mining.neighbours.inputs import NeighbourDay, Towers
from scrollpast.mining.neighbours.outcomes import CandidateOutcome
from scrollpast.shards import filesystem as files
from scrollpast.shards.manifest import Manifest, ShardEntry, is_published, read_manifest
from scrollpast.shards.vocabulary_of_days import referenced_vocabulary, vocabulary_reference

WITHOUT = "num_without"
"""Searched records without a neighbour."""
RECORDS = ("num_asked", "num_unplaced", "num_left_out")
"""Counted kinds of records: searched; without a positive in the towers' vocabulary; not in the sample."""

_CHANGES = {
    "options": "the options of neighbours",
    "sample": "--sample",
    "served_day": "the day's shards",
    "engaged_in": "the other days whose engagements are excluded",
    "towers": "the export",
}


def describe(
    day: NeighbourDay, engaged_in: Sequence[NeighbourDay], towers: Towers, sample: int | None
) -> dict[str, Any]:
    """Inputs of a day with neighbours, as its manifest's ``input``.

    Args:
        engaged_in: the other days whose engagements are excluded.
    """
    about = {name: towers.about[name] for name in ("checkpoint", "step", "vocabulary_version", "index")}
    return {
        "served_day": _place(day),
        "engaged_in": sorted(map(_place, engaged_in), key=lambda place: place["fingerprint"]),
        "towers": {"place": files.absolute(towers.uri), "fingerprint": towers.fingerprint, **about},
        "sample": sample,
    }


def _place(day: NeighbourDay) -> dict[str, str]:
    shards = "\n".join(f"{entry.path} {entry.sha256}" for entry in day.manifest.shards)
    if day.manifest.revocation_file is not None:
        shards += f"\n{day.manifest.revocation_file}"
    return {"place": files.absolute(day.uri), "fingerprint": hashlib.sha256(shards.encode()).hexdigest()}


def find_published(out_uri: str, options: Neighbours, made_from: Mapping[str, Any]) -> Manifest | None:
    """Manifest of the day at ``out_uri``, if the day is published from the same inputs.

    Raises:
        UserError: the day is published from other inputs.
    """
    if not is_published(out_uri):
        return None
    manifest = read_manifest(out_uri)
    before, now = (
        _what_decides(manifest.config.get("neighbours"), manifest.input),
        _what_decides(options.model_dump(mode="json"), made_from),
    )
    changes = [words for name, words in _CHANGES.items() if before[name] != now[name]]
    if changes:
        raise UserError(
            out_uri,
            expected="an unpublished day, or the same input and options as before",
            found=f"a published day, and a change of {', '.join(changes)}",
            remedy="pass --overwrite to replace the day, or choose another --out",
        )
    return manifest


def _what_decides(options: Any, made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs and options that decide a day's bytes; places of inputs are left out."""

    def fingerprint(name: str) -> Any:
        return made_from.get(name, {}).get("fingerprint")

    return {
        "options": options,
        "sample": made_from.get("sample"),
        "served_day": fingerprint("served_day"),
        "engaged_in": [place["fingerprint"] for place in made_from.get("engaged_in", ())],
        "towers": fingerprint("towers"),
    }


def check_ledger(
    ledger: NDArray[np.int64], counts: Mapping[str, int], served: Manifest, shards: Sequence[ShardEntry]
) -> None:
    """Compare the tasks' counts with the rows read and written.

    Args:
        ledger: int64 [outcomes, ranks].
        counts: sums of the tasks' counts.

    Raises:
        ScrollpastError: a candidate or a record was lost or counted twice.
    """
    for what, expected, found in (
        ("candidates", counts["num_candidates"], int(ledger.sum())),
        ("neighbours in records", counts["num_neighbours"], int(ledger[CandidateOutcome.KEPT].sum())),
        ("records read", served.num_records, sum(counts[name] for name in RECORDS)),
        ("records written", served.num_records, sum(entry.num_records for entry in shards)),
    ):
        if expected != found:
            raise ScrollpastError(
                "ledger",
                expected=f"{expected:,} {what}",
                found=f"{found:,} ({found - expected:+,})",
                remedy="this is a defect of the job, please report it with the log",
            )


def ledger_table(ledger: NDArray[np.int64], first_rank: int) -> pa.Table:
    """Candidates by outcome and rank, without zeros: outcome string, rank int64, count int64."""
    outcomes, ranks = np.nonzero(ledger)
    return pa.table(
        {
            "outcome": pa.array(
                [CandidateOutcome(outcome).label for outcome in outcomes.tolist()], pa.string()
            ),
            "rank": pa.array(first_rank + ranks),
            "count": pa.array(ledger[outcomes, ranks]),
        }
    )


def make_manifest(
    day: NeighbourDay,
    *,
    options: Neighbours,
    made_from: dict[str, Any],
    ledger: NDArray[np.int64],
    ledger_file: str,
    counts: Mapping[str, int],
    shards: Sequence[ShardEntry],
) -> Manifest:
    """Manifest of a day with neighbours: the served day's manifest with this job's inputs, counts and files.

    Its ``ledger`` counts candidates by outcome. The ledger of impressions, the quarantine and the report of exposure
    stay with the served day, which ``input`` names. The vocabulary is the same.
    """
    served, ads = day.manifest, day.manifest.ads
    if ads is not None:
        ads = vocabulary_reference(day.out_uri, referenced_vocabulary(day.uri, ads))
    return replace(
        served,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        config={**served.config, "neighbours": options.model_dump(mode="json")},
        input={**made_from, "records": {name: counts[name] for name in RECORDS}, WITHOUT: counts[WITHOUT]},
        ledger={outcome.label: int(ledger[outcome].sum()) for outcome in CandidateOutcome},
        num_negatives=counts["num_negatives"],
        kinds={**served.kinds, "neighbour": NEIGHBOUR_CODE},
        shards=tuple(shards),
        ads=ads,
        ledger_files=(ledger_file,),
        quarantine_files=(),
        exposure_file=None,
        # Negatives revoked so far are left out of the records; later revocations need a new search.
        revocation_file=None,
        num_revoked=0,
    )
