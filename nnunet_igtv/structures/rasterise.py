"""Structures -> mask on an image grid.

A voxel belongs to a structure if its centre lies inside an odd number of the contours of its slice (even-odd
rule: holes as separate contours and holes by keyhole come out alike). On CT and PET of three institutions
this equals the masks that their authors shipped, voxel for voxel, where rasterisers that draw the outline
add 3 to 36 % of volume.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.dicom.identity import redact, secrets_of
from nnunet_igtv.dicom.redaction import naming_nobody
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid
from nnunet_igtv.structures.interpolation import between
from nnunet_igtv.structures.planes import (
    ACROSS,
    BRIDGES,
    COARSE,
    CONTINUES,
    DENSE,
    FINE,
    ON_SLICES,
    TIE,
    Plane,
    gaps,
    index_coordinates,
    main_axis,
    planes_of,
    set_slabs,
)
from nnunet_igtv.structures.regions import Region, enclosed, united
from nnunet_igtv.structures.structure_sets import FRAME_KEY, Roi, listed, read_structure_set

CONTROL = 0.05  # of the volume inside the contours: how far the voxels' volume may be off
SHOWN = 5  # places in one note


@dataclass
class Rasterised:
    """A mask (slices, rows, columns) of 0 and 1, and what a person should know about the contours."""

    mask: np.ndarray
    notes: list[str] = field(default_factory=list)


def rasterise(rois: Sequence[Roi], grid: Grid, interpolate: bool = False) -> Rasterised:
    """The union of structures on a grid, by pixel centres.

    What the contours of a plane enclose: see `regions`; which slices a plane stands for: see `planes`; with
    `interpolate`, what is on slices between two planes: see `between`.

    Raises:
        IGTVError: contours that cannot be read, that do not lie parallel to the slices, or that are lines
            where an outline is missing; nothing is left on the grid.
    """
    result = Rasterised(grid.empty())
    for roi in rois:
        try:
            notes = _fill(roi, grid, result.mask, interpolate)
        except IGTVError as error:
            raise error.but(what=f"structure {roi.name!r}: {error.what}") from error
        result.notes += [f"structure {roi.name!r}: {note}" for note in notes]
    if not result.mask.any():
        raise IGTVError(
            f"structure {listed([roi.name for roi in rois])} covers no voxel of the image; "
            f"{'; '.join(result.notes) or 'too small'}"
        )
    return result


def _fill(roi: Roi, grid: Grid, mask: np.ndarray, interpolate: bool) -> list[str]:
    """Set the voxels of one structure in `mask`; returns notes."""
    if roi.drawn.fault:
        raise roi.drawn.fault
    columns, rows, slices = grid.size
    planes = planes_of(roi.contours, grid)
    notes = [*roi.drawn.notes, *_lines(roi, planes, grid)]
    if not planes:
        return notes
    stated = roi.drawn.thickness_mm
    known = None if stated is None else stated / grid.spacing[2]
    usual = set_slabs(planes, BRIDGES if interpolate else CONTINUES, known)
    regions = {
        i: enclosed(plane.polygons, rows, columns, roi.drawn.exclusive)
        for i, plane in enumerate(planes)
        if plane.high > -0.5 and plane.low < slices - 0.5
    }
    at: dict[int, list[Region]] = {}
    for i, region in regions.items():
        for k in planes[i].slices:
            if 0 <= k < slices:
                found = _interpolated(planes, regions, i, k, grid) if interpolate else region
                at.setdefault(k, []).append(found)
    voxels = 0
    for k, parts in at.items():
        own = parts[0] if len(parts) == 1 else united(parts)
        mask[(k, *own.window)] |= own.pixels
        voxels += int(own.pixels.sum())
    notes += _notes_on_planes(planes, usual, grid, interpolate)
    notes += _notes_on_outlines(list(regions.values()))
    return notes + _control([(planes[i], region) for i, region in regions.items()], voxels, usual, grid)


def _interpolated(planes: Sequence[Plane], regions: dict[int, Region], i: int, k: int, grid: Grid) -> Region:
    """What is on slice `k` of the slab of plane `i`: between it and the plane that joins it on that side."""
    plane = planes[i]
    joins, other = (plane.joins_above, plane.above) if k > plane.height else (plane.joins_below, plane.below)
    if not joins or other not in regions or abs(k - plane.height) <= TIE:
        return regions[i]
    lower, upper = sorted((i, other))
    share = (k - planes[lower].height) / (planes[upper].height - planes[lower].height)
    return between(regions[lower], regions[upper], share, (grid.spacing[1], grid.spacing[0]))


def _lines(roi: Roi, planes: Sequence[Plane], grid: Grid) -> list[str]:
    """A note on contours that are lines; they are refused where no outline is at their height."""
    kinds = ", ".join(sorted(roi.drawn.line_types))
    for index in index_coordinates(roi.drawn.lines, grid):
        height = float(np.median(index[:, 2]))
        beside = any(abs(plane.height - height) < ACROSS for plane in planes)
        if not beside or np.ptp(index[:, 2]) > ACROSS:
            raise IGTVError(
                f"contours of the geometric type {kinds} (3006,0042) are no outlines, and there is no closed "
                "contour at their height",
                remedy="close them in the planning system, or take them out of the structure",
            )
    count = len(roi.drawn.lines)
    return [f"{count} contour(s) of the geometric type {kinds} are no outlines: left out"] if count else []


def _notes_on_planes(planes: Sequence[Plane], usual: float, grid: Grid, interpolated: bool) -> list[str]:
    """What a person should know about the planes on which a structure was drawn."""
    slices, axis, step = grid.size[2], "xyz"[main_axis(grid)], grid.spacing[2]
    notes = []
    heights = np.array([plane.height for plane in planes])
    inside = (heights >= -0.5) & (heights <= slices - 0.5)
    off = float(np.median(np.abs(heights - np.round(heights))))
    if usual > COARSE:
        notes.append(
            f"contours are {usual * step:.2f} mm apart on slices of {step:.2f} mm: "
            + ("interpolated between them" if interpolated else "each stands for a slab")
        )
    elif off > ON_SLICES and usual > FINE:
        notes.append(f"contours lie {off * step:.2f} mm off the slices: each goes to the nearest slice")
    if not inside.all():
        count = int((~inside).sum())
        notes.append(f"{count} of {len(planes)} contour planes are outside of the image, and left out")
    unused = [p for p, there in zip(planes, inside, strict=True) if there and not len(p.slices)]
    if unused and usual > DENSE:
        where = _places([f"{axis} = {p.position:.1f} mm" for p in unused])
        notes.append(
            f"{len(unused)} contour plane(s) between slices are nearest to none, and not used: {where}"
        )
    missing = gaps(planes, usual, slices)
    if missing:
        where = _places(
            [
                f"{axis} = {a.position:.1f} and {b.position:.1f} mm ({n} slice(s) missing)"
                for a, b, n in missing
            ]
        )
        filled = "filled where one plane is missing" if interpolated else "nothing filled in"
        notes.append(f"gap: no contours, and {filled}, between {where}")
    return notes


def _notes_on_outlines(regions: Sequence[Region]) -> list[str]:
    """What a person should know about the outlines within the planes."""
    said = {
        "repeated": "contour(s) are there twice: counted once",
        "crossing": "contours overlap others in part, and are no holes: united",
        "excluded": "contours overlap others in part: combined by exclusive-or, as their type says",
        "cut": "contour(s) reach outside of the image, and are cut off",
        "empty": "contour(s) enclose no voxel centre",
    }
    counts = {name: sum(getattr(region, name) for region in regions) for name in said}
    return [f"{counts[name]} {text}" for name, text in said.items() if counts[name]]


def _control(regions: Sequence[tuple[Plane, Region]], voxels: int, usual: float, grid: Grid) -> list[str]:
    """A note where the voxels' volume is not that of the contours: area times thickness of the slabs.

    A difference counts if it is more than 5 % and more than rounding to voxels makes of convex outlines,
    which is a shell of half a voxel; at the ends, where contours do not lie on the slices, half a slice each.
    """
    if not regions:
        return []
    last = grid.size[2] - 0.5
    expected = rounding = largest = 0.0
    for plane, region in regions:
        thickness = min(plane.high, last) - max(plane.low, -0.5)
        expected += region.area * thickness
        rounding += region.rounding * thickness
        largest = max(largest, region.area)
    heights = np.array([plane.height for plane, _ in regions])
    if usual % 1 > 1e-6 or np.abs(heights - np.round(heights)).max() > 1e-3:
        rounding += largest
    if abs(voxels - expected) <= max(CONTROL * expected, rounding):
        return []
    ml = float(np.prod(grid.spacing)) / 1000
    return [
        f"the contours enclose {expected * ml:.2f} ml and the voxels have {voxels * ml:.2f} ml: look at the "
        "contours (do they cross themselves?)"
    ]


def _places(places: Sequence[str]) -> str:
    more = f" and at {len(places) - SHOWN} more places" if len(places) > SHOWN else ""
    return "; ".join(places[:SHOWN]) + more


def read_structure(rtstruct: str | Path, pattern: str, image: sitk.Image, union: bool = False) -> sitk.Image:
    """The mask (uint8, 0 and 1) of a structure on the grid of `image`.

    Args:
        rtstruct: the RTSTRUCT file.
        pattern: name of the structure, or a regular expression for the whole name.
        image: gives the grid; one read by `read_ct` or `read_pet` also gives its frame of reference, which
            must be that of the structure.
        union: unite all structures that match, instead of refusing them.

    What was changed, left out or looks wrong in the contours is a Python warning each.

    Raises:
        IGTVError: none or several structures match, the frames of reference differ, or the structure cannot
            be brought onto the grid.

    Examples:
        >>> import SimpleITK as sitk
        >>> from nnunet_igtv import read_ct, read_structure
        >>> ct = read_ct("studies/IGTV-3-000/CT")
        >>> igtv = read_structure("studies/IGTV-3-000/RTSTRUCT/RTSTRUCT.dcm", "IGTV", ct)
        >>> igtv.GetSize() == ct.GetSize(), bool(sitk.GetArrayFromImage(igtv).any())
        (True, True)
    """
    with naming_nobody(rtstruct):
        structures = read_structure_set(rtstruct)
        rois = structures.select(pattern, union)
        if image.HasMetaDataKey(FRAME_KEY):
            frame = image.GetMetaData(FRAME_KEY)
            if any(roi.frame_of_reference and roi.frame_of_reference != frame for roi in rois):
                raise IGTVError("structure and image have different frames of reference", file=rtstruct)
        try:
            found = rasterise(rois, Grid.of(image))
        except IGTVError as error:
            raise error.but(file=rtstruct) from error
    for note in found.notes:
        warnings.warn(redact(note, secrets_of(structures.header)), stacklevel=2)
    mask = sitk.GetImageFromArray(found.mask)
    mask.CopyInformation(image)
    return mask
