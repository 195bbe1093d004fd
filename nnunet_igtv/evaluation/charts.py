"""Plots of the report in the coordinates of their drawings; `plots.html.jinja` draws them as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from nnunet_igtv.evaluation import colours
from nnunet_igtv.evaluation.by_position import BINS
from nnunet_igtv.evaluation.results import Results
from nnunet_igtv.evaluation.statistics import Agreement, Interval
from nnunet_igtv.evaluation.texts import shown, shown_interval


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        return round(self.start + (self.end - self.start) * (value - self.low) / span, 1)

    @property
    def ticks(self) -> list[dict[str, Any]]:
        values = MaxNLocator(5).tick_values(self.low, self.high)
        return [{"at": self(v), "text": f"{v:g}"} for v in values if self.low <= v <= self.high]

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, zero: bool = False) -> "Axis":
        """An axis with some room around values, from 0 if `zero`."""
        low, high = (min(values), max(values)) if len(values) else (0.0, 1.0)
        low = min(low, 0.0) if zero else low
        room = 0.06 * (high - low) or 1.0
        return cls(low if zero and low == 0 else low - room, high + room, start, end)


def _frame(width: int, height: int, x: Axis, y: Axis, x_label: str, y_label: str) -> dict[str, Any]:
    return {
        **{"width": width, "height": height, "x_label": x_label, "y_label": y_label},
        **{"left": x.start, "right": x.end, "top": y.end, "bottom": y.start},
        **{"x_ticks": x.ticks, "y_ticks": y.ticks},
    }


def along_target(results: Results) -> dict[str, Any]:
    """Mean Dice by position, one line per model."""
    x, y = Axis(-0.5, BINS - 0.5, 52, 1068), Axis(0, 1, 246, 12)
    lines = []
    for i, model in enumerate(results.models):
        profile = enumerate(results.mean_profile(model))
        points = [(x(b), y(value)) for b, value in profile if math.isfinite(value)]
        lines.append({"line": colours.of_model(i), "points": points, "model": model})
    thirds = ("outer third", "central third", "outer third")
    return {
        **_frame(1080, 280, x, y, "", "Dice"),
        "x_ticks": [{"at": x((2 * i + 1) * BINS / 6 - 0.5), "text": text} for i, text in enumerate(thirds)],
        "edges": [x(BINS / 3 - 0.5), x(2 * BINS / 3 - 0.5)],
        "lines": lines,
    }


def boxes(results: Results) -> dict[str, Any]:
    """Dice: one box per model with a point per case: quartiles, median, whiskers to 1.5 boxes."""
    height = 46 * len(results.models)
    longest = max(len(model) for model in results.models)
    x, rows = Axis(0, 1, 24 + 7 * min(longest, 28), 1068), []
    for i, model in enumerate(results.models):
        middle = 14 + 46 * i + 23
        points = [
            {
                "case": case,
                "x": x(value),
                "y": middle + 9 * math.sin(12.9898 * j),
                "text": shown(value, "dice"),
            }
            for j, case in enumerate(results.cases)
            if math.isfinite(value := results.scores[model][case]["dice"])
        ]
        values = results.values(model, "dice")
        if len(values):
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
            reach = 1.5 * (high - low)
            inside = values[(values >= low - reach) & (values <= high + reach)]
            box = [x(v) for v in (inside.min(), low, median, high, inside.max())]
        rows.append(
            {
                **{"model": model, "line": colours.of_model(i), "y": middle, "points": points},
                "box": box if len(values) else None,
            }
        )
    y = Axis(0, 1, 14 + height, 14)
    return {**_frame(1080, height + 62, x, y, "Dice", ""), "y_ticks": [], "rows": rows}


def volumes(results: Results) -> dict[str, Any]:
    """Predicted against true volumes, with the line on which they are the same."""
    pairs = [
        ({"case": case, "model": model, "line": colours.of_model(i)}, s["truth_ml"], s["prediction_ml"])
        for i, model in enumerate(results.models)
        for case, s in results.scores[model].items()
    ]
    most = [ml for _, *both in pairs for ml in both]
    x, y = Axis.around([0, *most], 56, 514, zero=True), Axis.around([0, *most], 356, 12, zero=True)
    points = [
        {
            **mark,
            **{"x": x(true), "y": y(found)},
            "text": f"{shown(found, 'truth_ml')} of {shown(true, 'truth_ml')} ml",
        }
        for mark, true, found in pairs
    ]
    return {
        **_frame(530, 410, x, y, "truth, ml", "prediction, ml"),
        "points": points,
        "diagonal": [(x(v), y(v)) for v in (0, x.high)],
    }


def bland_altman(results: Results, model: str) -> dict[str, Any]:
    """Difference of volumes against their mean; bias and limits of agreement with their intervals."""
    index, found = results.models.index(model), results.agreement(model)
    pairs = [
        (case, (s["truth_ml"] + s["prediction_ml"]) / 2, s["difference_ml"])
        for case, s in results.scores[model].items()
    ]
    everything = [s["difference_ml"] for m in results.models for s in results.scores[m].values()]
    drawn = [value for m in results.models for value in _drawn(results.agreement(m))]
    x = Axis.around([p[1] for p in pairs], 56, 514, zero=True)
    y = Axis.around([0, *everything, *drawn], 356, 12)

    def line(name: str, value: float | None, interval: Interval | None) -> dict[str, Any]:
        band = None if interval is None else [y(interval.high), y(interval.low) - y(interval.high)]
        said = shown_interval(interval, "difference_ml")
        text = f"{name} {shown(value, 'difference_ml')} ml" + (f" ({said})" if said else "")
        return {"y": None if value is None else y(value), "band": band, "text": text}

    return {
        **_frame(530, 410, x, y, "mean of truth and prediction, ml", "prediction minus truth, ml"),
        "model": model,
        "line": colours.of_model(index),
        "zero": y(0),
        "lines": [
            line("upper limit", found.upper, found.upper_interval),
            line("bias", found.bias, found.bias_interval),
            line("lower limit", found.lower, found.lower_interval),
        ],
        "points": [
            {
                "case": c,
                "model": model,
                "x": x(m),
                "y": y(d),
                "text": f"{shown(d, 'difference_ml')} ml",
                "line": colours.of_model(index),
            }
            for c, m, d in pairs
        ],
    }


def _drawn(found: Agreement) -> list[float]:
    """All values of an agreement that have a place in its plot."""
    intervals = (found.bias_interval, found.lower_interval, found.upper_interval)
    limits = [limit for limit in (found.lower, found.upper) if limit is not None]
    return [*limits, *(bound for interval in intervals if interval for bound in interval)]


def reliability(results: Results) -> dict[str, Any]:
    """Part of voxels in the truth against their probability, one line per model."""
    x, y = Axis(0, 1, 56, 514), Axis(0, 1, 356, 12)
    lines = [
        {
            "line": colours.of_model(results.models.index(model)),
            "points": [
                (x(p), y(t))
                for p, t in zip(found.mean_probability, found.part_in_truth, strict=True)
                if math.isfinite(p)
            ],
        }
        for model, found in results.calibration.items()
    ]
    return {
        **_frame(530, 410, x, y, "predicted probability", "part of voxels in the truth"),
        "lines": lines,
        "diagonal": [(x(v), y(v)) for v in (0, 1)],
    }
