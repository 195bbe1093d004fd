"""Voxel grids: the one rule for "same grid", and the one reader of image files.

Two grids are the same where their voxels have the same number along each axis and coincide in space, the
farthest corners included, to `TOLERANCE` of a voxel. NIfTI keeps origins and directions in single precision,
which moves a corner by far less. What a NIfTI header says of the place is in `nifti_header`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsFloat

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.image_files import (
    check_data_file,
    check_metaimage,
    check_nrrd,
    nifti_voxels,
    refuse_not_finite,
)
from nnunet_igtv.nifti_header import NiftiHeader, in_mm, is_nifti, read_header

TOLERANCE = 0.02  # voxels, at the corner that differs most
SMALLEST, LARGEST = 0.05, 50.0  # mm: the edge of a voxel of a scan
SQUARE = 1e-3  # the cosine of the angle between two axes, at most
# in one mask: parcellations have a little over a hundred; 8-bit images up to 255 grey values
MOST_LABELS = 200
ROUNDING = 0.01  # by which labels that are stored with a scale miss whole numbers: 254.99998, 0.996
MOST_VOXELS = 2**32  # a whole-body CT of 1024 x 1024 x 4000
PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")  # NIfTI or Analyze; ITK fills what is missing with zeros
IMAGE_ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")


@dataclass(frozen=True)
class Grid:
    """A regular grid in patient coordinates, as SimpleITK means it: (x, y, z) order, mm, LPS.

    `direction` is row-major 3x3; its columns are the directions of growing column, row and slice index.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> "Grid":
        """The grid of a 3D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def at(cls, size: Sequence[int], matrix: np.ndarray) -> "Grid":
        """The grid with this `matrix`, whose axes are made to stand at right angles to the last digit."""
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
        x, y, z = map(int, size)
        a, b, c = spacing.tolist()
        return cls(
            (x, y, z), (a, b, c), tuple(matrix[:3, 3].tolist()), tuple((left @ right).ravel().tolist())
        )

    def image(self, voxels: np.ndarray) -> sitk.Image:
        """`voxels` (slices, rows, columns) as a SimpleITK image on this grid."""
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def empty(self) -> np.ndarray:
        """(slices, rows, columns) of uint8 zeros. Raises IGTVError for a size that no scan has."""
        if int(np.prod(self.size, dtype=object)) > MOST_VOXELS:
            raise IGTVError(
                f"the image is said to have {' x '.join(map(str, self.size))} voxels",
                remedy="export it again",
            )
        return np.zeros(self.size[::-1], np.uint8)

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4): voxel index (x, y, z, 1) -> position in mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.direction).reshape(3, 3) * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def millilitres(self, voxels: SupportsFloat) -> float:
        """The volume of so many voxels."""
        return float(voxels) * float(np.prod(self.spacing)) / 1000

    def __str__(self) -> str:
        return f"size {self.size}, spacing {_mm(self.spacing)}, origin {_mm(self.origin)}"


def transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (n, 3) that a matrix (4, 4) takes to another place."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def shared_voxels(a: Grid, b: Grid) -> np.ndarray | None:
    """How the voxels of `a` are numbered in `b`, where all of them coincide with voxels of its lattice.

    The axes may run in other orders and directions, and `a` may be cropped or padded.

    Returns:
        (4, 4) of whole numbers: voxel index in `a` -> voxel index in `b`; None if the voxels do not coincide.
    """
    move = np.linalg.inv(b.matrix) @ a.matrix
    whole = np.round(move)
    is_permutation = abs(np.linalg.det(whole[:3, :3])) == 1 and np.abs(whole[:3, :3]).sum() == 3
    if not is_permutation or _largest(move - whole, a.size) > TOLERANCE:
        return None
    return whole


def same_grid(a: sitk.Image | Grid, b: sitk.Image | Grid) -> bool:
    """Whether two images have the same voxels in the same order."""
    a, b = (grid if isinstance(grid, Grid) else Grid.of(grid) for grid in (a, b))
    if a.size != b.size:
        return False
    move = np.linalg.inv(b.matrix) @ a.matrix
    return _largest(move - np.eye(4), a.size) <= TOLERANCE


def same_voxels(a: Grid, b: Grid) -> bool:
    """Whether two grids have the same voxels, all of them, in whatever order and direction of the axes."""
    move = shared_voxels(a, b)
    if move is None:
        return False
    ends = np.sort(transformed(np.array([(0, 0, 0), np.array(a.size) - 1]), move), axis=0)
    return bool((ends == [(0, 0, 0), np.array(b.size) - 1]).all())


def onto_grid(mask: sitk.Image, grid: Grid, name: str) -> sitk.Image:
    """A mask on a grid whose voxels are its own, without resampling: uint8, its nonzero voxels become 1.

    The mask may be cropped or padded and its axes may run in other orders and directions, as after a detour
    through software that reorients images; see `shared_voxels`.

    Args:
        name: what the image is called whose grid it is ("CT").

    Raises:
        IGTVError: the voxels do not coincide, or nonzero voxels lie outside `grid`.
    """
    voxels = (sitk.GetArrayViewFromImage(mask) != 0).astype(np.uint8)
    return grid.image(rearranged(voxels, Grid.of(mask), grid, name))


def rearranged(voxels: np.ndarray, own: Grid, grid: Grid, name: str) -> np.ndarray:
    """Voxels (slices, rows, columns) in the order of another grid that has the same places; see `onto_grid`.

    Args:
        own: the grid of the voxels.
        name: what the image is called whose grid `grid` is ("CT").

    Returns:
        An array of the size of `grid`; 0 where `own` has no voxels.

    Raises:
        IGTVError: the voxels do not coincide, or nonzero voxels lie outside `grid`.
    """
    move = shared_voxels(own, grid)
    if move is None:
        raise IGTVError(f"the mask's voxels ({own}) are not those of the {name} ({grid})")
    axes = np.abs(move[:3, :3]).argmax(1)  # of `own`, along x, y and z of `grid`
    signs = move[:3, :3].sum(1)
    turned = voxels.transpose([2 - axes[k] for k in (2, 1, 0)])
    turned = turned[tuple(slice(None, None, int(signs[k])) for k in (2, 1, 0))]
    last = np.array(own.size)[axes] - 1
    first = np.where(signs > 0, move[:3, 3], move[:3, 3] - last).astype(int)
    low = np.clip(first, 0, grid.size)
    high = np.clip(first + last + 1, low, grid.size)
    inside = turned[_box(low - first, high - first)]
    if np.count_nonzero(inside) < np.count_nonzero(voxels):
        raise IGTVError(f"the mask reaches outside of the {name}")
    target = np.zeros(grid.size[::-1], voxels.dtype)
    target[_box(low, high)] = inside
    return target


def _box(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    """A part of an array (slices, rows, columns), from corner to corner in (x, y, z) order."""
    return tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))


def difference(a: Grid, b: Grid) -> str:
    """What differs between two grids, in words."""
    for what in ("size", "spacing", "origin"):
        ours, theirs = getattr(a, what), getattr(b, what)
        if not np.allclose(ours, theirs, rtol=0, atol=0.01 * min(b.spacing) if what == "origin" else 1e-3):
            return f"{what} {_mm(ours)} instead of {_mm(theirs)}"
    angle = np.degrees(np.arccos(np.clip(_cosines(a, b).min(), -1, 1)))
    return f"axes turned by {angle:.2f} degrees"


def read_image(path: str | Path, name: str | None = None) -> sitk.Image:
    """A 3D image of one channel from a NIfTI, NRRD or MHA file.

    A NIfTI image is where its sform says; without one, where its qform says.

    Args:
        path: the file.
        name: what it is called in errors; None for the path.

    Raises:
        IGTVError: no such file, one that is not whole or cannot be read, an image of other dimensions or of
            several channels, axes that are not at right angles, voxels of a size that no scan has, or of two
            sizes, or voxels that are not finite.
    """
    path, shown = Path(path), str(path) if name is None else name
    reader = _reader(path, shown)
    with _said(shown):
        grid = _grid(reader, path, shown)
        if is_nifti(path):
            return grid.image(nifti_voxels(path, shown))
        check = {".mha": check_metaimage, ".nrrd": check_nrrd}.get(path.suffix.lower())
        if check:
            bytes_each = sitk.Image(1, 1, 1, reader.GetPixelID()).GetSizeOfPixelComponent()
            check(path, shown, int(np.prod(reader.GetSize(), dtype=object)) * bytes_each)
        image = reader.Execute()
    refuse_not_finite(sitk.GetArrayViewFromImage(image), shown)
    return image


def read_grid(path: str | Path) -> Grid:
    """The grid of an image file, from its header: the voxels are not read, and may be damaged.

    Raises:
        IGTVError: as `read_image`, of what a header shows.
    """
    path, shown = Path(path), str(path)
    return _grid(_reader(path, shown), path, shown)


def _grid(reader: sitk.ImageFileReader, path: Path, shown: str) -> Grid:
    grid = Grid(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    if is_nifti(path):
        return _as_its_header_says(grid, read_header(path), shown)
    _refuse_sizes(np.array(grid.spacing), shown)
    return grid


def _reader(path: Path, shown: str) -> sitk.ImageFileReader:
    """A reader that has read the header of a 3D image of one channel."""
    if not path.is_file():
        raise IGTVError("no such file", file=shown)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    if path.suffix.lower() in (".mha", ".mhd", ".nrrd", ".nhdr"):
        check_data_file(path, shown)
    with _said(shown):
        reader.ReadImageInformation()
        if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
            raise IGTVError(f"not a 3D image of one channel (size {reader.GetSize()})", file=shown)
        if path.name.lower().endswith(PAIRS):
            raise IGTVError(
                "header and voxels are in two files, whose length is not checked",
                file=shown,
                remedy="save the image as one file (.nii.gz)",
            )
    return reader


@contextmanager
def _said(shown: str) -> Iterator[None]:
    """What ITK refuses, as an IGTVError."""
    try:
        yield
    except RuntimeError as error:
        if "orthonormal" in str(error):  # ITK takes no sheared grid
            raise _not_square(shown) from error
        raise IGTVError(
            "the image cannot be read", file=shown, remedy="check that it is a complete NIfTI image"
        ) from error


def _as_its_header_says(grid: Grid, header: NiftiHeader, shown: str) -> Grid:
    """The grid of a NIfTI file, from that which ITK makes of its header (see `nifti_header`).

    Raises IGTVError if the sform has other voxel sizes or no right angles, or if no scan has such voxels.
    """
    header.check_sizes(shown)
    _refuse_sizes(header.spacing, shown, header.unit)
    if header.sform is None:
        return grid
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ header.sform  # LPS
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > SQUARE:
        raise _not_square(shown)
    own = Grid.at(grid.size, matrix)
    return grid if same_grid(grid, own) else own


def _refuse_sizes(sizes: np.ndarray, shown: str, unit: str = "") -> None:
    """Raises IGTVError for voxels that no scan has; `unit`: that of the file, where it is another than mm."""
    if not ((sizes >= SMALLEST) & (sizes <= LARGEST)).all():
        why = f" (the unit of the header, xyzt_units, is {unit})" if unit else ""
        raise IGTVError(
            f"voxels of {in_mm(sizes)}, which no CT or PET has{why}",
            file=shown,
            remedy=f"correct the voxel size {'or the unit ' if unit else ''}in its header",
        )


def _not_square(shown: str) -> IGTVError:
    return IGTVError(
        "the axes of the image are not at right angles to each other",
        file=shown,
        remedy="correct the affine in its header (sform, qform), or resample it to an upright grid",
    )


def read_mask(path: str | Path, name: str | None = None) -> sitk.Image:
    """A mask from a file; see `read_image` and `check_mask`. Values that miss whole numbers by no more than
    `ROUNDING`, all of them, are rounded."""
    image = read_image(path, name)
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.dtype.kind == "f":  # others are whole, and most masks are others
        whole = np.rint(voxels)
        if (voxels != whole).any() and np.abs(voxels - whole).max() <= ROUNDING:
            image = Grid.of(image).image(whole)
    check_mask(image, str(path) if name is None else name)
    return image


def check_mask(image: sitk.Image, file: str | Path | None = None) -> None:
    """Whether an image can be a mask: few different values, all of them whole numbers from 0 up.

    Raises:
        IGTVError: it is something else, such as a CT, a PET, or a map of probabilities.
    """
    voxels = sitk.GetArrayViewFromImage(image)
    values = voxels[voxels != 0]
    fault = None
    if not np.isfinite(values).all():
        fault = "values that are not finite"
    elif (values < 0).any():
        fault = f"negative values (down to {values.min():g})"
    elif (values != np.rint(values)).any():
        fault = f"values between whole numbers (such as {values[values != np.rint(values)][0]:.6g})"
    elif len(labels := np.unique(values)) > MOST_LABELS:
        fault = f"{len(labels)} different values"
    if fault:
        raise IGTVError(
            f"the image is no mask: it holds {fault}",
            file=file,
            remedy="pass a mask, in which 0 is background and 1 (or another whole number) the structure",
        )


def _largest(move: np.ndarray, size: Sequence[int]) -> float:
    """The largest displacement, in voxels, at any corner of a grid."""
    last = np.array(size) - 1
    corners = np.array([[i, j, k, 1] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    return float(np.abs((move @ corners.T)[:3]).max())


def _cosines(a: Grid, b: Grid) -> np.ndarray:
    """Of the angle between each axis of one grid and the same axis of the other."""
    axes = (np.array(grid.direction).reshape(3, 3) for grid in (a, b))
    return np.einsum("ij,ij->j", *axes)


def _mm(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in np.round(np.array(values, float), 4)) + ")"
