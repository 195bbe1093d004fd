"""Arrays turned so that their axes run to the patient's head, back and left, however the image is stored.

Every picture of a case, the viewer's and the still ones, is drawn of arrays that were turned here.
"""

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.grids import Grid


class Turned:
    """Cuts arrays on a grid to a box, and turns them to axes towards head, back and left.

    Attributes:
        spacing: mm along the turned axes.
        first: number of the first slice, row and column of the box in the whole image when that is turned.
        whole: shape of the whole image when it is turned.
    """

    def __init__(self, image: sitk.Image, box: tuple[slice, ...]) -> None:
        self._grid, self._box = Grid.of(image), box
        self._filter = sitk.DICOMOrientImageFilter()
        self._filter.SetDesiredCoordinateOrientation("LPS")
        cut = self._turn(np.zeros([part.stop - part.start for part in box], np.uint8))
        x, y, z = cut.GetSpacing()
        self.spacing = (z, y, x)
        before = [part.start for part in box[::-1]]
        after = [size - part.stop for size, part in zip(self._grid.size, box[::-1], strict=True)]
        axes = list(zip(self._filter.GetPermuteOrder(), self._filter.GetFlipAxes(), strict=True))[::-1]
        self.first = [(after if flipped else before)[axis] for axis, flipped in axes]
        self.whole = [self._grid.size[axis] for axis, _ in axes]
        self._slice_axis, self._from_head = axes[0]
        self._slices = cut.GetSize()[2]

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The box of an image or a mask."""
        if array.dtype == bool:  # SimpleITK has none
            return self(array.astype(np.uint8)) != 0
        return sitk.GetArrayFromImage(self._turn(np.ascontiguousarray(array[self._box])))

    def dice_by_slice(self, truth: np.ndarray, prediction: np.ndarray) -> list[float | None]:
        """Dice in each axial slice of the box, of the whole slices and not only of what is in the box."""
        others = tuple(axis for axis in range(3) if axis != 2 - self._slice_axis)
        both = (truth & prediction).sum(others)
        total = truth.sum(others) + prediction.sum(others)
        values = [
            round(2 * b / t, 3) if t else None for b, t in zip(both.tolist(), total.tolist(), strict=True)
        ]
        return values[:: -1 if self._from_head else 1][self.first[0] : self.first[0] + self._slices]

    def _turn(self, array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self._grid.spacing)
        image.SetDirection(self._grid.direction)
        return self._filter.Execute(image)
