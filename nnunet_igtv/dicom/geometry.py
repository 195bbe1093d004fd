"""The grid of a stack of slices: from positions only, refused where it is not regular."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import integer, number, vector
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid

STEP_TOLERANCE_MM, STEP_TOLERANCE = 0.1, 0.03  # GE PET: steps of 3.19 to 3.29 mm at bed borders are normal
SHEAR_TOLERANCE_PIXELS = 0.5


def axes_of(header: Dataset, file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors to the next column, the next row, and along the normal."""
    row, column = np.split(vector(header, "ImageOrientationPatient", 6, file), 2)
    if abs(row @ row - 1) > 0.01 or abs(column @ column - 1) > 0.01 or abs(row @ column) > 0.001:
        raise IGTVError("the image axes are not two perpendicular unit vectors (0020,0037)", file=file)
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return row, column, np.cross(row, column)


def grid_of(headers: Sequence[Dataset], files: Sequence[Path]) -> Grid:
    """The grid of sorted slices. Raises IGTVError for shear, missing slices and irregular steps."""
    first = headers[0]
    row, column, normal = axes_of(first, files[0])

    between_rows, between_columns = vector(first, "PixelSpacing", 2, files[0])
    if min(between_rows, between_columns) <= 0:
        raise IGTVError("Pixel Spacing (0028,0030) is not positive", file=files[0])
    positions = np.array(
        [vector(h, "ImagePositionPatient", 3, f) for h, f in zip(headers, files, strict=True)]
    )
    heights = positions @ normal
    between_slices = _slice_spacing(heights, first, files)

    drift = positions - positions[0] - np.outer(heights - heights[0], normal)
    shift = np.abs(drift @ np.stack([row, column], 1)) / (between_columns, between_rows)
    if shift.max() > SHEAR_TOLERANCE_PIXELS:
        tilt = np.degrees(np.arctan2(np.linalg.norm(drift[-1]), heights[-1] - heights[0]))
        raise IGTVError(
            f"the slices are not stacked along their normal (gantry tilt or shear, {tilt:.1f} degrees)",
            file=files[0].parent,
            remedy="resample the series to an upright grid first",
        )
    return Grid(
        size=(integer(first, "Columns", files[0]), integer(first, "Rows", files[0]), len(headers)),
        spacing=(float(between_columns), float(between_rows), between_slices),
        origin=(float(positions[0][0]), float(positions[0][1]), float(positions[0][2])),
        direction=tuple(float(v) for v in np.stack([row, column, normal], 1).ravel()),
    )


def _slice_spacing(heights: np.ndarray, first: Dataset, files: Sequence[Path]) -> float:
    if len(heights) == 1:
        for name in ("SpacingBetweenSlices", "SliceThickness"):
            value = number(first, name, files[0], 0.0)
            if value > 0:
                return value
        raise IGTVError("a single slice without a thickness", file=files[0])
    steps = np.diff(heights)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    tolerance = max(STEP_TOLERANCE_MM, STEP_TOLERANCE * usual)
    wrong = np.flatnonzero(np.abs(steps - usual) > tolerance)
    if len(wrong):
        k = int(wrong[0])
        missing = round(steps[k] / usual) - 1
        what = f"{missing} slice(s) missing" if missing > 0 else "an irregular step"
        raise IGTVError(
            f"{what} between slices {k + 1} and {k + 2} of {len(heights)} (step {steps[k]:.3f} mm where "
            f"{usual:.3f} mm is usual; {len(wrong)} such place(s))",
            file=files[k].parent,
            remedy="export the complete series again",
        )
    spacing = float((heights[-1] - heights[0]) / (len(heights) - 1))
    regular = heights[0] + spacing * np.arange(len(heights))
    if np.abs(heights - regular).max() > spacing / 2:
        raise IGTVError(
            "the slice positions drift from a regular grid by over half a slice", file=files[0].parent
        )
    return spacing
