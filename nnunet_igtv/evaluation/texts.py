"""Results as text: the table for a terminal, metrics.json and metrics.csv."""

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

from nnunet_igtv.evaluation.comparison import SMALL, Difference, Summary, summarise
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.observers import PAIRED, by_patient, raters
from nnunet_igtv.evaluation.statistics import FEWEST, RESAMPLES, Interval

if TYPE_CHECKING:
    from nnunet_igtv.evaluation.results import Results

_IN_TABLE = ("dice", "dice_central", "dice_peripheral", "surface_dice_2mm", "hd95_mm", "difference_ml")
INTERVALS = (
    f"95 % bootstrap intervals over patients ({RESAMPLES} resamples, fixed seed, expanded percentiles); "
    f"none of fewer than {FEWEST} patients"
)


def shown(value: float | None, metric: str, sign: bool = False) -> str:
    """A value as people read it; `sign`: with + where it is positive."""
    if value is None or not math.isfinite(value):
        return "n/a"
    shape = METRICS[metric]
    plus = "+" if sign or shape.best == "zero" else ""
    value = round(value, shape.digits) + 0.0  # no minus before a zero
    is_count = shape.group == "Lesions" and not shape.unit and shape.digits == 1
    return f"{value:{plus}.{0 if is_count and float(value).is_integer() else shape.digits}f}"


def shown_interval(interval: Interval | None, metric: str, sign: bool = False) -> str:
    """ "0.71 to 0.84", or "" where there is none."""
    return "" if interval is None else " to ".join(shown(bound, metric, sign) for bound in interval)


def shown_p(p: float | None) -> str:
    """A p value as people read it."""
    if p is None:
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def disagreement(row: Difference) -> str:
    """What is said where the interval and the adjusted p of a difference disagree; else ""."""
    if not row.disagrees:
        return ""
    if row.apart:
        return f"the interval does not hold 0, but p is not below {SMALL}"
    return f"the interval holds 0, but p is below {SMALL}"


def table(results: "Results") -> str:
    """Means per model, and the paired differences of Dice."""
    head = [
        "model",
        *(f"{METRICS[m].label} {METRICS[m].unit}".strip() for m in _IN_TABLE),
        "Dice 95 %",
    ]
    rows = [
        [
            model,
            *(_with_masks(results, model, metric, summary[metric].mean) for metric in _IN_TABLE),
            shown_interval(summary["dice"].mean_interval, "dice") or "n/a",
        ]
        for model, summary in results.summaries.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
    return "\n".join(
        [
            *(lines[0], "-" * len(lines[0]), *lines[1:], counted(results), *_without_value(results)),
            *(*_differences(results), *results.notes),
        ]
    )


def part_of_masks(results: "Results", model: str, metric: str) -> str:
    """ "37 of 48", the masks that define a metric, where others do not; else ""."""
    some, everything = results.masks(model, metric)
    return f"{some} of {everything}" if some < everything else ""


def _with_masks(results: "Results", model: str, metric: str, mean: float) -> str:
    part = part_of_masks(results, model, metric)
    return shown(mean, metric) + (f" ({part})" if part else "")


def _without_value(results: "Results") -> list[str]:
    """What the numbers of masks in the table are, where there are some."""
    parts = [part_of_masks(results, model, metric) for metric in _IN_TABLE for model in results.models]
    example = next(filter(None, parts), None)
    if example is None:
        return []
    return [f"({example}): masks that have a value; where truth or prediction is empty, there is no HD95"]


def counted(results: "Results") -> str:
    """What the means are over."""
    cases, patients = len(results.cases), len(set(results.patients.values()))
    text = f"means over {cases} case{'s' * (cases != 1)}"
    return text if patients == cases else f"{text} of {patients} patient{'s' * (patients != 1)}"


def _differences(results: "Results") -> list[str]:
    lines = []
    for (first, second), rows in results.shown_comparisons.items():
        row = rows["dice"]
        interval = shown_interval(row.interval, "dice", sign=True)
        otherwise = disagreement(row)
        said = f"95 % {interval}" if interval else f"no interval of fewer than {FEWEST} patients"
        lines.append(
            f"{second} minus {first}: Dice {shown(row.mean, 'dice', sign=True)} ({said}; Wilcoxon p "
            f"{shown_p(row.p_holm)}{_holm(results)})" + (f": {otherwise}" if otherwise else "")
        )
    return [*lines, *not_shown(results)]


def not_shown(results: "Results") -> list[str]:
    """What is said where there are too many comparisons for a person to read."""
    all_of_them, some = len(results.comparisons), len(results.shown_comparisons)
    if some == all_of_them:
        return []
    return [
        f"Of {all_of_them} comparisons the {some} with the model of the highest mean Dice are shown; "
        "metrics.json has all. Name a reference for fewer tests."
    ]


def _holm(results: "Results") -> str:
    count = len(results.comparisons)
    return f" after Holm over {count} comparisons" if count > 1 else ""


def to_dict(results: "Results") -> dict[str, Any]:
    """Everything, NaN as None, ready for JSON."""
    return {
        "definitions": {
            name: {"label": m.label, "unit": m.unit, "definition": m.definition}
            for name, m in METRICS.items()
        },
        "intervals": INTERVALS,
        "ignore_label": results.ignore_label,
        "inputs": results.inputs,
        "notes": results.notes,
        "patients": {
            "count": len(set(results.patients.values())),
            "from": results.patients_from or "each case counts as a patient of its own",
            "of_cases": results.patients,
        },
        "models": {model: _model(results, model) for model in results.models},
        "comparisons": [
            {
                "first": first,
                "second": second,
                "second_minus_first": {metric: _plain(row) for metric, row in rows.items()},
            }
            for (first, second), rows in results.comparisons.items()
        ],
        "observers": {
            "raters": [_plain(rater) for rater in raters_of(results)],
            "pairs": [
                {"first": a, "second": b, "summary": _plain(summaries)}
                for (a, b), summaries in pairs_of(results).items()
            ],
        },
    }


def raters_of(results: "Results") -> list:
    """Observers and models among observers; empty where there is one truth."""
    compared_with = {b for _, b in results.observers}
    observers = [a for a in dict.fromkeys(a for a, _ in results.observers) if a in compared_with]
    return raters(results.observers, observers, results.patients) if observers else []


def pairs_of(results: "Results") -> dict[tuple[str, str], dict[str, Summary]]:
    """(a, b) -> metric -> its summary, of an observer or model a and an observer b."""
    return {
        pair: {
            metric: summarise(by_patient(results.observers, [pair], metric, results.patients))
            for metric in PAIRED
        }
        for pair in results.observers
    }


def _model(results: "Results", model: str) -> dict[str, Any]:
    summaries = results.summaries[model]
    reliability = results.calibration.get(model)
    return {
        "mean": _plain(results.mean(model)),
        "masks": sum(map(len, results.runs[model])),
        "masks_with_value": {metric: results.masks(model, metric)[0] for metric in METRICS},
        "cases_with_value": {metric: len(results.values(model, metric)) for metric in METRICS},
        "summary": _plain(summaries),
        "volume_agreement": _plain(results.agreement(model)),
        "detection": _plain(results.detection(model)),
        "runs": {
            "means": _plain(results.run_means(model)),
            "cases": _plain(results.runs[model]),
            "standard_deviation": {m: _plain(results.spread_of_runs(model, m)) for m in METRICS},
        },
        "calibration": None
        if reliability is None
        else {
            "expected_calibration_error": reliability.error,
            "brier": reliability.brier,
            "masks": reliability.masks,
            "voxels": reliability.count.tolist(),
            "mean_probability": _plain(reliability.mean_probability),
            "part_in_truth": _plain(reliability.part_in_truth),
        },
        "dice_along_target": _plain(results.mean_profile(model)),
        "cases": _plain(results.scores[model]),
    }


def _plain(value: Any) -> Any:
    """Dictionaries, lists and numbers of it; NaN as None."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def json_text(results: "Results") -> str:
    """Everything, as JSON."""
    return json.dumps(to_dict(results), indent=2, ensure_ascii=False) + "\n"


def csv_text(results: "Results") -> str:
    """One row per model and case, mean of the runs; empty where a metric is undefined."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["model", "case", "patient", "runs", *METRICS])
    for model in results.models:
        for case, values in results.scores[model].items():
            cells = [f"{v:.6g}" if math.isfinite(v) else "" for v in values.values()]
            runs = sum(case in run for run in results.runs[model])
            writer.writerow([model, case, results.patients[case], runs, *cells])
    return text.getvalue()
