"""The picture by which a person checks a registration: both CTs in one, where they agree it is grey."""

import io

import numpy as np
import SimpleITK as sitk

WINDOW = (-1000.0, 300.0)  # HU, lung and soft tissue at once
TITLES = ("axial", "coronal", "sagittal")


def drawn_together(moved: sitk.Image, fixed: sitk.Image) -> bytes:
    """A PNG of three planes through the middle of what both show: fixed CT green, the other one magenta.

    Args:
        moved: the registered CT in HU, on the grid of the fixed one; air where it shows nothing.
        fixed: the CT that it was registered to, in HU.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    green, magenta = (_grey(image) for image in (fixed, moved))
    both = np.argwhere((green > 0.5) & (magenta > 0.5))
    z, y, x = both.mean(0).astype(int) if len(both) else np.array(green.shape) // 2
    across, down, along = fixed.GetSpacing()
    planes = (
        (np.s_[z], down / across),
        (np.s_[::-1, y], along / across),
        (np.s_[::-1, :, x], along / down),
    )
    figure = Figure(figsize=(12, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, title, (plane, aspect) in zip(figure.subplots(1, 3), TITLES, planes, strict=True):
        pair = magenta[plane], green[plane], magenta[plane]
        axes.imshow(np.stack(pair, -1), aspect=aspect, interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.suptitle("green: the CT; magenta: the CT of the PET/CT, registered; grey: both agree", fontsize=10)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _grey(image: sitk.Image) -> np.ndarray:
    low, high = WINDOW
    return np.clip((sitk.GetArrayViewFromImage(image) - low) / (high - low), 0, 1)
