"""Finding the cases of an evaluation, and reading their masks and images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import IMAGE_ENDINGS, Grid, difference, read_image, same_grid


@dataclass(frozen=True)
class Case:
    """The files of one case."""

    name: str
    truth: Path
    predictions: dict[str, Path]
    images: tuple[Path, ...]  # CT and, where there is one, PET


def find_cases(truth: Path, predictions: Mapping[str, Path], images: Path | None) -> list[Case]:
    """One case per truth file.

    Raises:
        IGTVError: no cases, or a prediction or CT is missing, before anything is computed.
    """
    for folder in (truth, *predictions.values(), *([images] if images else [])):
        if not folder.is_dir():
            raise IGTVError("no such folder", file=folder)
    found = {case: path for path in sorted(truth.iterdir()) if (case := _case(path)) is not None}
    if not found:
        raise IGTVError("no masks", file=truth, remedy=f"pass a folder of {', '.join(IMAGE_ENDINGS)} files")
    cases = []
    for name, path in found.items():
        masks = {model: _existing(folder, name) for model, folder in predictions.items()}
        missing = [model for model, mask in masks.items() if mask is None]
        if missing:
            raise IGTVError(
                f"no prediction by {', '.join(missing)}",
                case=name,
                file=predictions[missing[0]],
                remedy="predict this case too, or take it out of the truth folder",
            )
        channels = [_existing(images, f"{name}_000{channel}") for channel in (0, 1)] if images else []
        if images and channels[0] is None:
            raise IGTVError("no CT", case=name, file=images / f"{name}_0000{IMAGE_ENDINGS[0]}")
        cases.append(
            Case(
                name,
                path,
                {model: mask for model, mask in masks.items() if mask},
                tuple(channel for channel in channels if channel),
            )
        )
    return cases


def read(path: Path, case: str) -> sitk.Image:
    """A 3D image. Raises IGTVError if it cannot be read or is none."""
    try:
        return read_image(path)
    except IGTVError as error:
        raise error.but(case=case) from error


def read_on_grid(path: Path, grid: sitk.Image, case: str) -> np.ndarray:
    """The voxels (S, H, W) of an image that must lie on `grid`. Raises IGTVError if it does not."""
    image = read(path, case)
    if not same_grid(image, grid):
        raise IGTVError(
            f"another grid than the truth's: {difference(Grid.of(image), Grid.of(grid))}",
            case=case,
            file=path,
            remedy="score predictions on the grid of the truth",
        )
    return sitk.GetArrayFromImage(image)


def _case(path: Path) -> str | None:
    for ending in IMAGE_ENDINGS:
        if path.name.endswith(ending) and not path.name.startswith("."):
            return path.name[: -len(ending)]
    return None


def _existing(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    return next(
        (folder / (name + ending) for ending in IMAGE_ENDINGS if (folder / (name + ending)).is_file()), None
    )
