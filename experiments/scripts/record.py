"""What a run of a comparison leaves behind, to keep: scores of every run and case, commands, times, machine.

    python experiments/scripts/record.py n12=EVALUATION/metrics.json --runs scratch=0 scratch=1 pet-25=none \
        --jobs convert-igtv train-scratch-fold0-seed0 ... --reference scratch --work WORK --output DIR

GROUP.csv has a row per model, seed and case; commands.txt every command, as run; times.csv seconds and memory
of each; run.json versions and the machine. tables.py makes tables of it, of one or of several together.

Several comparisons may share a work folder. The jobs are those of this one: names in WORK/logs and WORK/times
without the ending. The workflow gives them all.
"""

import argparse
import csv
import datetime
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnunet_igtv.atomic import write_text, written_whole
from nnunet_igtv.evaluation.metrics import METRICS

PACKAGES = ("nnunet-igtv", "nnunetv2", "torch", "numpy", "scipy", "SimpleITK")


def write_scores(path: Path, found: dict[str, Any], seeds: dict[str, list[str]]) -> None:
    """A row per model, seed and case; empty where a metric is undefined.

    Args:
        found: metrics.json.
        seeds: model -> seeds of its runs, in the order in which they were evaluated.
    """
    with written_whole(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "seed", "case", "patient", *METRICS])
        for model, values in found["models"].items():
            for seed, run in zip(seeds[model], values["runs"]["cases"], strict=True):
                for case, scores in run.items():
                    cells = ["" if scores[m] is None else f"{scores[m]:.6g}" for m in METRICS]
                    writer.writerow([model, seed, case, found["patients"]["of_cases"][case], *cells])


def commands(logs: Path, jobs: list[str]) -> str:
    """Every command of the jobs, as bash printed it, in the order of the logs' last change; first, which jobs
    have no log."""
    files = [logs / f"{job}.log" for job in jobs]
    text = "".join(f"# {file.stem}: there is no log of it\n" for file in files if not file.exists())
    for file in sorted(filter(Path.exists, files), key=lambda path: path.stat().st_mtime):
        lines = [line[2:] for line in file.read_text(errors="replace").splitlines() if line[:2] == "+ "]
        text += "\n".join([f"# {file.stem}", *lines, ""]) if lines else ""
    return text


def times(folder: Path, jobs: list[str]) -> list[dict[str, str]]:
    """What Snakemake measured of each job, of those that it measures: seconds, peak of memory in MB, CPU
    seconds."""
    rows = []
    for path in filter(Path.exists, (folder / f"{job}.tsv" for job in sorted(jobs))):
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


def commit(repository: Path) -> str:
    """Its latest, and whether the package or experiments/ were changed since, records apart; "" where it is
    none."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(repository), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    code = ("nnunet_igtv", "experiments", ":!experiments/results")
    changed = git("--no-optional-locks", "status", "--porcelain", "--", *code)
    return git("rev-parse", "HEAD") + (" and uncommitted changes" if changed else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scores", nargs="+", metavar="GROUP=metrics.json")
    parser.add_argument(
        "--runs", nargs="+", required=True, metavar="MODEL=SEED", help="as they were evaluated"
    )
    parser.add_argument("--jobs", nargs="+", required=True, metavar="JOB", help="of this comparison")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args()
    a.output.mkdir(parents=True, exist_ok=True)
    seeds: dict[str, list[str]] = {}
    for model, seed in (word.rsplit("=", 1) for word in a.runs):
        seeds.setdefault(model, []).append(seed)
    patients = {}
    for group, path in (word.split("=", 1) for word in a.scores):
        found = json.loads(Path(path).read_text())
        patients[group] = found["patients"]["count"]
        write_scores(a.output / f"{group}.csv", found, seeds)
    write_text(a.output / "commands.txt", commands(a.work / "logs", a.jobs))
    if rows := times(a.work / "times", a.jobs):
        with (a.output / "times.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    record = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "python": platform.python_version(),
        "commit": commit(Path(__file__).parents[2]),
        "versions": {name: version(name) for name in PACKAGES},
        "reference": a.reference,
        "test_patients": patients,
    }
    write_text(a.output / "run.json", json.dumps(record, indent=2) + "\n")
