"""Results of a benchmark as CSV in results/, each row with its machine, day and command."""

import csv
import datetime
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine(device: str) -> str:
    """The GPU's name, or the CPU's with the number of its cores."""
    if device != "cpu":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


def write(name: str, rows: Sequence[Mapping[str, Any]], device: str) -> None:
    """Write results/NAME.csv and print the rows."""
    origin = {
        "machine": machine(device),
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *origin], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **origin} for row in rows)
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))
