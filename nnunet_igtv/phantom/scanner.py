"""Imaging: CT and PET of a breathing thorax, and the true structure."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from nnunet_igtv.phantom.anatomy import LENGTH, Patient, Thorax
from nnunet_igtv.phantom.breathing import phases
from nnunet_igtv.phantom.shapes import Centres

Kind = Literal["gtv", "igtv"]

CT_FIELD = 384.0  # mm, edge of the CT's square field of view
PET_FIELD = 400.0
PET_LENGTH = LENGTH + 8.0
PET_COARSER = 1.3  # PET voxels are longer than CT voxels by this factor, in all directions
_FWHM_PER_SIGMA = 2.3548


@dataclass(frozen=True)
class Acquisition:
    """One scan of one patient. Arrays are (slices, rows, columns), slices from the feet up."""

    ct: np.ndarray  # HU
    ct_grid: Centres
    pet: np.ndarray  # SUV body weight
    pet_grid: Centres
    structure: np.ndarray  # bool, on the CT grid
    phase: float | None  # of a gated scan; None for an average over the cycle
    fwhm: float  # mm, of the PET


def regular_grid(field: float, matrix: int, length: float, slices: int, centre: float) -> Centres:
    """`matrix` x `matrix` x `slices` voxels that fill field x field x length mm about the body axis."""
    inplane = (np.arange(matrix) + 0.5) * field / matrix - field / 2
    heights = (np.arange(slices) + 0.5) * length / slices - length / 2 + centre
    return Centres(inplane[None, None, :], inplane[None, :, None], heights[:, None, None])


def acquire(patient: Patient, kind: Kind, matrix: int, slices: int, rng: np.random.Generator) -> Acquisition:
    """Scan a patient.

    `gtv`: CT and PET gated to one random moment of the breath; the structure is the tumour at that moment.
    `igtv`: CT and PET averaged over the breath; the structure is the union of the tumour over all phases.
    """
    ct_grid = regular_grid(CT_FIELD, matrix, LENGTH, slices, patient.scan_centre)
    step = LENGTH / slices
    beyond = int(np.ceil(15.0 / step))  # slices above and below, from which activity spills in
    world = regular_grid(
        CT_FIELD, matrix, LENGTH + 2 * beyond * step, slices + 2 * beyond, patient.scan_centre
    )
    thorax = Thorax(patient, world, rng)

    moments = phases() if kind == "igtv" else rng.choice(phases(), 1)
    hu, suv = np.zeros(world.shape, np.float32), np.zeros(world.shape, np.float32)
    structure = np.zeros(world.shape, bool)
    for moment in moments:
        hu_now, suv_now = thorax.at(moment)
        hu += hu_now / len(moments)
        suv += suv_now / len(moments)
        structure |= thorax.tumour_at(moment)
    inner = slice(beyond, beyond + slices)

    fwhm = float(rng.uniform(5, 7))
    pet_matrix, pet_slices = (
        round(matrix * PET_FIELD / CT_FIELD / PET_COARSER),
        round(PET_LENGTH / step / PET_COARSER),
    )
    pet_grid = regular_grid(PET_FIELD, pet_matrix, PET_LENGTH, pet_slices, patient.scan_centre)
    return Acquisition(
        ct=_ct(hu[inner], rng),
        ct_grid=ct_grid,
        pet=_pet(suv, world, pet_grid, fwhm, counts=60.0 if kind == "igtv" else 30.0, rng=rng),
        pet_grid=pet_grid,
        structure=structure[inner],
        phase=None if kind == "igtv" else float(moments[0]),
        fwhm=fwhm,
    )


def _ct(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Quantum noise: 10 to 20 HU, a little correlated between neighbours."""
    noise = gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0, 0.6, 0.6))
    noise *= rng.uniform(10, 20) / noise.std()
    return np.clip(np.rint(hu + noise), -1024, 3071)


def _pet(
    suv: np.ndarray,
    world: Centres,
    grid: Centres,
    fwhm: float,
    counts: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Blur, sampling on the PET's own grid, Poisson noise, and the reconstruction's post-filter.

    The post-filter smooths the noise as well, so that it is correlated as in reconstructed images; blur and
    post-filter together have the full width at half maximum `fwhm` (mm). `counts`: events per SUV and ml.
    """
    after = 4.0  # mm, FWHM of the post-filter
    before = np.sqrt(fwhm**2 - after**2)
    spacing = _spacing(world)
    blurred = gaussian_filter(suv, before / _FWHM_PER_SIGMA / spacing, mode="nearest")
    index = [
        (target.ravel() - source.ravel()[0]) / step
        for target, source, step in zip(
            (grid.z, grid.y, grid.x), (world.z, world.y, world.x), spacing, strict=True
        )
    ]
    # the body ends within the CT's field of view; above and below, the outermost slices are repeated
    sampled = map_coordinates(blurred, np.meshgrid(*index, indexing="ij"), order=1, mode="nearest")
    pet_spacing = _spacing(grid)
    events = counts * pet_spacing.prod() / 1000
    noisy = rng.poisson(np.maximum(sampled, 0) * events).astype(np.float32) / events
    return np.maximum(gaussian_filter(noisy, after / _FWHM_PER_SIGMA / pet_spacing), 0)


def _spacing(grid: Centres) -> np.ndarray:
    return np.array([axis.ravel()[1] - axis.ravel()[0] for axis in (grid.z, grid.y, grid.x)])
