"""The results of a comparison as files to keep: table, scores per case, commands, times, machine.

    python experiments/scripts/tables.py n12=EVALUATION/metrics.json … --work WORK --output DIR

results.md has a table per training set, short.md what the README takes of them. Next to them are
GROUP.csv (scores per case), commands.txt (every command, as run), times.csv (seconds and memory of each) and
run.json (versions, machine, numbers of runs).
"""

import argparse
import csv
import datetime
import json
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnunet_igtv.atomic import write_text

SHOWN = {  # metric -> heading, digits
    "dice": ("Dice", 3),
    "dice_central": ("central third", 3),
    "dice_peripheral": ("outer thirds", 3),
    "surface_dice_2mm": ("surface Dice 2 mm", 3),
    "hd95_mm": ("HD95 mm", 1),
    "difference_ml": ("volume, ml", 1),
    "false_lesions": ("false lesions", 1),
}
COMPARED = ("dice", "dice_peripheral")
PACKAGES = ("nnunet-igtv", "nnunetv2", "torch", "numpy", "scipy", "SimpleITK")


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


def scores(found: dict[str, Any]) -> str:
    """A row per model: means over patients, of all runs; of Dice the interval, and the runs' deviation."""
    rows = []
    for model, values in found["models"].items():
        cells = [model]
        for metric, (_, digits) in SHOWN.items():
            summary = values["summary"][metric]
            sign = metric == "difference_ml"
            cell = number(summary["mean"], digits, sign)
            cells.append(cell + interval(summary["mean_interval"], digits) if metric == "dice" else cell)
        spread = values["runs"]["standard_deviation"]["dice"]
        cells.append(number(spread, 3) if spread is not None else "")
        rows.append(cells)
    return markdown(["", *(heading for heading, _ in SHOWN.values()), "Dice, SD of runs"], rows)


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
    return markdown(["", "Dice", "outer thirds", "volume, ml", f"Dice minus {reference}"], rows)


def commands(logs: Path) -> str:
    """Every command of the logs, as bash printed it, in the order of the logs' last change."""
    files = sorted(logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
    text = ""
    for file in files:
        lines = [line[2:] for line in file.read_text(errors="replace").splitlines() if line[:2] == "+ "]
        text += "\n".join([f"# {file.stem}", *lines, ""]) if lines else ""
    return text


def times(folder: Path) -> list[dict[str, str]]:
    """What Snakemake measured of each job: seconds, peak of memory in MB, CPU seconds."""
    rows = []
    for path in sorted(folder.glob("*.tsv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                rows.append(
                    {"job": path.stem} | {key: row.get(key, "") for key in ("s", "max_rss", "cpu_time")}
                )
    return rows


def machine() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def commit() -> str:
    """Of the repository that this file is in; "" where it is in none."""
    command = ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scores", nargs="+", metavar="GROUP=metrics.json")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args()
    a.output.mkdir(parents=True, exist_ok=True)
    text, brief, patients, runs = "", "", {}, {}
    for group, path in (word.split("=", 1) for word in a.scores):
        found = json.loads(Path(path).read_text())
        patients[group] = found["patients"]["count"]
        runs[group] = {model: len(values["runs"]["means"]) for model, values in found["models"].items()}
        text += f"## {group}: {patients[group]} test patients\n\n{scores(found)}\n{differences(found)}\n"
        brief += f"{group}, {patients[group]} test patients:\n\n{short(found)}\n"
        shutil.copy(Path(path).with_name("metrics.csv"), a.output / f"{group}.csv")
    write_text(a.output / "short.md", brief)
    write_text(a.output / "commands.txt", commands(a.work / "logs"))
    if rows := times(a.work / "times"):
        with (a.output / "times.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "python": platform.python_version(),
        "commit": commit(),
        "versions": {name: version(name) for name in PACKAGES},
        "test_patients": patients,
        "runs": runs,
    }
    write_text(a.output / "run.json", json.dumps(record, indent=2) + "\n")
    intro = (
        "Means over patients and runs, with 95 % intervals over patients in brackets; differences in the same"
        " patients. Definitions: docs/evaluation.md.\n\n"
    )
    write_text(
        a.output / "results.md", intro + text
    )  # the last: the workflow takes it for the sign of the end
