"""Training runs: loss, gradient shares of the sources of negatives, and metrics of checkpoints on later days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scrollpast.documents.evaluation import IndexDocument, MeanEstimate, Metrics
from scrollpast.job_commands import job_command
from scrollpast.report import plotting, wording
from scrollpast.report.inputs import Inputs, TrainedRun
from scrollpast.report.k_anonymity import NEW_USERS, fewer_than, is_of_part, told_number, untold_user_parts
from scrollpast.report.sections import Block, Missing, Paragraph, Plot, ReportSection, ReportTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Training"
_LOSS, _GRADIENT, _EVALUATION = "loss", "gradient/", "evaluation/"
_BASELINE_METRICS = ("exposure-weighted recall@100", "recall@100", "auc")
_MOST_ROWS = 40
_MOST_RUNS = len(plotting.SERIES)


def training(inputs: Inputs) -> ReportSection:
    """Section with curves of the runs, and the metrics of their last evaluated checkpoints."""
    if not inputs.runs:
        command = job_command("train_two_tower", inputs.day.uri, "--out", "RUN")
        return ReportSection(
            "training", TITLE, [Missing("No training run was named with --run RUN.", command)]
        )
    blocks: list[Block] = []
    runs = inputs.runs[:_MOST_RUNS]
    if len(inputs.runs) > len(runs):
        blocks.append(Paragraph(f"The plots show the first {len(runs)} of {len(inputs.runs)} runs."))
    curves = {run.name: _curve(run, _LOSS) for run in runs}
    if any(curves.values()):
        told = "; ".join(
            f"{name} from {curve[0][1]:.3f} at step {curve[0][0]:,} to {curve[-1][1]:.3f} at step {curve[-1][0]:,}"
            for name, curve in curves.items()
            if curve
        )
        blocks.append(_plot("loss", "Loss", f"{told}.", curves, "loss"))
    for number, run in enumerate(runs):
        blocks.extend(_gradient(number, run))
    metrics = sorted(
        {name for run in runs for point in run.points for name in point if name.startswith(_EVALUATION)}
    )
    for number, name in enumerate(metrics):
        label = name.removeprefix(_EVALUATION)
        curves = {run.name: _curve(run, name) for run in runs if _is_told(run, label, inputs.floor)}
        if not any(curves.values()):
            continue
        told = "; ".join(f"{run} ends at {curve[-1][1]:.4f}" for run, curve in curves.items() if curve)
        blocks.append(_plot(f"evaluation-{number}", f"{label} while training", f"{told}.", curves, label))
    blocks.extend(_evaluated(inputs.runs, inputs.floor))
    return ReportSection("training", TITLE, blocks)


def _is_told(run: TrainedRun, metric: str, floor: int) -> bool:
    """True if a metric during training is shown: its final number of users is not known to be below the floor."""
    if run.metrics is None:
        return True
    value = run.metrics.metrics.get(metric)
    is_of_few = value is not None and value.num_users < floor
    return not is_of_few and not is_of_part(metric, _untold_parts(run.metrics, floor))


def _curve(run: TrainedRun, name: str) -> list[tuple[int, float]]:
    return [(int(point["step"]), point[name]) for point in run.points if name in point]


def _gradient(number: int, run: TrainedRun) -> list[Plot]:
    names = sorted({name for point in run.points for name in point if name.startswith(_GRADIENT)})
    curves = {name.removeprefix(_GRADIENT).replace("_", " "): _curve(run, name) for name in names}
    curves = {name: curve for name, curve in curves.items() if any(value for _, value in curve)}
    if not curves:
        return []
    told = ", ".join(f"{name} {wording.share(curve[-1][1])}" for name, curve in curves.items())
    title = f"{run.name}: the sources' shares of the push away from negatives"
    return [_plot(f"gradient-{number}", title, f"At the end: {told}.", curves, "share", is_share=True)]


def _plot(
    name: str,
    title: str,
    told: str,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    label: str,
    *,
    is_share: bool = False,
) -> Plot:
    curves = {run: curve for run, curve in curves.items() if curve}
    steps = sorted({step for curve in curves.values() for step, _ in curve})
    every = -(-len(steps) // _MOST_ROWS)
    # Thinned from the end, so that the last step is kept.
    shown = steps[::-1][::every][::-1]
    by_step = {run: dict(curve) for run, curve in curves.items()}
    caption = title if every == 1 else f"{title}; one of {every} steps"
    numbers = ReportTable(
        caption,
        ("step", *curves),
        [
            (f"{step:,}", *(_number(by_step[run].get(step), is_share=is_share) for run in curves))
            for step in shown
        ],
    )

    def paint(figure: Figure, is_narrow: bool) -> None:
        axes = figure.subplots()
        for place, (run, curve) in enumerate(curves.items()):
            axes.plot(
                *zip(*curve, strict=True),
                color=plotting.SERIES[place],
                linestyle=plotting.LINES[place],
                marker=plotting.MARKERS[place] if len(curve) < 12 else None,
                markersize=4,
                linewidth=1.6,
                label=run,
            )
        if is_share:
            axes.set_ylim(0, 1)
            axes.yaxis.set_major_formatter(wording.per_cent)
        axes.xaxis.set_major_formatter(wording.brief)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        plotting.legend_above(figure, axes, 2 if is_narrow else 4)

    return plotting.plot(f"training-{name}", title, told, numbers, paint, (270, 250))


def _number(value: float | None, *, is_share: bool) -> str:
    return wording.share(value) if is_share else wording.decimal(value)


def _evaluated(runs: Sequence[TrainedRun], floor: int) -> list[Block]:
    blocks: list[Block] = []
    for run in runs:
        if run.metrics is None:
            command = job_command("evaluate_two_tower", run.uri, "DAY")
            blocks.append(Missing(f"No checkpoint of {run.name} was evaluated on later days.", command))
            continue
        found = run.metrics
        days = wording.listed([day.rstrip("/").rpartition("/")[2] for day in found.evaluated_on])
        num_users = told_number(found.num_users, floor)
        caption = f"{run.name}, checkpoint at step {found.step:,}, on {days}: users: {num_users}"
        columns = ("metric", "value", "95% interval", "users")
        untold = _untold_parts(found, floor)
        rows = [
            (_metric(name, found.index), *_cells(None if is_of_part(name, untold) else value, floor))
            for name, value in found.metrics.items()
        ]
        blocks.append(ReportTable(caption, columns, rows))
        blocks.extend(_baselines(run.name, found, floor))
        blocks.extend(Paragraph(f"{note}.") for note in found.notes)
    return blocks


def _baselines(name: str, found: Metrics, floor: int) -> list[Block]:
    """The verdict on the best baseline, and the main metrics of the model and of each baseline."""
    if not found.baselines or found.num_users < floor:
        return []
    blocks: list[Block] = []
    if found.verdict is not None and found.verdict.num_users >= floor:
        blocks.append(Paragraph(f"{name}: {found.verdict.line()}."))
    metrics = [metric for metric in _BASELINE_METRICS if metric in found.metrics]
    rows = [
        (label, *(_cells(of.get(metric), floor)[0] for metric in metrics))
        for label, of in {"model": found.metrics, **found.baselines}.items()
    ]
    blocks.append(ReportTable(f"{name} and the baselines, on the same users", ("ranking", *metrics), rows))
    return blocks


def _untold_parts(found: Metrics, floor: int) -> frozenset[str]:
    """New and known users, where either group is below the floor."""
    of_new = [
        value.num_users for name, value in found.metrics.items() if value and is_of_part(name, {NEW_USERS})
    ]
    return untold_user_parts(max(of_new, default=0), found.num_users, floor)


def _metric(name: str, index: IndexDocument | None) -> str:
    """Label of a metric such as ``slices/recall@100, tail ads`` without its section; an inexact search is named."""
    section, _, label = name.rpartition("/")
    if section != "quantised":
        return label
    return f"{label}, through the " + (f"exported index ({index.kind})" if index else "quantised index")


def _cells(value: MeanEstimate | None, floor: int) -> tuple[str, str, str]:
    if value is None:
        return wording.NONE, wording.NONE, wording.NONE
    if value.num_users < floor:
        return wording.NONE, wording.NONE, fewer_than(floor)
    return (
        wording.decimal(value.mean),
        wording.interval(value.low, value.high),
        wording.count(value.num_users),
    )
