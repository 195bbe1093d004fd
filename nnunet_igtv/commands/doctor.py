"""`nnunet-igtv doctor`: is this installation ready, and what to do where it is not.

Each check says what it found; one that would stop a user makes the command fail and names the remedy.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path

from nnunet_igtv import __version__
from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.environment import FOLDER, FOLDERS, VARIABLE

OLDEST_NNUNET = (2, 8, 1)
TRAINER = "IGTVTransferTrainer"


@dataclass(frozen=True)
class Finding:
    """What a check found: `remedy` is None where all is well."""

    what: str
    found: str
    remedy: str | None = None
    stops: bool = True  # whether training or prediction would fail

    @property
    def mark(self) -> str:
        return "ok" if self.remedy is None else "FAIL" if self.stops else "note"


def check_versions() -> list[Finding]:
    """Python, this package, and the packages whose versions matter."""
    findings = [Finding("Python", f"{platform.python_version()} ({sys.executable})")]
    findings.append(Finding("nnunet-igtv", __version__))
    for package in ("nnunetv2", "torch", "torchvision", "llvmlite"):
        try:
            findings.append(Finding(package, version(package)))
        except PackageNotFoundError:
            findings.append(Finding(package, "not installed", "pip install nnunet-igtv again"))
    installed = next((f for f in findings if f.what == "nnunetv2"), None)
    if installed and installed.remedy is None:
        numbers = tuple(int(part) for part in installed.found.split(".")[:3] if part.isdecimal())
        if numbers < OLDEST_NNUNET:
            needed = ".".join(map(str, OLDEST_NNUNET))
            remedy = f"pip install 'nnunetv2>={needed}': older ones do not look outside for trainers"
            findings.append(Finding("nnunetv2's age", f"{installed.found} < {needed}", remedy))
    return findings


def check_folders() -> list[Finding]:
    """nnU-Net's three folders: set, and writable where they exist."""
    findings = []
    for variable, holds in FOLDERS.items():
        path = os.environ.get(variable)
        if not path:
            findings.append(Finding(variable, "not set", f"export {variable}=FOLDER, for {holds}"))
            continue
        nearest = next(parent for parent in (Path(path), *Path(path).absolute().parents) if parent.exists())
        try:
            with tempfile.TemporaryFile(dir=nearest):
                findings.append(Finding(variable, path))
        except OSError as error:
            remedy = f"name a folder that you may write to: export {variable}=FOLDER"
            findings.append(Finding(variable, f"{path}: {error.strerror}", remedy))
    return findings


def check_trainer() -> list[Finding]:
    """The trainer, found by nnU-Net's own search."""
    held = [Path(entry) for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    remedy = 'eval "$(nnunet-igtv env)"'
    if FOLDER not in [entry.resolve() for entry in held]:
        found = "not set" if not held else f"does not hold {FOLDER}"
        return [Finding(VARIABLE, found, remedy)]
    try:
        from nnunet_igtv.dicom.quiet import quiet

        with quiet(), redirect_stdout(StringIO()):  # the search is narrated, and libraries warn at import
            from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

            trainer = recursive_find_trainer_class_by_name(TRAINER)
    except Exception as error:  # whatever nnU-Net's import of every trainer raises
        lines = str(error).splitlines() or [type(error).__name__]
        if "torchvision" in str(error):
            remedy = "install torch and torchvision as a pair that belongs together"
        return [Finding(TRAINER, f"nnU-Net does not find it: {lines[0]}", remedy)]
    return [Finding(TRAINER, f"found by nnU-Net in {trainer.__module__}")]


def check_devices() -> list[Finding]:
    """What computes the scan, here and on the GPU."""
    import torch

    from nnunet_igtv.ops import active_backend

    findings = []
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if len(devices) == 1:
        findings.append(
            Finding(
                "GPU", "none", "train with -device cpu and a Nano trainer, or on a machine with one", False
            )
        )
    for device in devices:
        what = "CPU" if device == "cpu" else f"GPU {torch.cuda.get_device_name(device)}"
        try:
            backend = active_backend(torch.device(device))
        except (RuntimeError, ValueError) as error:
            findings.append(Finding(f"scan on {what}", str(error), "unset nnUNet_igtv_scan"))
            continue
        slow = backend.name == "reference"
        remedy = f"{backend.reason}: right, but slow" if slow else None
        findings.append(Finding(f"scan on {what}", str(backend), remedy, stops=False))
    return findings


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    check_versions,
    check_folders,
    check_trainer,
    check_devices,
)


def parser() -> Parser:
    return Parser(
        prog="nnunet-igtv doctor",
        description="Check this installation: versions, folders, trainers, scan backend, GPU. "
        "The exit status is 1 where something would stop a training or a prediction.",
        example="nnunet-igtv doctor",
    )


def run(arguments: argparse.Namespace) -> int:
    findings = []
    for check in CHECKS:
        for finding in check():
            findings.append(finding)
            say(f"{finding.mark:<5} {finding.what:<22} {finding.found}")
            if finding.remedy is not None:
                say(f"{'':<28} -> {finding.remedy}")
    failed = [finding.what for finding in findings if finding.mark == "FAIL"]
    say(f"\nNot ready: {', '.join(failed)}" if failed else "\nReady.")
    return 1 if failed else 0
