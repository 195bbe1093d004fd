"""What the report's viewer shows of a case: voxels around the target and masks, small enough for a web page.

Images are cut to the box of all contours and a margin, turned to the patient's axes (turning.py), and kept as
one byte per voxel: an index into a table of levels that are dense where people look (HU of soft tissue, low
SUV). Bytes are stored as differences along a row and compressed by zlib; masks are bits. `report.js` is the
reader.
"""

import base64
import math
import zlib
from typing import Any

import numpy as np

from nnunet_igtv.evaluation.boxes import box_of, voxels
from nnunet_igtv.evaluation.cases import Content
from nnunet_igtv.evaluation.turning import Turned

MARGIN = 30.0  # mm around all contours; around the truth, where all of them are too far apart
MOST_VOXELS = 2_000_000  # of a case; larger ones are shown with fewer pixels
CT_LEVELS = np.concatenate(  # HU: steps of 12 in lung, 3 in soft tissue, 150 in bone
    [np.linspace(-1024, -200, 70, False), np.linspace(-200, 300, 168, False), np.linspace(300, 3000, 18)]
)
_PET_TOP = 5.0  # SUV: the colours of a faint PET reach at least so far


def volume(content: Content) -> dict[str, Any]:
    """A case for the viewer, ready for JSON.

    Returns:
        - "shape": (S, H, W), and "spacing" in mm along these;
        - "first", "whole": number of the first slice, row and column in the whole image, and its shape;
        - "every": of how many pixels one is kept, along rows and columns;
        - "ct", "pet": voxels; "pet" is None without one;
        - "pet_levels": SUV of each byte; "pet_top": SUV of the brightest colour at first;
        - "layers": names of the masks, the truth first; "masks": bits of all layers;
        - "in_lung": whether at least a tenth of the voxels are as dense as lung;
        - "start": index of the slice, row and column to begin with;
        - "zoom": how much larger than the whole it is shown at first, so that the truth fills the view;
        - "dice": model -> Dice in each slice of the image that is shown, None where both masks are empty;
        - "outside": ml of each layer that are not shown, where there are any.
    """
    truth, models = content.truth, content.predictions
    layers = {"truth": truth.structure, **models, **truth.observers}
    box = _box(layers, truth.spacing)
    turned = Turned(truth.grid, box)
    every = max(1, math.ceil(math.sqrt(_size(box) / MOST_VOXELS)))
    voxel_ml = math.prod(truth.spacing) / 1000
    outside = {name: float(mask.sum() - mask[box].sum()) * voxel_ml for name, mask in layers.items()}
    thin = np.s_[:, ::every, ::every]
    images = [turned(image)[thin] for image in content.images]
    masks = {name: turned(mask)[thin] for name, mask in layers.items()}
    spacing = (turned.spacing[0], turned.spacing[1] * every, turned.spacing[2] * every)
    pet = images[1] if len(images) > 1 else None
    top = pet_top(pet, masks["truth"])
    levels = None if pet is None else max(float(pet.max()), top) * np.linspace(0, 1, 256) ** 2
    return {
        "shape": list(images[0].shape),
        "first": turned.first,
        "whole": turned.whole,
        "spacing": list(spacing),
        "every": every,
        "ct": _packed(_nearest(images[0], CT_LEVELS)),
        "pet": None if pet is None or levels is None else _packed(_nearest(pet, levels)),
        "pet_levels": None if levels is None else [round(float(level), 3) for level in levels],
        "pet_top": round(top),
        "layers": list(masks),
        "masks": _compressed(np.packbits(np.stack(list(masks.values())))),
        "in_lung": bool(((images[0] > -950) & (images[0] < -500)).mean() > 0.1),
        "start": _start(masks),
        "zoom": _zoom(masks["truth"], spacing),
        "dice": {model: turned.dice_by_slice(truth.structure, mask) for model, mask in models.items()},
        "outside": {name: round(ml, 1) for name, ml in outside.items() if ml},
    }


def _box(layers: dict[str, np.ndarray], spacing: tuple[float, ...]) -> tuple[slice, ...]:
    """What is shown: all contours; the truth alone where they are far apart; of none, the middle."""
    union, margin = np.logical_or.reduce(list(layers.values())), voxels(MARGIN, spacing)
    if not union.any():
        return _middle(union.shape, spacing)
    box = box_of(union, margin)
    if _size(box) > MOST_VOXELS and layers["truth"].any():
        return box_of(layers["truth"], margin)
    return box


def _size(box: tuple[slice, ...]) -> int:
    return math.prod(part.stop - part.start for part in box)


def _middle(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[slice, ...]:
    """The middle of an image without contours."""
    half = voxels(2 * MARGIN, spacing)
    return tuple(slice(max(0, n // 2 - h), min(n, n // 2 + h + 1)) for n, h in zip(shape, half, strict=True))


def _nearest(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, image).astype(np.uint8)


def _packed(codes: np.ndarray) -> str:
    """Differences along a row, modulo 256, compressed."""
    differences = np.diff(codes, axis=2, prepend=np.uint8(0))
    return _compressed(differences)


def _compressed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def pet_top(pet: np.ndarray | None, truth: np.ndarray) -> float:
    """SUV of the brightest colour: the 99th percentile in the truth, and not less than a faint PET needs."""
    if pet is None or not truth.any():
        return _PET_TOP
    return max(_PET_TOP, float(np.percentile(pet[truth], 99)))


def _start(masks: dict[str, np.ndarray]) -> list[int]:
    """The middle of the truth, else of the first mask that has voxels, else of the image."""
    mask = next((mask for mask in masks.values() if mask.any()), None)
    if mask is None:
        return [n // 2 for n in next(iter(masks.values())).shape]
    return [int(np.median(index)) for index in np.nonzero(mask)]


def _zoom(truth: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """So that the truth and half the margin on each side are seen, in steps of a half up to 4."""
    if not truth.any():
        return 1.0
    box = box_of(truth, (0, 0, 0))
    wanted = max((part.stop - part.start) * step for part, step in zip(box, spacing, strict=True)) + MARGIN
    whole = max(n * step for n, step in zip(truth.shape, spacing, strict=True))
    return float(np.clip(math.floor(2 * whole / wanted) / 2, 1, 4))
