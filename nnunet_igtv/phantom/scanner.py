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
IN_PLACE = np.eye(4)  # coordinates of the scanner -> of the patient
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


def slices_beyond(slices: int) -> int:
    """How many slices above and below a scan are simulated as well: activity spills in from there."""
    return int(np.ceil(15.0 / (LENGTH / slices)))


def world_of(patient: Patient, matrix: int, slices: int, beyond: int) -> Centres:
    """The grid of a CT, and as many slices more above and below it."""
    length = LENGTH + 2 * beyond * (LENGTH / slices)
    return regular_grid(CT_FIELD, matrix, length, slices + 2 * beyond, patient.scan_centre)


def acquire(patient: Patient, kind: Kind, matrix: int, slices: int, rng: np.random.Generator) -> Acquisition:
    """Scan a patient.

    `gtv`: CT and PET gated to one random moment of the breath; the structure is the tumour at that moment.
    `igtv`: CT and PET averaged over the breath; the structure is the union of the tumour over all phases.
    """
    ct_grid = regular_grid(CT_FIELD, matrix, LENGTH, slices, patient.scan_centre)
    step, beyond = LENGTH / slices, slices_beyond(slices)
    world = world_of(patient, matrix, slices, beyond)
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
        ct=ct_image(hu[inner], rng),
        ct_grid=ct_grid,
        pet=pet_image(suv, world, pet_grid, fwhm, counts=60.0 if kind == "igtv" else 30.0, rng=rng),
        pet_grid=pet_grid,
        structure=structure[inner],
        phase=None if kind == "igtv" else float(moments[0]),
        fwhm=fwhm,
    )


def ct_image(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Quantum noise: 10 to 20 HU, a little correlated between neighbours."""
    noise = gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0, 0.6, 0.6))
    noise *= rng.uniform(10, 20) / noise.std()
    return np.clip(np.rint(hu + noise), -1024, 3071)


def pet_image(
    suv: np.ndarray,
    world: Centres,
    grid: Centres,
    fwhm: float,
    counts: float,
    rng: np.random.Generator,
    placed: np.ndarray = IN_PLACE,
) -> np.ndarray:
    """Blur, sampling on the PET's own grid, Poisson noise, and the reconstruction's post-filter.

    The post-filter smooths the noise as well, so that it is correlated as in reconstructed images; blur and
    post-filter together have the full width at half maximum `fwhm` (mm). `counts`: events per SUV and ml.
    `placed` (4, 4) takes a point of the PET's grid to the patient, where the scanner has other coordinates.
    """
    after = 4.0  # mm, FWHM of the post-filter
    before = np.sqrt(fwhm**2 - after**2)
    spacing = _spacing(world)
    blurred = gaussian_filter(suv, before / _FWHM_PER_SIGMA / spacing, mode="nearest")
    # the body ends within the CT's field of view; above and below, the outermost slices are repeated
    seen = sampled(blurred, world, grid, placed)
    pet_spacing = _spacing(grid)
    events = counts * pet_spacing.prod() / 1000
    noisy = rng.poisson(np.maximum(seen, 0) * events).astype(np.float32) / events
    return np.maximum(gaussian_filter(noisy, after / _FWHM_PER_SIGMA / pet_spacing), 0)


def sampled(volume: np.ndarray, world: Centres, grid: Centres, placed: np.ndarray = IN_PLACE) -> np.ndarray:
    """A volume on the world's grid, at the points of another grid (mapped by `placed`, mm, first)."""
    z, y, x = np.meshgrid(*[axis.ravel() for axis in (grid.z, grid.y, grid.x)], indexing="ij")
    points = np.einsum("ij,j...->i...", placed[:3, :3], np.stack([x, y, z]))
    index = [
        (points[k] + placed[k, 3] - axis.ravel()[0]) / step
        for k, axis, step in zip((2, 1, 0), (world.z, world.y, world.x), _spacing(world), strict=True)
    ]
    return map_coordinates(volume, index, order=1, mode="nearest")


def _spacing(grid: Centres) -> np.ndarray:
    return np.array([axis.ravel()[1] - axis.ravel()[0] for axis in (grid.z, grid.y, grid.x)])
