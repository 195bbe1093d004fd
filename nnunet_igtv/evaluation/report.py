"""The evaluation as one self-contained HTML file: no script, no font, nothing fetched.

`report.html.jinja` is the page, `report.css` its style; here are the values that the page shows.
"""

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from nnunet_igtv import __version__
from nnunet_igtv.evaluation.by_position import BINS
from nnunet_igtv.evaluation.cases import Case
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.pictures import MODEL_COLOURS, TRUTH_COLOUR, pictures
from nnunet_igtv.evaluation.results import Results, shown

PICTURED = 16  # cases; of more, as many from the worst to the best
IGNORED = "Voxels with the ignore label of the truth count neither way: they are taken out of both masks."
EMPTY_MASKS = (
    "Where truth and prediction are both empty, overlaps and distances are undefined (n/a) and left out of "
    "the means; where one of them is empty, overlaps are 0 and distances undefined."
)


def report(results: Results, cases: list[Case], title: str) -> str:
    """The page. Images are read again here; raises IGTVError as `evaluate`."""
    environment = Environment(
        loader=PackageLoader("nnunet_igtv", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictured = tqdm(_choose(results, cases), desc="pictures", unit="case", disable=not cases[0].images)
    return environment.get_template("report.html.jinja").render(
        title=title,
        version=__version__,
        metrics=METRICS.values(),
        models=[
            {"name": model, "colour": _colour(i), "means": _means(results, model)}
            for i, model in enumerate(results.models)
        ],
        cases=[{"name": case.name, "rows": _rows(results, case.name)} for case in cases],
        chart=_chart(results),
        has_images=bool(cases[0].images),
        truth_colour=TRUTH_COLOUR,
        pictured=[_pictured(results, case) for case in pictured],
        definitions=[
            *((m.label + (f", {m.unit}" if m.unit else ""), m.definition) for m in METRICS.values()),
            ("Empty masks", EMPTY_MASKS),
            *([("Ignored voxels", IGNORED)] if results.ignore_label is not None else []),
            ("±", "Standard deviation over the cases."),
        ],
    )


def _colour(model_index: int) -> str:
    return MODEL_COLOURS[model_index % len(MODEL_COLOURS)]


def _means(results: Results, model: str) -> list[dict[str, Any]]:
    """One cell per metric: mean, standard deviation, and whether it is the best."""
    cells = []
    for metric, mean in results.mean(model).items():
        values = results.values(model, metric)
        spread = f"{values.std(ddof=1):.{METRICS[metric].digits}f}" if len(values) > 1 else ""
        best = model in results.best(metric)
        cells.append({"text": shown(mean, metric), "spread": spread, "best": best})
    return cells


def _rows(results: Results, case: str) -> list[dict[str, Any]]:
    """One row per model."""
    return [
        {"model": model, "cells": [shown(v, metric) for metric, v in results.scores[model][case].items()]}
        for model in results.models
    ]


def _chart(results: Results) -> dict[str, Any]:
    """Mean Dice by position, one line per model, in the coordinates of the drawing."""
    width, height, left, right, top, bottom = 1080, 300, 40, 1068, 14, 266

    def x(b: float) -> float:
        return round(left + (right - left) * (b + 0.5) / BINS, 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * value, 1)

    lines = []
    for i, model in enumerate(results.models):
        profile = enumerate(results.mean_profile(model))
        points = [(x(b), y(value)) for b, value in profile if math.isfinite(value)]
        lines.append({"colour": _colour(i), "points": points})
    thirds = ("outer third", "central third", "outer third")
    return {
        **{"width": width, "height": height, "left": left, "right": right, "top": top, "bottom": bottom},
        "ticks": [{"y": y(tick), "text": f"{tick:g}"} for tick in (0, 0.25, 0.5, 0.75, 1)],
        "edges": [x(BINS / 3 - 0.5), x(2 * BINS / 3 - 0.5)],
        "parts": [{"x": x((2 * i + 1) * BINS / 6 - 0.5), "text": text} for i, text in enumerate(thirds)],
        "lines": lines,
    }


def _choose(results: Results, cases: list[Case]) -> list[Case]:
    """The cases to picture: all, or the last model's worst, best and some between."""
    if len(cases) <= PICTURED:
        return cases
    scores = results.scores[results.models[-1]]
    ranked = sorted(
        cases, key=lambda case: (math.isnan(scores[case.name]["dice"]), scores[case.name]["dice"])
    )
    return [ranked[round(i * (len(ranked) - 1) / (PICTURED - 1))] for i in range(PICTURED)]


def _pictured(results: Results, case: Case) -> dict[str, Any]:
    rows = pictures(case)
    return {
        "name": case.name,
        "truth_ml": shown(results.scores[results.models[0]][case.name]["truth_ml"], "truth_ml"),
        "dices": [(m, shown(results.scores[m][case.name]["dice"], "dice")) for m in results.models],
        "columns": list(rows[0].panels) if rows else [],
        "rows": rows,
    }
