"""A 4D-CT: ten phases of the breath, their average, and a PET/CT of another examination in its own frame."""

from dataclasses import dataclass

import numpy as np

from nnunet_igtv.phantom.anatomy import LENGTH, Patient, Thorax
from nnunet_igtv.phantom.scanner import (
    CT_FIELD,
    PET_COARSER,
    PET_FIELD,
    Acquisition,
    ct_image,
    pet_image,
    regular_grid,
    sampled,
    slices_beyond,
    world_of,
)
from nnunet_igtv.phantom.shapes import Centres

PHASES = 10
OTHER_LENGTH = 24.0  # mm by which the PET/CT is longer than the 4D-CT: it is turned against it
SHIFT = (14.0, -9.0, 230.0)  # mm, from the middle of the 4D-CT to that of the PET/CT
TURN = (2.0, 0.0, 4.0)  # degrees about x and z


@dataclass(frozen=True)
class Phase:
    """One phase: `percent` of the cycle from end-inhale on, as clinics count; arrays as in `Acquisition`."""

    percent: int
    ct: np.ndarray  # HU
    structure: np.ndarray  # bool
    shift: np.ndarray  # (x, y, z) mm, of the tumour from its place at end-exhale


@dataclass(frozen=True)
class BreathScan:
    """A 4D-CT and a PET/CT of one patient. `placed` (4, 4): PET/CT's coordinates -> the 4D-CT's, mm."""

    phases: tuple[Phase, ...]
    grid: Centres
    pet_ct: Acquisition
    placed: np.ndarray

    @property
    def average(self) -> np.ndarray:
        """The mean of the phases, in whole HU."""
        return np.rint(np.mean([phase.ct for phase in self.phases], axis=0))

    @property
    def structure(self) -> np.ndarray:
        """The IGTV: where the tumour is in any phase."""
        return np.logical_or.reduce([phase.structure for phase in self.phases])


def acquire_4d(patient: Patient, matrix: int, slices: int, rng: np.random.Generator) -> BreathScan:
    """Scan a patient twice: a 4D-CT, and on another table, shifted and turned, a free-breathing PET/CT."""
    beyond = slices_beyond(slices)
    world = world_of(patient, matrix, slices, beyond)
    thorax = Thorax(patient, world, rng)
    inner = slice(beyond, beyond + slices)
    hu, suv = np.zeros(world.shape, np.float32), np.zeros(world.shape, np.float32)
    phases = []
    for number in range(PHASES):
        moment = (number / PHASES + 0.5) % 1  # ours starts at end-exhale
        hu_now, suv_now = thorax.at(moment)
        hu += hu_now / PHASES
        suv += suv_now / PHASES
        phases.append(
            Phase(
                percent=100 * number // PHASES,
                ct=ct_image(hu_now[inner], rng),
                structure=thorax.tumour_at(moment)[inner],
                shift=patient.breathing.tumour_shift(moment),
            )
        )
    placed = placement(patient.scan_centre)
    middle = patient.scan_centre + SHIFT[2]
    length, step = LENGTH + OTHER_LENGTH, LENGTH / slices
    ct_grid = _moved(regular_grid(CT_FIELD, matrix, length, round(length / step), middle))
    pet_matrix, pet_slices = (
        round(matrix * PET_FIELD / CT_FIELD / PET_COARSER),
        round(length / step / PET_COARSER),
    )
    pet_grid = _moved(regular_grid(PET_FIELD, pet_matrix, length, pet_slices, middle))
    fwhm = float(rng.uniform(5, 7))
    low_dose = ct_image(sampled(hu, world, ct_grid, placed), rng)
    pet_ct = Acquisition(
        ct=low_dose,
        ct_grid=ct_grid,
        pet=pet_image(suv, world, pet_grid, fwhm, counts=60.0, rng=rng, placed=placed),
        pet_grid=pet_grid,
        structure=np.zeros(low_dose.shape, bool),
        phase=None,
        fwhm=fwhm,
    )
    return BreathScan(tuple(phases), world.cut((inner, slice(None), slice(None))), pet_ct, placed)


def placement(centre: float) -> np.ndarray:
    """(4, 4): coordinates of the PET/CT -> of the 4D-CT whose middle is at height `centre`, mm; rigid."""
    a, _, c = np.radians(TURN)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    middle = np.array([0.0, 0.0, centre])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x
    matrix[:3, 3] = middle - matrix[:3, :3] @ (middle + SHIFT)
    return matrix


def _moved(grid: Centres) -> Centres:
    return Centres(grid.x + SHIFT[0], grid.y + SHIFT[1], grid.z)
