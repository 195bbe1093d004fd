"""Rigid registration of one CT to another of the same patient, by mutual information (Mattes et al. 2003).

The two may lie anywhere in their frames of reference and show different lengths of the body: positions along
the patient are tried first, on a coarse grid; the best are refined, and the best of these on finer grids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_fill_holes

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.registration import recorded_matrix

SEED = 1  # of the sampling: one input gives one result
BINS = 40
COARSE_MM, FINE_MM = 8.0, (4.0, 2.5)  # voxels of the levels
SHIFTS_MM = 16.0  # between the positions along the patient that are tried
REFINED = 3  # how many of them
BODY_HU = -400.0
WINDOW = (-1000.0, 500.0)  # HU; metal and padding say nothing
FINE_SAMPLES = 60000
LEAST_OVERLAP = 0.5  # of the smaller body
MOST_DEGREES = 25.0


@dataclass(frozen=True)
class RigidResult:
    """A registration.

    Attributes:
        matrix: (4, 4), a point in mm of the moving CT -> the fixed CT.
        metric: mutual information in nats (larger is better), over the fixed body.
        overlap: the part of the body that both CTs show, as a share of the smaller one.
    """

    matrix: np.ndarray
    metric: float
    overlap: float

    @property
    def recorded(self) -> dict[str, object]:
        """What is kept of it in the record of a conversion."""
        return {
            "type": "RIGID",
            "computed": "Mattes mutual information of the CTs",
            "metric": round(self.metric, 4),
            "overlap": round(self.overlap, 3),
            "pet_to_ct": recorded_matrix(self.matrix),
        }


@dataclass(frozen=True)
class _Level:
    """Both CTs on grids of one voxel size, and the bodies in them (1 inside)."""

    moving: sitk.Image
    fixed: sitk.Image
    moving_body: sitk.Image
    fixed_body: sitk.Image

    @classmethod
    def of(cls, moving: sitk.Image, fixed: sitk.Image, size: float) -> "_Level":
        images = _resized(moving, size), _resized(fixed, size)
        return cls(*images, _body(images[0]), _body(images[1]))


def register_rigidly(moving: sitk.Image, fixed: sitk.Image) -> RigidResult:
    """Where a CT in HU belongs in the space of another one.

    Raises:
        IGTVError: no body is found in one of them, or what was found is no plausible registration.
    """
    coarse = _Level.of(moving, fixed, COARSE_MM)
    found = [_refined(coarse, start, (8.0, 4.0, 2.0)) for start in _starts(coarse)]
    transform = max(found, key=lambda result: result[1])[0]
    for size in FINE_MM:
        transform, metric = _refined(_Level.of(moving, fixed, size), transform, (2.0, 1.0, 0.5))
    back = np.eye(4)
    centre = np.array(transform.GetCenter())
    back[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    back[:3, 3] = np.array(transform.GetTranslation()) + centre - back[:3, :3] @ centre
    overlap = _overlap(transform, coarse)
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(back[:3, :3]) - 1) / 2, -1, 1))))
    if overlap < LEAST_OVERLAP or degrees > MOST_DEGREES:
        raise IGTVError(
            f"the CT of the PET/CT could not be registered (the best that was found has {overlap:.0%} of the "
            f"body in common, and is turned by {degrees:.0f} degrees)",
            remedy="register them elsewhere and add the registration object (REG)",
        )
    return RigidResult(np.linalg.inv(back), metric, overlap)


def _resized(image: sitk.Image, size: float) -> sitk.Image:
    """The image, clipped, at voxels of `size` mm or as large as they are, smoothed before."""
    image = sitk.Clamp(sitk.Cast(image, sitk.sitkFloat32), sitk.sitkFloat32, *WINDOW)
    spacing = np.array(image.GetSpacing())
    wanted = np.maximum(spacing, size)
    sigmas = np.where(wanted > 1.5 * spacing, 0.4 * wanted, 0.0)
    for axis, sigma in enumerate(sigmas):
        if sigma > 0 and image.GetSize()[axis] > 3:
            image = sitk.RecursiveGaussian(image, float(sigma), False, 0, axis)
    count = np.maximum(np.floor((np.array(image.GetSize()) - 1) * spacing / wanted).astype(int) + 1, 2)
    return sitk.Resample(
        image,
        count.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        wanted.tolist(),
        image.GetDirection(),
        WINDOW[0],
        sitk.sitkFloat32,
    )


def _body(image: sitk.Image) -> sitk.Image:
    """The largest connected part above air, its lungs and a rim included."""
    above = sitk.BinaryMorphologicalOpening(image > BODY_HU, [1, 1, 0])
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(above), sortByObjectSize=True)
    body = sitk.GetArrayFromImage(parts) == 1
    if not body.any():
        raise IGTVError("no body was found in a CT that is to be registered", remedy="check the CT")
    filled = np.stack([binary_fill_holes(plane) for plane in body]).astype(np.uint8)
    mask = sitk.GetImageFromArray(filled)
    mask.CopyInformation(image)
    return sitk.BinaryDilate(mask, [1, 1, 0])


def _starts(level: _Level) -> Sequence[sitk.Euler3DTransform]:
    """The most promising positions along the patient, with the centres of both bodies on one line."""
    bodies = level.moving_body, level.fixed_body
    middles = [_middle(body) for body in bodies]
    shift = middles[0] - middles[1]
    spans = [_heights(body) for body in bodies]
    shorter = min(high - low for low, high in spans)
    lowest = spans[0][0] - spans[1][1] + LEAST_OVERLAP * shorter
    highest = spans[0][1] - spans[1][0] - LEAST_OVERLAP * shorter
    tried = []
    method = _method(level.fixed_body, 1.0)
    for height in np.arange(lowest, highest + SHIFTS_MM, SHIFTS_MM):
        start = sitk.Euler3DTransform(middles[1].tolist())
        start.SetTranslation((float(shift[0]), float(shift[1]), float(height)))
        method.SetInitialTransform(start)
        tried.append((-_value(method, level), start))
    tried.sort(key=lambda one: -one[0])
    return [start for _, start in tried[:REFINED]]


def _middle(body: sitk.Image) -> np.ndarray:
    """The centre of a body, mm."""
    index = np.argwhere(sitk.GetArrayViewFromImage(body))[:, ::-1].mean(0)
    return np.array(body.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def _heights(body: sitk.Image) -> tuple[float, float]:
    """The lowest and the highest point of a body along the patient, mm."""
    index = np.argwhere(sitk.GetArrayViewFromImage(body))[:, ::-1]
    corners = [index[index[:, 2].argmin()], index[index[:, 2].argmax()]]
    heights = [body.TransformIndexToPhysicalPoint(corner.tolist())[2] for corner in corners]
    return min(heights), max(heights)


def _method(fixed_body: sitk.Image, share: float) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(fixed_body)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(share, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetNumberOfThreads(1)  # sums of several threads differ in their last digits from run to run
    return method


def _value(method: sitk.ImageRegistrationMethod, level: _Level) -> float:
    try:
        return float(method.MetricEvaluate(level.fixed, level.moving))
    except RuntimeError:  # the images do not overlap there
        return 0.0


def _refined(
    level: _Level, start: sitk.Euler3DTransform, steps: Sequence[float]
) -> tuple[sitk.Euler3DTransform, float]:
    """The best transform near a start, and its mutual information: never worse than the start.

    Args:
        steps: mm, of descents one after the other; a descent that ends worse than it began is forgotten.
    """
    inside = int(np.count_nonzero(sitk.GetArrayViewFromImage(level.fixed_body)))
    share = min(1.0, FINE_SAMPLES / max(inside, 1))
    method = _method(level.fixed_body, share)
    method.SetInitialTransform(sitk.Euler3DTransform(start))
    best, value = start, -_value(method, level)
    for step in steps:
        method = _method(level.fixed_body, share)
        method.SetOptimizerAsRegularStepGradientDescent(
            step, 0.001, 300, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-8
        )
        method.SetOptimizerScalesFromPhysicalShift()
        reached = sitk.Euler3DTransform(best)
        method.SetInitialTransform(reached, inPlace=True)
        try:
            method.Execute(level.fixed, level.moving)
        except RuntimeError:  # it left the overlap
            continue
        if -float(method.GetMetricValue()) > value:
            best, value = reached, -float(method.GetMetricValue())
    return best, value


def _overlap(transform: sitk.Euler3DTransform, level: _Level) -> float:
    """The part of the body that both show, as a share of the smaller one."""
    there = sitk.Resample(level.moving_body, level.fixed, transform, sitk.sitkNearestNeighbor, 0)
    volumes = [
        np.count_nonzero(sitk.GetArrayViewFromImage(body)) * float(np.prod(body.GetSpacing()))
        for body in (there * level.fixed_body, level.fixed_body, level.moving_body)
    ]
    return volumes[0] / min(volumes[1:])
