"""Cohorts of phantom patients on disk: one folder per patient, complete or absent."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_igtv import __version__
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.phantom.anatomy import LENGTH, Patient
from nnunet_igtv.phantom.dicom_writer import Administration, write_study
from nnunet_igtv.phantom.scanner import CT_FIELD, Acquisition, Kind, acquire

PARAMETERS = "phantom.json"
_STREAM = {"gtv": 1, "igtv": 2}  # the same seed gives different patients for the two kinds


def simulate(
    kind: Kind, seed: int, index: int, matrix: int, slices: int
) -> tuple[Patient, Administration, Acquisition]:
    """Patient number `index` of a cohort; does not depend on how many others there are."""
    rng = np.random.default_rng([seed, _STREAM[kind], index])
    patient, administration = Patient.random(rng), Administration.random(rng)
    return patient, administration, acquire(patient, kind, matrix, slices, rng)


def write_cohort(
    kind: Kind, patients: int, seed: int, matrix: int, slices: int, output: str | Path
) -> Iterator[Path]:
    """Write `patients` studies to output/<patient>/{CT,PET,RTSTRUCT}/*.dcm and yield each folder.

    A patient whose folder exists is kept, so that an interrupted run continues where it stopped.

    Raises:
        IGTVError: a patient's folder exists and was made with other settings, or is not ours.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    for index in range(patients):
        name = f"{kind.upper()}-{seed}-{index:03d}"
        folder, unfinished = output / name, output / f".{name}.partial"
        settings: dict[str, Any] = {"kind": kind, "seed": seed, "index": index}
        settings |= {"matrix": matrix, "slices": slices, "version": __version__}
        if folder.exists():
            _check(folder, settings)
        else:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            patient, administration, acquisition = simulate(kind, seed, index, matrix, slices)
            key = "/".join(map(str, settings.values()))
            write_study(acquisition, administration, name, key, unfinished)
            parameters = {"settings": settings, **_parameters(patient, acquisition)}
            (unfinished / PARAMETERS).write_text(json.dumps(parameters, indent=2) + "\n")
            os.replace(unfinished, folder)
        yield folder


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


def _parameters(patient: Patient, acquisition: Acquisition) -> dict[str, Any]:
    """The parameters of this patient, to explain why a model failed on it."""
    breathing, tumour = asdict(patient.breathing), patient.tumour
    grid = acquisition.ct_grid
    voxel_ml = (CT_FIELD / grid.x.size) ** 2 * LENGTH / grid.z.size / 1000
    return {
        "structure_ml": round(float(acquisition.structure.sum() * voxel_ml), 3),
        "phase": acquisition.phase,
        "pet_fwhm_mm": round(acquisition.fwhm, 3),
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
