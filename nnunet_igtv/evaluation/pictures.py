"""Pictures of a case: CT, PET and contours in a central slice and near both ends of the target."""

import base64
import io
from typing import Any, NamedTuple

import numpy as np

from nnunet_igtv.evaluation.by_position import positions
from nnunet_igtv.evaluation.cases import Case, read_images, read_predictions, read_truth

TRUTH_COLOUR = "#3ddc84"
MODEL_COLOURS = ("#ff9f1c", "#4cc9f0", "#f15bb5", "#fee440", "#b388ff", "#ff6b6b")
_CT_WINDOW = (-1000.0, 300.0)  # HU, lung and soft tissue at once
_MARGIN = 35.0  # mm shown around the target
_PIXELS = 300


class Row(NamedTuple):
    """The pictures of one slice: column title -> PNG as a data URI."""

    title: str
    number: int  # of the slice, from 1
    of: int
    panels: dict[str, str]


def pictures(case: Case) -> list[Row]:
    """One row per shown slice, from the head's side down. Empty where the case has no images."""
    if not case.images:
        return []
    found = read_truth(case)
    models, volumes = dict(read_predictions(case, found)), read_images(case, found)
    grid, truth = found.grid, found.structure
    spacing = grid.GetSpacing()
    window = _window(truth if truth.any() else np.logical_or.reduce(list(models.values())), spacing)
    pet_top = (
        max(5.0, float(np.percentile(volumes[1][truth], 99))) if len(volumes) > 1 and truth.any() else 7.0
    )
    shown = _slices(truth)
    if grid.GetDirection()[8] >= 0:  # the last slice is the one nearest to the head
        shown = shown[::-1]
    rows = []
    for title, k in shown:
        outline = {TRUTH_COLOUR: truth[k]}
        panels = {"CT": _panel(volumes[0][k], spacing, None, "gray", _CT_WINDOW, outline, frame=window)}
        if len(volumes) > 1:
            panels[f"PET, SUV 0 to {pet_top:.0f}"] = _panel(
                volumes[1][k], spacing, window, "inferno", (0, pet_top), outline
            )
        for colour, (name, mask) in zip(_colours(len(models)), models.items(), strict=True):
            panels[name] = _panel(
                volumes[0][k], spacing, window, "gray", _CT_WINDOW, outline | {colour: mask[k]}
            )
        rows.append(Row(title, k + 1, len(truth), panels))
    return rows


def _colours(count: int) -> list[str]:
    return [MODEL_COLOURS[i % len(MODEL_COLOURS)] for i in range(count)]


def _slices(truth: np.ndarray) -> list[tuple[str, int]]:
    slices, _ = positions(truth)
    if not len(slices):
        return [("Middle", len(truth) // 2)]
    if len(slices) < 3:
        return [("Centre", int(slices[0]))]
    inset = 1 if len(slices) >= 6 else 0
    return [
        ("Periphery", int(slices[inset])),
        ("Centre", int(slices[len(slices) // 2])),
        ("Periphery", int(slices[-1 - inset])),
    ]


def _window(mask: np.ndarray, spacing: tuple[float, ...]) -> tuple[slice, slice]:
    """Rows and columns of a square about the mask (or the whole slice, where it is empty)."""
    flat = np.logical_or.reduce(mask, axis=0)
    if not flat.any():
        return slice(0, flat.shape[0]), slice(0, flat.shape[1])
    ranges = [np.flatnonzero(flat.any(axis)) for axis in (1, 0)]
    steps = (spacing[1], spacing[0])
    half = max((r[-1] - r[0] + 1) * step for r, step in zip(ranges, steps, strict=True)) / 2 + _MARGIN
    window = []
    for r, step, size in zip(ranges, steps, flat.shape, strict=True):
        width = min(size, round(2 * half / step))
        start = int(np.clip(round((r[0] + r[-1] + 1) / 2 - width / 2), 0, size - width))
        window.append(slice(start, start + width))
    return window[0], window[1]


def _panel(
    plane: np.ndarray,
    spacing: tuple[float, ...],
    window: tuple[slice, slice] | None,
    colours: str,
    limits: tuple[float, float],
    outlines: dict[str, np.ndarray],
    frame: tuple[slice, slice] | None = None,
) -> str:
    """A slice, or its part in `window`, as a square PNG; `frame` draws a window's place on it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure((_PIXELS / 100, _PIXELS / 100), dpi=100, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    height, width = plane.shape
    axes.imshow(
        plane,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="bilinear",
        aspect=spacing[1] / spacing[0],
    )
    for colour, mask in outlines.items():
        if mask.any():
            axes.contour(
                np.pad(mask, 1), [0.5], colors=[colour], linewidths=1.4, extent=_padded(width, height)
            )
    if frame is not None:
        rows, columns = frame
        corner = (columns.start - 0.5, rows.start - 0.5)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=0.7, linestyle=":"))
    rows, columns = window or (slice(0, height), slice(0, width))
    axes.set_xlim(columns.start - 0.5, columns.stop - 0.5)
    axes.set_ylim(rows.stop - 0.5, rows.start - 0.5)
    png = io.BytesIO()
    canvas.print_png(png)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def _padded(width: int, height: int) -> tuple[float, float, float, float]:
    """Extent of a mask padded by one pixel, in pixels of its image; contour puts samples at pixel centres."""
    return (-1.5, width + 0.5, -1.5, height + 0.5)
