"""Page of the report: one self-contained HTML text."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scrollpast.report import wording
from scrollpast.report.comparison import comparison
from scrollpast.report.dwell import dwell
from scrollpast.report.examination import examination
from scrollpast.report.exposure import exposure, top_1_percent_share
from scrollpast.report.funnel import funnel
from scrollpast.report.gate import gate, verdict
from scrollpast.report.inputs import Inputs, TrainedRun
from scrollpast.report.k_anonymity import told_number
from scrollpast.report.per_user import per_user
from scrollpast.report.purity import purity
from scrollpast.report.revocations import revocations, revoked_words
from scrollpast.report.sections import Page, Tile, Tiles
from scrollpast.report.training import training
from scrollpast.report.trend import trend

_SECTIONS = (
    funnel,
    examination,
    dwell,
    per_user,
    exposure,
    gate,
    revocations,
    purity,
    comparison,
    training,
    trend,
)
_RECALL = "recall@100"


def compose(inputs: Inputs) -> Page:
    """Compose all sections; a section without data names the command that makes the data.

    Raises:
        UserError: a file of the day is missing or corrupt.
    """
    manifest = inputs.day.manifest
    return Page(
        title=f"Hard negatives of {manifest.ds}",
        subtitle=inputs.day.uri,
        facts=[
            (
                "Window",
                f"{wording.moment(manifest.window_start)} to {wording.moment(manifest.window_end)} UTC",
            ),
            ("Known as of", f"{wording.moment(manifest.as_of)} UTC"),
            ("Mined", f"{wording.moment(manifest.created_at)} UTC"),
            ("Shards", _shards(inputs)),
            *(("Training run", _run(run)) for run in inputs.runs),
        ],
        tiles=_tiles(inputs),
        sections=[make(inputs) for make in _SECTIONS],
    )


def render(page: Page) -> str:
    """Render the page as HTML; all texts are escaped."""
    own = files("scrollpast.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(own.joinpath("page.html.j2").read_text(encoding="utf-8"))
    style = Markup(own.joinpath("page.css").read_text(encoding="utf-8"))  # noqa: S704 (a file of this package)
    return template.render(page=page, style=style) + "\n"


def _shards(inputs: Inputs) -> str:
    manifest = inputs.day.manifest
    size = sum(entry.num_bytes for entry in manifest.shards) / 2**20
    return f"{wording.count(len(manifest.shards))} in {manifest.num_buckets:,} buckets, {size:,.1f} MiB"


def _run(run: TrainedRun) -> str:
    # The loss of the last step may not have been logged.
    steps = max(
        [0 if run.metrics is None else run.metrics.step, *(int(point["step"]) for point in run.points)]
    )
    return f"{run.uri}, {wording.plural(steps, 'step')}"


def _tiles(inputs: Inputs) -> Tiles:
    manifest, found = inputs.day.manifest, inputs.day.exposure
    total = sum(manifest.ledger.values())
    per_positive = wording.ratio(manifest.num_negatives, manifest.num_positives)
    word, went_by = verdict(inputs.day.health)
    tiles = [
        Tile("impressions", wording.count(total), "every one ends with one outcome"),
        Tile(
            "negatives",
            wording.count(manifest.num_negatives),
            f"{wording.decimal(per_positive, 1)} a positive",
        ),
        Tile("positives", wording.count(manifest.num_positives), "engaged with"),
        Tile("users", told_number(manifest.num_records, inputs.floor), "with a record each"),
        Tile("revoked", *revoked_words(manifest)),
        Tile("gate", word, went_by),
    ]
    if found is not None and found.gini is not None and found.num_ads >= inputs.floor:
        tiles.append(
            Tile(
                "Gini over ads",
                wording.decimal(found.gini, 3),
                f"top 1% have {wording.share(top_1_percent_share(found, inputs.floor))}",
            )
        )
    for run in inputs.runs[:1]:
        recall = run.metrics.metrics.get(_RECALL) if run.metrics is not None else None
        if recall is not None and recall.num_users >= inputs.floor:
            tiles.append(
                Tile(
                    _RECALL, wording.decimal(recall.mean), f"95%: {wording.interval(recall.low, recall.high)}"
                )
            )
    return Tiles(tiles)
