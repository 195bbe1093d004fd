"""The evaluation as one self-contained HTML file, which fetches nothing.

`report.html.jinja` is the page and `plots.html.jinja` its drawings, `report.css` the style, `report.js` the
viewer of the cases. Here are the values that the page shows.
"""

import math
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps
from tqdm import tqdm

from nnunet_igtv import __version__
from nnunet_igtv.evaluation import charts, colours
from nnunet_igtv.evaluation.cases import Case, read_content
from nnunet_igtv.evaluation.comparison import Difference
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.observers import PAIRED
from nnunet_igtv.evaluation.pictures import picture
from nnunet_igtv.evaluation.results import Results
from nnunet_igtv.evaluation.statistics import Interval
from nnunet_igtv.evaluation.texts import (
    INTERVALS,
    disagreement,
    not_shown,
    pairs_of,
    part_of_masks,
    raters_of,
    shown,
    shown_interval,
    shown_p,
)
from nnunet_igtv.evaluation.volumes import CT_LEVELS, volume

PICTURED = 24  # cases; of more, as many from the worst to the best
# metrics of the first table, of the table of cases, and of the comparisons
SHORT = (
    *("dice", "dice_central", "dice_peripheral", "surface_dice_2mm", "hd95_mm", "added_path_mm"),
    *("coverage_3mm", "difference_ml"),
)
BY_CASE = (*SHORT[:-1], "truth_ml", "difference_ml", "missed_lesions", "false_lesions")
COMPARED = ("dice", "dice_central", "dice_peripheral", "surface_dice_2mm", "hd95_mm", "difference_ml")
IGNORED = "Voxels with the ignore label of the truth count neither way: they are taken out of both masks."
EMPTY_MASKS = (
    "Where truth and prediction are both empty, overlaps and distances are undefined (n/a) and left out of "
    "the means; where one of them is empty, overlaps are 0 and distances undefined. Coverage is undefined "
    "where the truth is empty."
)
BEST = (
    "A value is marked as best only where the interval of the paired difference to every other model is on "
    "its side of 0."
)


TOLD_APART = (
    "Two models are told apart where the 95 % interval of their difference does not hold 0; where it does, "
    "that is no proof that they are equally good. p is a second opinion: the intervals are of means and not "
    "adjusted for the number of comparisons, the test ranks the differences."
)
# where interval and p disagree: told apart by the interval or not -> mark, what it means
MARKS = {
    False: ("†", "not told apart by the interval, though the test finds a difference"),
    True: ("‡", "told apart by the interval, which the test does not bear out"),
}


def report(results: Results, cases: list[Case], title: str) -> str:
    """The page. Images are read again here; raises IGTVError as `evaluate`."""
    ranked = _worst_first(results, cases)
    chosen = _choose(ranked) if cases[0].images else []
    pictured = []
    for case in tqdm(chosen, desc="pictures", unit="case", disable=not chosen):
        content = read_content(case)
        said = _said(results, case.name)
        pictured.append(
            {"name": case.name, "said": said, "still": picture(content), "volume": volume(content)}
        )
    models: list[dict[str, Any]] = [
        {"name": m, "line": colours.of_model(i)} for i, m in enumerate(results.models)
    ]
    observers: list[dict[str, Any]] = [
        {"name": o, "line": colours.of_observer(i)}
        for i, o in enumerate(cases[0].truths if len(cases[0].truths) > 1 else [])
    ]
    lines = {entry["name"]: entry["line"] for entry in [*models, *observers]} | {"truth": colours.TRUTH}
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=title,
            version=__version__,
            lead=_lead(results),
            notes=results.notes + _notes(results),
            metrics=METRICS,
            groups=list(dict.fromkeys(m.group for m in METRICS.values())),
            models=models,
            observers=observers,
            truth_line=colours.TRUTH,
            lines=lines,
            short=SHORT,
            by_case=BY_CASE,
            open={entry["name"]: i for i, entry in enumerate(pictured)},
            summary={model: _summary(results, model) for model in results.models},
            detection={model: _detection(results, model) for model in results.models},
            compared=COMPARED,
            comparisons=_comparisons(results),
            told_apart=TOLD_APART,
            disagreements=_disagreements(results),
            tests=len(results.comparisons),
            not_shown=" ".join(not_shown(results)),
            raters=[_rater(rater) for rater in raters_of(results)],
            paired=PAIRED,
            pairs={pair: shown(row["dice"].mean, "dice") for pair, row in pairs_of(results).items()},
            boxes=charts.boxes(results),
            along=charts.along_target(results),
            volumes=charts.volumes(results),
            agreements=[charts.bland_altman(results, model) for model in results.models],
            reliability=charts.reliability(results) if results.calibration else None,
            calibration={
                model: {"error": f"{r.error:.3f}", "brier": f"{r.brier:.3f}", "masks": r.masks}
                for model, r in results.calibration.items()
            },
            cases=[{"name": case.name, "rows": _rows(results, case.name)} for case in ranked],
            pictured=pictured,
            has_pet=any(entry["volume"]["pet"] for entry in pictured),
            viewer={
                "ct_levels": [round(float(level), 1) for level in CT_LEVELS],
                "inferno": [[round(255 * c) for c in colormaps["inferno"](i)[:3]] for i in range(256)],
                "lines": {name: line._asdict() for name, line in lines.items()},
                "observers": [entry["name"] for entry in observers],
            },
            definitions=_definitions(results),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("nnunet_igtv", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _lead(results: Results) -> str:
    counts = [(len(results.cases), "case"), (len(set(results.patients.values())), "patient")]
    if counts[0][0] == counts[1][0]:
        del counts[1]
    counts.append((len(results.models), "model"))
    return ", ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts)


def _notes(results: Results) -> list[str]:
    """What the numbers are over, where that is not plain."""
    notes = []
    if results.patients_from:
        notes.append(f"Which case is of which patient is known from {results.patients_from}.")
    else:
        notes.append("Which cases are of one patient is not known: each counts as a patient of its own.")
    for model, runs in results.runs.items():
        if len(runs) > 1:
            notes.append(f"{model} is {_kind_of_runs(results, model)}. Pictures show the first.")
    return notes


def _kind_of_runs(results: Results, model: str) -> str:
    """Seeds, folds, or seeds of folds, as the runs' cases tell."""
    runs, seeds = results.runs[model], len(results.seeds(model))
    if seeds == 1:
        return f"{len(runs)} folds"
    folds = len({frozenset(run) for run in runs})
    if folds == 1:
        kind, of_what = f"{seeds} runs on all cases", "their mean Dice"
    elif folds * seeds == len(runs):
        kind, of_what = f"{seeds} seeds of {folds} folds each", "the seeds' mean Dice"
    else:
        kind, of_what = f"{len(runs)} runs, {seeds} of each case", f"the mean Dice of the {seeds}"
    spread = shown(results.spread_of_runs(model, "dice"), "dice")
    return f"{kind}; the standard deviation of {of_what} is {spread}"


def _summary(results: Results, model: str) -> dict[str, dict[str, Any]]:
    return {
        metric: {
            "mean": shown(s.mean, metric),
            "interval": shown_interval(s.mean_interval, metric),
            "median": shown(s.median, metric),
            "median_interval": shown_interval(s.median_interval, metric),
            "patients": s.patients,
            "masks": part_of_masks(results, model, metric),
            "best": model in results.best(metric),
        }
        for metric, s in results.summaries[model].items()
    }


def _detection(results: Results, model: str) -> dict[str, Any]:
    found = results.detection(model)

    def cell(value: float, interval: Interval | None) -> dict[str, str]:
        return {
            "text": f"{value:.2f}" if math.isfinite(value) else "n/a",
            "interval": f"{interval.low:.2f} to {interval.high:.2f}" if interval else "",
        }

    return {
        "found": f"{found.found:.3g} of {found.lesions:.3g}",
        "sensitivity": cell(found.sensitivity, found.sensitivity_interval),
        "false_per_case": cell(found.false_per_case, found.false_per_case_interval),
        "f1": cell(found.f1, found.f1_interval),
    }


def _comparisons(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "pair": f"{second} minus {first}",
            "cells": [_difference(rows[metric], metric) for metric in COMPARED],
        }
        for (first, second), rows in results.shown_comparisons.items()
    ]


def _disagreements(results: Results) -> dict[str, str]:
    """Mark -> what it means, of those in the table of comparisons."""
    rows = [rows[metric] for rows in results.shown_comparisons.values() for metric in COMPARED]
    found = {row.apart: disagreement(row) for row in rows if row.disagrees}
    return {MARKS[apart][0]: f"{text}: {MARKS[apart][1]}" for apart, text in found.items()}


def _difference(row: Difference, metric: str) -> dict[str, Any]:
    return {
        "mean": shown(row.mean, metric, sign=True),
        "interval": shown_interval(row.interval, metric, sign=True),
        "p": shown_p(row.p_holm),
        "apart": row.apart,
        "mark": MARKS[row.apart][0] if row.disagrees else "",
    }


def _rater(rater: Any) -> dict[str, Any]:
    return {
        "name": rater.name,
        "is_model": rater.is_model,
        "cells": [
            {
                "mean": shown(rater.summaries[m].mean, m),
                "interval": shown_interval(rater.summaries[m].mean_interval, m),
                "minus": shown(rater.minus_observers[m][0], m, sign=True),
                "minus_interval": shown_interval(rater.minus_observers[m][1], m, sign=True),
            }
            for m in PAIRED
        ],
    }


def _rows(results: Results, case: str) -> list[dict[str, Any]]:
    """One row per model."""
    return [
        {
            "model": model,
            "cells": {metric: shown(v, metric) for metric, v in results.scores[model][case].items()},
        }
        for model in results.models
    ]


def _said(results: Results, case: str) -> str:
    """The case in one line."""
    ml = shown(results.scores[results.models[0]][case]["truth_ml"], "truth_ml")
    dices = [f"{model} {shown(results.scores[model][case]['dice'], 'dice')}" for model in results.models]
    return f"{ml} ml; Dice: {', '.join(dices)}"


def _worst_first(results: Results, cases: list[Case]) -> list[Case]:
    """By the lowest Dice of any model's; cases without a Dice last."""

    def worst(case: Case) -> float:
        dices = [results.scores[model][case.name]["dice"] for model in results.models]
        return min((d for d in dices if math.isfinite(d)), default=math.inf)

    return sorted(cases, key=worst)


def _choose(ranked: list[Case]) -> list[Case]:
    """The cases to picture: all, or from the worst to the best."""
    if len(ranked) <= PICTURED:
        return ranked
    return [ranked[round(i * (len(ranked) - 1) / (PICTURED - 1))] for i in range(PICTURED)]


def _definitions(results: Results) -> list[tuple[str, str]]:
    return [
        *((m.label + (f", {m.unit}" if m.unit else ""), m.definition) for m in METRICS.values()),
        ("Empty masks", EMPTY_MASKS),
        *([("Ignored voxels", IGNORED)] if results.ignore_label is not None else []),
        ("Intervals", INTERVALS + ". Values of several cases of a patient are averaged first."),
        ("p", "Wilcoxon's signed-rank test on patients, adjusted by Holm over the comparisons of a metric."),
        ("Told apart", TOLD_APART),
        ("Best", BEST),
        (
            "Limits of agreement",
            "Bias ± 1.96 standard deviations of the differences (Bland and Altman 1986).",
        ),
    ]
