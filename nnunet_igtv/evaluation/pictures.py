"""Still pictures of a case: CT and PET with all contours, in the middle and near both ends of the target.

They are what the report shows where scripts are off.
"""

import base64
import io
from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke

from nnunet_igtv.evaluation import colours
from nnunet_igtv.evaluation.boxes import box_of, voxels
from nnunet_igtv.evaluation.by_position import positions
from nnunet_igtv.evaluation.cases import Content
from nnunet_igtv.evaluation.turning import Turned
from nnunet_igtv.evaluation.volumes import pet_top

_CT_WINDOW = (-1000.0, 300.0)  # HU, lung and soft tissue at once
_MARGIN = 35.0  # mm shown around the target
_PIXELS = 260  # of one picture's side
_SIDES = {"R": (0.04, 0.5), "L": (0.96, 0.5), "A": (0.5, 0.955), "P": (0.5, 0.045)}  # of the patient
_LETTERS: dict[str, Any] = {
    **{"color": "white", "fontsize": 8, "weight": "bold", "ha": "center", "va": "center"},
    "path_effects": [withStroke(linewidth=2, foreground="black")],
}


def picture(content: Content) -> str:
    """One JPEG as a data URI, the slices nearest to the head on the left; axial slices, however the image is
    stored, seen from the feet as radiologists do.
    """
    truth, images = content.truth, content.images
    masks = [(colours.TRUTH, truth.structure)]
    masks += [(colours.of_model(i), mask) for i, mask in enumerate(content.predictions.values())]
    target = truth.structure
    if not target.any():
        target = np.logical_or.reduce([mask for _, mask in masks])
    turned = Turned(truth.grid, _box(target, truth.spacing))
    volumes, target = [turned(image) for image in images], turned(target)
    masks = [(line, turned(mask)) for line, mask in masks]
    window, shown = _window(target, turned.spacing), _slices(target)[::-1]
    top = pet_top(images[-1], truth.structure)
    rows = [("gray", _CT_WINDOW), ("inferno", (0.0, top))][: len(volumes)]
    return _drawn(
        [
            [(volume[k][window], look, [(c, m[k][window]) for c, m in masks]) for k in shown]
            for volume, look in zip(volumes, rows, strict=True)
        ],
        [f"slice {turned.first[0] + k + 1} of {turned.whole[0]}" for k in shown],  # as in the viewer
        turned.spacing[1] / turned.spacing[2],
    )


def _box(target: np.ndarray, spacing: tuple[float, ...]) -> tuple[slice, ...]:
    """All that a picture may show, along whatever axes the image is stored; all of it without a target."""
    if not target.any():
        return tuple(slice(0, n) for n in target.shape)
    sides = [
        (part.stop - part.start) * step for part, step in zip(box_of(target, (0,) * 3), spacing, strict=True)
    ]
    return box_of(target, voxels(max(sides) / 2 + _MARGIN, spacing))


def _window(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[slice, slice]:
    """Rows and columns of a square about the mask, as far as the image reaches; all if the mask is empty."""
    if not mask.any():
        return slice(None), slice(None)
    _, *box = box_of(mask, (0, 0, 0))
    side = max((part.stop - part.start) * step for part, step in zip(box, spacing[1:], strict=True))
    wanted = voxels(side / 2 + _MARGIN, spacing[1:])
    middles = [(part.start + part.stop) // 2 for part in box]
    rows, columns = (slice(max(0, m - half), m + half) for m, half in zip(middles, wanted, strict=True))
    return rows, columns


def _slices(mask: np.ndarray) -> list[int]:
    slices, _ = positions(mask)
    if not len(slices):
        return [len(mask) // 2]
    inset = 1 if len(slices) >= 6 else 0
    chosen = (slices[inset], slices[len(slices) // 2], slices[-1 - inset])
    return sorted({int(k) for k in chosen})


def _drawn(rows: list[list[Any]], titles: list[str], aspect: float) -> str:
    """Rows of (plane, (colours, limits), contours) in one figure; contours are lines and masks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (len(titles) * _PIXELS / 100, len(rows) * _PIXELS / 100)
    figure = Figure(size, dpi=100, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    for i, row in enumerate(rows):
        for j, (plane, (look, limits), contours) in enumerate(row):
            place = (j / len(row), 1 - (i + 1) / len(rows), 1 / len(row), 1 / len(rows))
            axes: Any = figure.add_axes(place)
            axes.set_axis_off()
            axes.imshow(
                plane, cmap=look, vmin=limits[0], vmax=limits[1], interpolation="bilinear", aspect=aspect
            )
            height, width = plane.shape
            extent = (-1.5, width + 0.5, -1.5, height + 0.5)
            for line, mask in contours:
                if mask.any():  # padded, so that contours are closed; samples are at centres of pixels
                    drawn = axes.contour(
                        np.pad(mask, 1), [0.5], colors=[line.colour], linewidths=line.width, extent=extent
                    )
                    beneath = withStroke(linewidth=line.width + 1.2, foreground=(0, 0, 0, 0.55))
                    drawn.set_path_effects([beneath])  # dark, to be seen on any ground
                    if line.dash:
                        drawn.set_linestyle([(0.0, tuple(length / line.width for length in line.dash))])
            axes.set_xlim(-0.5, width - 0.5)
            axes.set_ylim(height - 0.5, -0.5)
            if i == 0:
                axes.text(0.03, 0.93, titles[j], color="white", fontsize=8, transform=axes.transAxes)
            for letter, (x, y) in _SIDES.items():
                axes.text(x, y, letter, transform=axes.transAxes, **_LETTERS)
    file = io.BytesIO()
    canvas.print_jpg(file)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
