"""Scores of one or several models on the same cases, and their means."""

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_igtv.evaluation.metrics import METRICS

_IN_TABLE = ("dice", "dice_central", "dice_peripheral", "surface_dice_2mm", "hd95_mm", "difference_ml")


@dataclass(frozen=True)
class Results:
    """`scores[model][case][metric]`, NaN where undefined; `profiles[model][case]`: Dice along the target.

    `ignore_label` is the value of the truth's voxels that did not count, None if all of them did; `inputs` is
    a SHA-256 over the names and contents of all masks.
    """

    scores: dict[str, dict[str, dict[str, float]]]
    profiles: dict[str, dict[str, np.ndarray]]
    ignore_label: int | None = None
    inputs: str = ""

    @property
    def models(self) -> list[str]:
        return list(self.scores)

    @property
    def cases(self) -> list[str]:
        return list(next(iter(self.scores.values())))

    def values(self, model: str, metric: str) -> np.ndarray:
        """One value per case for which the metric is defined."""
        values = np.array([case[metric] for case in self.scores[model].values()])
        return values[np.isfinite(values)]

    def mean(self, model: str) -> dict[str, float]:
        """Mean over the cases for which a metric is defined; NaN where it is for none."""
        return {metric: _mean(self.values(model, metric)) for metric in METRICS}

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Mean per model and metric."""
        return {model: self.mean(model) for model in self.models}

    def mean_profile(self, model: str) -> list[float]:
        """Mean Dice along the target, from its first slice to its last."""
        return [
            _mean(column[np.isfinite(column)]) for column in np.array(list(self.profiles[model].values())).T
        ]

    def best(self, metric: str) -> set[str]:
        """The models with the best mean, as shown; empty where the metric has no better, or all are alike."""
        better, digits = METRICS[metric].best, METRICS[metric].digits
        shown = {model: round(mean[metric], digits) for model, mean in self.means.items()}
        shown = {model: value for model, value in shown.items() if math.isfinite(value)}
        if not better or not shown:
            return set()
        key = {"high": lambda v: -v, "low": lambda v: v, "zero": abs}[better]
        top = min(map(key, shown.values()))
        winners = {model for model, value in shown.items() if key(value) == top}
        return winners if len(winners) < len(self.models) else set()

    def table(self) -> str:
        """Means per model as text."""
        head = ["model", *(f"{METRICS[m].label} {METRICS[m].unit}".strip() for m in _IN_TABLE)]
        rows = [
            [model, *(shown(mean[metric], metric) for metric in _IN_TABLE)]
            for model, mean in self.means.items()
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in [head, *rows]
        ]
        cases = len(self.cases)
        return "\n".join(
            [lines[0], "-" * len(lines[0]), *lines[1:], f"means over {cases} case{'s' * (cases != 1)}"]
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, NaN as None, ready for JSON."""
        return {
            "definitions": {
                name: {"label": m.label, "unit": m.unit, "definition": m.definition}
                for name, m in METRICS.items()
            },
            "ignore_label": self.ignore_label,
            "inputs": self.inputs,
            "models": {
                model: {
                    "mean": _without_nan(self.mean(model)),
                    "cases_with_value": {metric: len(self.values(model, metric)) for metric in METRICS},
                    "dice_along_target": [_none(value) for value in self.mean_profile(model)],
                    "cases": {case: _without_nan(values) for case, values in self.scores[model].items()},
                }
                for model in self.models
            },
        }

    def json_text(self) -> str:
        """Everything, as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def csv_text(self) -> str:
        """One row per model and case; empty where a metric is undefined."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["model", "case", *METRICS])
        for model in self.models:
            for case, values in self.scores[model].items():
                cells = [f"{v:.6g}" if math.isfinite(v) else "" for v in values.values()]
                writer.writerow([model, case, *cells])
        return text.getvalue()


def shown(value: float, metric: str) -> str:
    """A value as people read it."""
    if not math.isfinite(value):
        return "n/a"
    sign = "+" if METRICS[metric].best == "zero" else ""
    return f"{value:{sign}.{METRICS[metric].digits}f}"


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _none(value) for name, value in values.items()}
