"""The tables of a comparison, from what one or several runs of it left (record.py).

    python experiments/scripts/tables.py RECORD [RECORD …] --output DIR

results.md has a table per training set, short.md what the README takes of them. Several records are other
seeds of the same comparison, run on other days or machines: their runs are pooled. `--models` takes some of
the models, so that records of other methods with the same seeds and test cases come into one table.
"""

import argparse
import csv
import json
import math
from itertools import chain
from pathlib import Path
from typing import Any

from nnunet_igtv.atomic import write_text
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation.comparison import mean_by_patient
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.results import CaseScores, Results
from nnunet_igtv.evaluation.statistics import mean_of_defined
from nnunet_igtv.evaluation.texts import to_dict

SHOWN = {  # metric -> heading, digits
    "dice": ("Dice", 3),
    "dice_central": ("central third", 3),
    "dice_peripheral": ("outer thirds", 3),
    "surface_dice_2mm": ("surface Dice 2 mm", 3),
    "hd95_mm": ("HD95 mm", 1),
    "difference_ml": ("volume minus truth, ml", 1),
    "false_lesions": ("false lesions", 1),
}
COMPARED = ("dice", "dice_peripheral")


def number(value: float | None, digits: int, sign: bool = False) -> str:
    return "n/a" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def interval(bounds: dict[str, float] | None, digits: int, sign: bool = False) -> str:
    if bounds is None:
        return ""
    return " [" + ", ".join(number(bounds[key], digits, sign) for key in ("low", "high")) + "]"


def difference(row: dict[str, Any]) -> str:
    return number(row["mean"], 3, True) + interval(row["interval"], 3, True)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def scores(found: dict[str, Any], results: Results) -> str:
    """A row per model: means over patients, of all runs; of Dice the interval, and the runs' deviation."""
    rows = []
    for model, values in found["models"].items():
        cells = [model]
        for metric, (_, digits) in SHOWN.items():
            summary = values["summary"][metric]
            sign = metric == "difference_ml"
            cell = number(summary["mean"], digits, sign)
            some, masks = values["masks_with_value"][metric], values["masks"]
            if some < masks:
                cell += f" ({some} of {masks})"
            cells.append(cell + interval(summary["mean_interval"], digits) if metric == "dice" else cell)
        spread = values["runs"]["standard_deviation"]["dice"]
        cells += [number(ml, 1) for ml in wrong_ml(results.runs[model], results.patients)]
        cells.append(number(spread, 3) if spread is not None else "")
        rows.append(cells)
    more = ["missed, ml", "too much, ml", "Dice, SD of runs"]
    return markdown(["", *(heading for heading, _ in SHOWN.values()), *more], rows)


def wrong_ml(runs: list[CaseScores], patients: dict[str, int]) -> tuple[float, float]:
    """Means over patients of what is missed of the truth and of what is predicted outside of it, in ml: two
    errors that cancel in the volume."""
    missed, more = [], []
    for case, scores in chain.from_iterable(run.items() for run in runs):
        truth = scores["truth_ml"]
        covered = truth * scores["coverage"] if truth else 0.0  # of an empty truth no part is covered
        missed.append((case, truth - covered))
        more.append((case, scores["prediction_ml"] - covered))
    first, second = (mean_by_patient(values, patients).values() for values in (missed, more))
    return mean_of_defined(first), mean_of_defined(second)


def differences(found: dict[str, Any]) -> str:
    """A row per comparison with the reference: difference in the same patients, interval, adjusted p."""
    rows = []
    for pair in found["comparisons"]:
        cells = [f"{pair['second']} minus {pair['first']}"]
        for metric in COMPARED:
            row = pair["second_minus_first"][metric]
            cells += [
                difference(row),
                number(row["p_holm"], 3) if row["p_holm"] is None or row["p_holm"] >= 0.001 else "< 0.001",
            ]
        rows.append(cells)
    return markdown(["", *(text for m in COMPARED for text in (SHOWN[m][0], "p (Holm)"))], rows)


def short(found: dict[str, Any]) -> str:
    """A row per model: Dice, outer thirds, volume, and the difference to the reference."""
    pairs = {pair["second"]: pair["second_minus_first"]["dice"] for pair in found["comparisons"]}
    reference = next((pair["first"] for pair in found["comparisons"]), "")
    rows = []
    for model, values in found["models"].items():
        dice, outer, volume = (values["summary"][m] for m in ("dice", "dice_peripheral", "difference_ml"))
        pair, count = pairs.get(model), len(values["runs"]["means"])
        rows.append(
            [
                model + (f" ({count} runs)" if count > 1 else ""),
                number(dice["mean"], 3) + interval(dice["mean_interval"], 3),
                number(outer["mean"], 3),
                number(volume["mean"], 1, True),
                difference(pair) if pair else "",
            ]
        )
    head = ["", "Dice", "outer thirds", SHOWN["difference_ml"][0], f"Dice minus {reference}"]
    return markdown(head, rows) if pairs else markdown(head[:-1], [row[:-1] for row in rows])


def pooled(files: list[Path], reference: str, chosen: list[str] | None = None) -> Results:
    """The runs of all records of a training set; of the models that are named, where some are.

    Raises:
        IGTVError: two records have other truths, other scores of the same run, or other cases; the methods
            were not all run with the same seeds; or no record has a model that is named.
    """
    runs: dict[tuple[str, str], CaseScores] = {}
    truths: dict[str, float] = {}
    patients: dict[str, int] = {}
    for file in files:
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                model, seed, case = row["model"], row["seed"], row["case"]
                if chosen and model not in chosen:
                    continue
                scores = {metric: float(row[metric] or "nan") for metric in METRICS}
                if not _same(truths.setdefault(case, scores["truth_ml"]), scores["truth_ml"]):
                    raise IGTVError(
                        f"its truth has {scores['truth_ml']} ml here and {truths[case]} ml before",
                        case=case,
                        file=file,
                        remedy="pool runs on the same test cases only",
                    )
                before = runs.setdefault((model, seed), {}).setdefault(case, scores)
                if not all(_same(before[metric], scores[metric]) for metric in METRICS):
                    raise IGTVError(
                        f"{model} with seed {seed} has other scores than before",
                        case=case,
                        file=file,
                        remedy="leave out one of the two records",
                    )
                patients[case] = int(row["patient"])
    models: dict[str, list[CaseScores]] = {model: [] for model in chosen or []}  # in this order
    for (model, _), run in runs.items():
        models.setdefault(model, []).append(run)
    if missing := sorted({reference, *models} - {model for model, _ in runs}):
        raise IGTVError(f"no record has {', '.join(missing)}", remedy="take models of the records")
    _check_equal(runs)
    return Results(models, {model: {} for model in models}, patients, reference=reference)


def common_reference(records: list[Path]) -> str:
    """The model that all others are compared with.

    Raises:
        IGTVError: two records name different ones.
    """
    references = {folder: json.loads((folder / "run.json").read_text())["reference"] for folder in records}
    first = records[0]
    for folder, reference in references.items():
        if reference != references[first]:
            raise IGTVError(
                f"it compares with {reference}, and {first} with {references[first]}",
                file=folder,
                remedy="evaluate both with the same reference",
            )
    return references[first]


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))


def _check_equal(runs: dict[tuple[str, str], CaseScores]) -> None:
    """Every run has the same cases; every method has the same seeds, and a rule none."""
    seeds: dict[str, list[str]] = {}
    (first, seed), cases = next((key, set(run)) for key, run in runs.items())
    for (model, own), run in runs.items():
        if set(run) != cases:
            raise IGTVError(
                f"{model} with seed {own} has other cases than {first} with seed {seed}",
                case=min(set(run) ^ cases),
                remedy="pool runs on the same test cases only",
            )
        if own != "none":
            seeds.setdefault(model, []).append(own)
    for model, own in seeds.items():
        (other, known), *_ = seeds.items()
        if set(own) != set(known):
            raise IGTVError(
                f"{model} was run with seeds {', '.join(own)}, and {other} with {', '.join(known)}",
                remedy="run all methods with the same seeds: other means compare trainings, not methods",
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path, help="folders that record.py has written")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="in this order; all by default")
    parser.add_argument("--reference", metavar="MODEL", help="that of the records by default")
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args()
    a.output.mkdir(parents=True, exist_ok=True)
    reference = a.reference or common_reference(a.records)
    groups = json.loads((a.records[0] / "run.json").read_text())["test_patients"]
    text, brief = "", ""
    for group in groups:
        results = pooled([record / f"{group}.csv" for record in a.records], reference, a.models)
        found, count = to_dict(results), len(set(results.patients.values()))
        text += f"## {group}: {count} test patients\n\n{scores(found, results)}\n"
        text += f"{differences(found)}\n" if found["comparisons"] else ""
        brief += f"{group}, {count} test patients:\n\n{short(found)}\n"
    write_text(a.output / "short.md", brief)
    intro = (
        "Means over patients and runs, with 95 % intervals over patients in brackets; differences in the same"
        " patients. (37 of 48): of so many masks, where the others have no value. Definitions:"
        " docs/evaluation.md.\n\n"
    )
    # the last: the workflow takes it for the sign of the end
    write_text(a.output / "results.md", intro + text)
