"""The thorax: a patient drawn at random, and its tissues at each moment of the breath.

Origin: the heart's centre at end-exhale. Tissue values are textbook CT numbers (HU) and FDG uptake (SUV).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from nnunet_igtv.phantom.breathing import LUNG_APEX, MAX_AMPLIFICATION, Breathing
from nnunet_igtv.phantom.satellites import Satellite, around
from nnunet_igtv.phantom.shapes import Centres, Vector, capsule, ellipsoid, filled, union
from nnunet_igtv.phantom.tumour import Tumour

LENGTH = 108.0  # mm of the body that a scan covers
MARGIN = 6.0  # mm that stay free above and below everything the tumour reaches
HEART_SHARE = 0.35  # of the tumour's motion


@dataclass(frozen=True)
class Patient:
    """What distinguishes one patient. Lengths in mm, uptake in SUV."""

    half_width: float
    half_depth: float
    scan_centre: float  # height of the middle of the scan above the heart's centre
    heart_suv: (
        float  # uptake of the left ventricle's wall: fasting decides, from cold to hotter than a tumour
    )
    liver_suv: float
    blood_suv: float
    right_dome: float  # height of the diaphragm's right dome at end-exhale
    node: Vector  # an inflamed lymph node, hot and no tumour
    node_suv: float
    nodules: tuple[Vector, ...]  # old granulomas, dense and cold
    vessels: tuple[tuple[Vector, Vector, float], ...]  # start, end, radius
    rib_offset: float
    tumour: Tumour
    breathing: Breathing
    satellites: tuple[Satellite, ...] = ()

    def with_satellites(self, number: int, rng: np.random.Generator) -> "Patient":
        """The same patient with foci of inflammation in the lung near the tumour."""

        def in_lung(point: Vector) -> bool:
            x, y, z = (np.full((1, 1, 1), value) for value in point)
            inside = _lungs(self, Centres(x, y, z)).item() < 0
            return inside and point[2] > float(_dome(self.right_dome, point[0], point[1]))

        return replace(self, satellites=around(self.tumour, number, rng, in_lung))

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Patient":
        half_width, half_depth = rng.uniform(155, 178), rng.uniform(102, 116)
        right_dome = rng.uniform(-45, -32)
        amplitude, radius = rng.uniform(5, 25), rng.uniform(8, 17)
        centre = _site(rng, half_width, half_depth, right_dome, radius)
        tumour = Tumour.random(rng, centre, radius)
        breathing = Breathing(
            amplitude=amplitude,
            forward=rng.uniform(0.05, 0.25),
            lag=rng.uniform(0, 0.1),
            power=int(rng.integers(2, 4)),
            tumour_height=centre[2],
        )
        slack = (LENGTH - amplitude - 2 * tumour.reach) / 2 - MARGIN
        sides = rng.permutation([-1.0, 1.0])
        return cls(
            half_width=half_width,
            half_depth=half_depth,
            scan_centre=centre[2] - amplitude / 2 + rng.uniform(-slack, slack),
            heart_suv=float(np.exp(rng.uniform(np.log(2), np.log(12)))),
            liver_suv=rng.uniform(1.8, 2.6),
            blood_suv=rng.uniform(1.3, 1.9),
            right_dome=right_dome,
            node=(sides[0] * rng.uniform(30, 38), rng.uniform(8, 25), rng.uniform(15, 55)),
            node_suv=rng.uniform(2.5, 6),
            nodules=tuple(_point_in_lung(rng, half_width, half_depth) for _ in range(rng.integers(1, 4))),
            vessels=tuple(_vessels(rng, half_width, half_depth)),
            rib_offset=rng.uniform(0, 1),
            tumour=tumour,
            breathing=breathing,
        )


class Thorax:
    """A patient on a grid."""

    def __init__(self, patient: Patient, grid: Centres, rng: np.random.Generator) -> None:
        self.patient, self.grid = patient, grid
        self._still_hu, self._still_suv = _chest(patient, grid)
        spine, mediastinum = _spine_body(patient, grid), _mediastinum(grid)
        cavity = np.maximum(_lungs(patient, grid), -union(spine, mediastinum))
        self._cavity = filled(cavity, grid.voxel)
        # what moves within the lungs, at end-exhale, with as much above the grid as can come down into it
        step = float(grid.z[1, 0, 0] - grid.z[0, 0, 0])
        above = int(np.ceil(MAX_AMPLIFICATION * patient.breathing.amplitude / step)) + 1
        heights = grid.z[0, 0, 0] + step * np.arange(len(grid.z) + above)
        self._content_hu, self._content_suv = _lung_content(
            patient, Centres(grid.x, grid.y, heights[:, None, None]), rng
        )

    def at(self, phase: float) -> tuple[np.ndarray, np.ndarray]:
        """CT number (HU) and uptake (SUV) of each voxel at a moment of the cycle, (S, H, W) each."""
        patient, grid = self.patient, self.grid
        heights = grid.z.ravel()
        source = heights + patient.breathing.descent(heights, phase)
        position = (source - heights[0]) / (heights[1] - heights[0])
        below = position.astype(int)
        part = (position - below).astype(np.float32)[:, None, None]
        hu, suv = self._still_hu.copy(), self._still_suv.copy()
        for volume, content in ((hu, self._content_hu), (suv, self._content_suv)):
            moved = content[below] * (1 - part) + content[below + 1] * part
            volume += self._cavity * (moved - volume)
        drop = HEART_SHARE * patient.breathing.amplitude * patient.breathing.trace(phase)
        _paint_heart(patient, grid, drop, hu, suv)
        shift = patient.breathing.tumour_shift(phase)
        for satellite in patient.satellites:
            satellite.paint(grid, shift, hu, suv)
        patient.tumour.paint(grid, shift, hu, suv)
        return hu, suv

    def tumour_at(self, phase: float) -> np.ndarray:
        """Voxels whose centres are in the tumour at a moment of the cycle, bool (S, H, W)."""
        inside = np.zeros(self.grid.shape, bool)
        tumour, shift = self.patient.tumour, self.patient.breathing.tumour_shift(phase)
        x, y, z = np.array(tumour.centre) + shift
        box = self.grid.box((x, y, z), tumour.reach)
        inside[box] = tumour.distance(self.grid.cut(box), shift) <= 0
        return inside


# ------------------------------------------------------------------------------------------------ places


def _lung_frame(half_width: float, half_depth: float, side: float) -> tuple[Vector, Vector]:
    """Centre and radii of a lung; side -1 is the patient's right."""
    return (side * 0.47 * half_width, 2.0, 20.0), (0.36 * half_width, 0.74 * half_depth, LUNG_APEX - 20.0)


def _dome(right_dome: float, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    """Height of the diaphragm at end-exhale; the left dome is 10 mm lower."""
    right = right_dome - (x + 75) ** 2 / 90 - (y + 5) ** 2 / 120
    left = right_dome - 10 - (x - 75) ** 2 / 90 - (y + 5) ** 2 / 120
    return np.where(np.asarray(x) < 0, right, left)


def _point_in_lung(rng: np.random.Generator, half_width: float, half_depth: float) -> Vector:
    side = rng.choice([-1.0, 1.0])
    centre, radii = _lung_frame(half_width, half_depth, side)
    direction = rng.normal(size=3)
    direction *= 0.85 * rng.random() ** (1 / 3) / np.linalg.norm(direction)
    x, y, z = (c + r * d for c, r, d in zip(centre, radii, direction, strict=True))
    return float(x), float(y), float(z)


def _site(
    rng: np.random.Generator, half_width: float, half_depth: float, right_dome: float, radius: float
) -> Vector:
    """A place for the tumour: in a lung, clear of diaphragm and spine, perhaps at heart or chest wall."""
    while True:
        x, y, z = _point_in_lung(rng, half_width, half_depth)
        here = Centres(*(np.full((1, 1, 1), v) for v in (x, y, z)))
        near_heart = ellipsoid(here, *_HEART, tilt=_HEART_TILT).item() < 0.9 * radius
        near_spine = abs(x) < 24 + radius and y > 35 - radius
        if (
            not near_heart
            and not near_spine
            and abs(x) > 34
            and z > _dome(right_dome, x, y) + 1.3 * radius
            and z < 75
        ):
            return x, y, z


def _vessels(
    rng: np.random.Generator, half_width: float, half_depth: float
) -> list[tuple[Vector, Vector, float]]:
    """Branching tubes from both hila."""
    tubes = []
    for side in (-1.0, 1.0):
        centre, radii = _lung_frame(half_width, half_depth, side)
        ends = [(np.array([side * 34.0, 8.0, 18.0]), 6.0)]
        for children, shrink in ((7, 0.7), (3, 0.65), (2, 0.7)):
            grown = []
            for start, radius in ends:
                for _ in range(children):
                    direction = rng.normal(size=3)
                    direction *= rng.uniform(0.5, 0.95) / np.linalg.norm(direction)
                    target = np.array(centre) + np.array(radii) * direction * (1, 1, 0.7)
                    end = start + (target - start) * rng.uniform(0.4, 0.7)
                    tubes.append((_vector(start), _vector(end), radius * shrink))
                    grown.append((end, radius * shrink))
            ends = grown
    return tubes


def _vector(values: np.ndarray) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


# ----------------------------------------------------------------------------------------------- tissues

_HEART: tuple[Vector, Vector] = ((14.0, -28.0, 0.0), (52.0, 40.0, 46.0))
_HEART_TILT = 0.5
_VENTRICLE: tuple[Vector, Vector] = ((30.0, -18.0, -2.0), (27.0, 33.0, 32.0))
_VENTRICLE_WALL = 10.0


def _put(
    volumes: tuple[np.ndarray, np.ndarray], part: np.ndarray, hu: float | np.ndarray, suv: float
) -> None:
    volumes[0][...] += part * (hu - volumes[0])
    volumes[1][...] += part * (suv - volumes[1])


def _lungs(patient: Patient, grid: Centres) -> np.ndarray:
    return union(
        *(
            ellipsoid(grid, *_lung_frame(patient.half_width, patient.half_depth, side), power=2.3)
            for side in (-1.0, 1.0)
        )
    )


def _mediastinum(grid: Centres) -> np.ndarray:
    return ellipsoid(grid, (0, -12, 0), (31, 62, np.inf))


def _spine_body(patient: Patient, grid: Centres) -> np.ndarray:
    return ellipsoid(grid, (0, 0.56 * patient.half_depth, 0), (22, 19, np.inf), power=2.4)


def _chest(patient: Patient, grid: Centres) -> tuple[np.ndarray, np.ndarray]:
    """Everything that does not move: couch, body wall, bones, mediastinum."""
    width, depth, voxel = patient.half_width, patient.half_depth, grid.voxel
    volumes = np.full(grid.shape, -1000, np.float32), np.zeros(grid.shape, np.float32)

    couch = ellipsoid(grid, (0, depth + 14, 0), (180, 12, np.inf), power=4)
    _put(volumes, filled(couch, voxel), -600, 0)
    _put(volumes, filled(couch + 3, voxel), -920, 0)

    skin = ellipsoid(grid, (0, 0, 0), (width, depth, np.inf), power=2.4)
    _put(volumes, filled(skin, voxel), -100, 0.3)  # fat
    _put(volumes, filled(skin + 12, voxel), 45, 0.7)  # muscle
    for side in (-1, 1):  # shoulder blades
        blade = capsule(
            grid, (side * 0.42 * width, 0.84 * depth, 40), (side * 0.72 * width, 0.6 * depth, 75), 4
        )
        _put(volumes, filled(blade, voxel), 450, 0.9)

    shell = ellipsoid(grid, (0, 1, 0), (0.87 * width, 0.8 * depth, np.inf), power=2.3)
    spacing, slope = 30.0, 0.45  # ribs run down from the spine to the front
    turn = (grid.z - slope * grid.y) / spacing + patient.rib_offset
    along = (np.abs(turn - np.floor(turn) - 0.5) * spacing) / 1.25
    ribs = np.hypot(shell, along) - 5.0
    front = (np.abs(grid.x) < 30) & (grid.y < 0)
    ribs = np.where(front, 50, ribs)
    _put(volumes, filled(ribs, voxel), 550, 0.9)
    _put(volumes, filled(ribs + 2, voxel), 200, 1.1)  # marrow

    sternum = ellipsoid(grid, (0, -0.83 * depth, 0), (20, 6, np.inf), power=3)
    _put(volumes, filled(sternum, voxel), 350, 0.9)
    _put(volumes, filled(sternum + 2, voxel), 130, 1.1)

    _put(volumes, filled(_mediastinum(grid), voxel), 0, 0.9)
    for (x, y), radius in (((23, 42), 12.5), ((-20, -8), 10)):  # descending aorta, vena cava
        tube = ellipsoid(grid, (x, y, 0), (radius, radius, np.inf))
        _put(volumes, filled(tube, voxel), 45, patient.blood_suv)
    great = ellipsoid(grid, (2, -22, 80), (17, 17, 55))  # ascending aorta, pulmonary trunk
    _put(volumes, filled(great, voxel), 45, patient.blood_suv)
    _put(volumes, filled(ellipsoid(grid, (6, 36, 0), (8, 6, np.inf)), voxel), 30, 1.7)  # oesophagus

    _put(volumes, filled(_spine_body(patient, grid), voxel), 400, 1.0)
    disc = np.abs((grid.z / 28) % 1 - 0.5) * 28 - 3  # one disc per vertebra
    _put(volumes, filled(_spine_body(patient, grid) + 2.5, voxel), 180, 1.3)
    _put(volumes, filled(np.maximum(_spine_body(patient, grid), disc), voxel), 80, 0.7)
    arch_y = 0.56 * depth + 27
    arch = ellipsoid(grid, (0, arch_y, 0), (16, 13, np.inf))
    process = ellipsoid(grid, (0, arch_y + 14, 0), (5, 14, np.inf))
    beam = ellipsoid(grid, (0, arch_y - 3, 0), (32, 5, np.inf))
    _put(volumes, filled(np.maximum(union(arch, process, beam), disc * -1 - 6), voxel), 380, 1.0)
    _put(volumes, filled(ellipsoid(grid, (0, arch_y - 1, 0), (9, 8, np.inf)), voxel), 25, 1.0)  # spinal canal

    airway = union(
        capsule(grid, (-2, 18, 62), (-2, 22, 200), 9),
        capsule(grid, (-2, 18, 62), (-48, 14, 26), 7),
        capsule(grid, (-2, 18, 62), (48, 16, 22), 6),
    )
    _put(volumes, filled(airway, voxel), -980, 0)
    _put(volumes, filled(ellipsoid(grid, patient.node, (8, 7, 8)), voxel), 35, patient.node_suv)
    return volumes


def _lung_content(patient: Patient, grid: Centres, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The chest cavity at end-exhale: lung with vessels, and the organs below the diaphragm."""
    voxel = grid.voxel
    step = float(grid.z[1, 0, 0] - grid.z[0, 0, 0])
    texture = gaussian_filter(rng.standard_normal(grid.shape, np.float32), (5 / step, 5 / voxel, 5 / voxel))
    texture *= 18 / texture.std()
    volumes = (
        # denser at the back and the base
        (-835 + 0.45 * grid.y - 0.25 * grid.z + texture).astype(np.float32),
        np.broadcast_to(0.5 + 0.001 * grid.y - 0.0008 * grid.z, grid.shape).astype(np.float32),
    )
    for start, end, radius in patient.vessels:
        middle = _vector((np.array(start) + end) / 2)
        box = grid.box(middle, float(np.linalg.norm(np.array(end) - start)) / 2 + radius + voxel)
        if all(s.stop > s.start for s in box):
            # a tube thinner than a voxel is drawn a voxel wide and as much fainter
            wide = max(radius, voxel / 2)
            part = filled(capsule(grid.cut(box), start, end, wide), voxel) * (radius / wide) ** 2
            _put((volumes[0][box], volumes[1][box]), part, 40, patient.blood_suv)
    for centre in patient.nodules:
        _put(volumes, filled(ellipsoid(grid, centre, (6, 5, 6)), voxel), 90, 0.8)
    below = grid.z - _dome(patient.right_dome, grid.x, grid.y)
    right = np.broadcast_to(grid.x < 0, grid.shape)
    collapsed = filled(below - 7, 6.0) * 0.25  # poorly aired lung above the diaphragm
    _put(volumes, collapsed, 20, 1.0)
    _put(volumes, filled(np.where(right, below, 99), voxel), 58, patient.liver_suv)
    _put(volumes, filled(np.where(right, 99, below), voxel), 48, 1.7)  # spleen and stomach
    return volumes


def _paint_heart(patient: Patient, grid: Centres, drop: float, hu: np.ndarray, suv: np.ndarray) -> None:
    """The heart `drop` mm below its place at end-exhale: fat, blood, and the left ventricle's wall."""

    def lowered(shape: tuple[Vector, Vector]) -> tuple[Vector, Vector]:
        (x, y, z), radii = shape
        return (x, y, z - drop), radii

    centre, radii = lowered(_HEART)
    box = grid.box(centre, max(radii) + grid.voxel)
    here, volumes = grid.cut(box), (hu[box], suv[box])
    if 0 in here.shape:
        return
    heart = ellipsoid(here, centre, radii, tilt=_HEART_TILT)
    _put(volumes, filled(heart, grid.voxel), -80, 0.5)
    _put(volumes, filled(heart + 4, grid.voxel), 42, patient.blood_suv)
    ventricle = ellipsoid(here, *lowered(_VENTRICLE), tilt=_HEART_TILT)
    _put(volumes, filled(ventricle, grid.voxel), 50, patient.heart_suv)
    _put(volumes, filled(ventricle + _VENTRICLE_WALL, grid.voxel), 42, patient.blood_suv)
