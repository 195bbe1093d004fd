"""Cohorts of phantom patients on disk: one folder per patient, complete or absent."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nnunet_igtv import __version__
from nnunet_igtv.atomic import locked, made
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.phantom.anatomy import LENGTH, Patient
from nnunet_igtv.phantom.dicom_writer import Administration, write_study
from nnunet_igtv.phantom.four_d import BreathScan, acquire_4d
from nnunet_igtv.phantom.four_d_writer import write_4d
from nnunet_igtv.phantom.scanner import CT_FIELD, Acquisition, Kind, acquire
from nnunet_igtv.phantom.shapes import Centres

CohortKind = Kind | Literal["4dct"]
PARAMETERS = "phantom.json"
_STREAM = {"gtv": 1, "igtv": 2, "4dct": 3}  # the same seed gives different patients for each kind


def simulate(
    kind: Kind, seed: int, index: int, matrix: int, slices: int, satellites: int = 0
) -> tuple[Patient, Administration, Acquisition]:
    """Patient number `index` of a cohort; does not depend on how many others there are."""
    rng = np.random.default_rng([seed, _STREAM[kind], index])
    patient, administration = Patient.random(rng), Administration.random(rng)
    patient = _accompanied(patient, satellites, seed, kind, index)
    return patient, administration, acquire(patient, kind, matrix, slices, rng)


def simulate_4d(
    seed: int, index: int, matrix: int, slices: int, satellites: int = 0
) -> tuple[Patient, Administration, BreathScan]:
    """As `simulate`, with a 4D-CT."""
    rng = np.random.default_rng([seed, _STREAM["4dct"], index])
    patient, administration = Patient.random(rng), Administration.random(rng)
    patient = _accompanied(patient, satellites, seed, "4dct", index)
    return patient, administration, acquire_4d(patient, matrix, slices, rng)


def _accompanied(patient: Patient, satellites: int, seed: int, kind: CohortKind, index: int) -> Patient:
    """With satellites, drawn from numbers of their own: all else of the patient stays as it is without."""
    rng = np.random.default_rng([seed, _STREAM[kind], index, 1])
    return patient.with_satellites(satellites, rng) if satellites else patient


def write_cohort(
    kind: CohortKind,
    patients: int,
    seed: int,
    matrix: int,
    slices: int,
    output: str | Path,
    one_series: bool = False,
    satellites: int = 0,
) -> Iterator[Path]:
    """Write `patients` studies to output/<patient>/{CT,PET,RTSTRUCT}/*.dcm and yield each folder.

    A patient whose folder exists is kept, so that an interrupted run continues where it stopped. Of the kind
    `4dct` the folders are those of `write_4d`; with `one_series` all phases are in one series.
    `satellites` is the number of foci of inflammation near each tumour.

    Raises:
        IGTVError: a patient's folder exists and was made with other settings, or is not ours.
    """
    output = Path(output)
    for index in range(patients):
        settings: dict[str, Any] = {"kind": kind, "seed": seed, "index": index}
        settings |= {"matrix": matrix, "slices": slices, "version": __version__}
        settings |= {"one_series": one_series} if kind == "4dct" else {}
        settings |= {"satellites": satellites} if satellites else {}
        with made(output), locked(output):  # two that write the same cohort take turns
            folder = _written(output, settings)
        yield folder


def _written(output: Path, settings: dict[str, Any]) -> Path:
    """The folder of one patient, written unless it is there."""
    kind, seed, index = (settings[key] for key in ("kind", "seed", "index"))
    size = settings["matrix"], settings["slices"], settings.get("satellites", 0)
    name = f"{kind.upper()}-{seed}-{index:03d}"
    folder, unfinished = output / name, output / f".{name}.partial"
    if folder.exists():
        _check(folder, settings)
        return folder
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        key = "/".join(map(str, settings.values()))
        if kind == "4dct":
            patient, administration, scan = simulate_4d(seed, index, *size)
            write_4d(scan, administration, name, key, unfinished, settings["one_series"])
            truth = _truth_of_4d(scan)
        else:
            patient, administration, acquisition = simulate(kind, seed, index, *size)
            write_study(acquisition, administration, name, key, unfinished)
            truth = _truth(acquisition)
        parameters = {"settings": settings, **truth, **_parameters(patient)}
        (unfinished / PARAMETERS).write_text(json.dumps(parameters, indent=2) + "\n")
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _check(folder: Path, settings: dict[str, Any]) -> None:
    try:
        found = json.loads((folder / PARAMETERS).read_text())["settings"]
    except (OSError, ValueError, KeyError):
        found = {}
    different = [name for name, value in settings.items() if found.get(name) != value]
    if different:
        raise IGTVError(
            "the folder holds a patient made with other settings (" + ", ".join(different) + ")",
            file=folder,
            remedy="choose another output folder, or delete this one",
        )


def _truth(acquisition: Acquisition) -> dict[str, Any]:
    return {
        "structure_ml": _ml(acquisition.structure, acquisition.ct_grid),
        "phase": acquisition.phase,
        "pet_fwhm_mm": round(acquisition.fwhm, 3),
    }


def _truth_of_4d(scan: BreathScan) -> dict[str, Any]:
    """Volumes, where the tumour is in each phase, and the matrix that takes the PET/CT onto the 4D-CT."""
    return {
        "structure_ml": _ml(scan.structure, scan.grid),
        "phases": [
            {
                "percent": phase.percent,
                "structure_ml": _ml(phase.structure, scan.grid),
                "shift_mm": [round(float(value), 3) for value in phase.shift],
            }
            for phase in scan.phases
        ],
        "pet_ct_to_4dct": [[round(float(value), 10) for value in row] for row in scan.placed],
        "pet_fwhm_mm": round(scan.pet_ct.fwhm, 3),
    }


def _ml(structure: np.ndarray, grid: Centres) -> float:
    voxel = (CT_FIELD / grid.x.size) ** 2 * LENGTH / grid.z.size / 1000
    return round(float(structure.sum() * voxel), 3)


def _parameters(patient: Patient) -> dict[str, Any]:
    """The parameters of this patient, to explain why a model failed on it."""
    breathing, tumour = asdict(patient.breathing), patient.tumour
    satellites = [
        {"centre_mm": [round(v, 1) for v in each.centre], "suv": round(each.suv, 2)}
        for each in patient.satellites
    ]
    return ({"satellites": satellites} if satellites else {}) | {
        "breathing": {name: round(value, 3) for name, value in breathing.items()},
        "tumour": {
            "centre_mm": [round(value, 1) for value in tumour.centre],
            "radius_mm": round(tumour.radius, 2),
            "suv": round(tumour.suv, 2),
            "core": round(tumour.core, 2),
        },
        "heart_suv": round(patient.heart_suv, 2),
        "node_suv": round(patient.node_suv, 2),
    }
