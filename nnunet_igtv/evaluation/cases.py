"""Finding the cases of an evaluation, and reading their masks and images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation.ignore_label import ignore_label
from nnunet_igtv.grids import IMAGE_ENDINGS, Grid, difference, read_image, read_mask, same_grid


@dataclass(frozen=True)
class Case:
    """The files of one case."""

    name: str
    truth: Path
    predictions: dict[str, Path]
    images: tuple[Path, ...]  # CT and, where there is one, PET
    ignore: int | None = None  # value of voxels of the truth that do not count


@dataclass(frozen=True)
class Truth:
    """The truth of a case: its grid, the structure, and the voxels that count, bool (S, H, W) each."""

    grid: sitk.Image
    structure: np.ndarray
    counts: np.ndarray


def find_cases(truth: Path, predictions: Mapping[str, Path], images: Path | None) -> list[Case]:
    """One case per truth file.

    Raises:
        IGTVError: no cases, or a prediction or CT is missing, before anything is computed.
    """
    for folder in (truth, *predictions.values(), *([images] if images else [])):
        if not folder.is_dir():
            raise IGTVError("no such folder", file=folder)
    ignore = ignore_label(truth, predictions.values())
    found = {case: path for path in sorted(truth.iterdir()) if (case := _case(path)) is not None}
    if not found:
        raise IGTVError("no masks", file=truth, remedy=f"pass a folder of {', '.join(IMAGE_ENDINGS)} files")
    cases = []
    for name, path in found.items():
        if not path.is_file():
            raise IGTVError("not a file", case=name, file=path)
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
                ignore,
            )
        )
    return cases


def read_truth(case: Case) -> Truth:
    """The truth of a case. Raises IGTVError if it cannot be read or is no mask."""
    grid = _read(read_mask, case.truth, case)
    voxels = sitk.GetArrayFromImage(grid)
    counts = np.ones(voxels.shape, bool) if case.ignore is None else voxels != case.ignore
    return Truth(grid, (voxels != 0) & counts, counts)


def read_predictions(case: Case, truth: Truth) -> Iterator[tuple[str, np.ndarray]]:
    """Each model and the voxels that it predicts, of those that count; bool (S, H, W).

    Raises:
        IGTVError: a prediction cannot be read, is no mask, or has another grid than the truth.
    """
    for model, path in case.predictions.items():
        voxels = _on_grid(_read(read_mask, path, case), path, case, truth.grid)
        yield model, (voxels != 0) & truth.counts


def read_images(case: Case, truth: Truth) -> list[np.ndarray]:
    """CT and, where there is one, PET, (S, H, W) each. Raises IGTVError for another grid than the truth's."""
    return [_on_grid(_read(read_image, path, case), path, case, truth.grid) for path in case.images]


def _read(reader: Callable[[Path], sitk.Image], path: Path, case: Case) -> sitk.Image:
    try:
        return reader(path)
    except IGTVError as error:
        raise error.but(case=case.name) from error


def _on_grid(image: sitk.Image, path: Path, case: Case, grid: sitk.Image) -> np.ndarray:
    if not same_grid(image, grid):
        raise IGTVError(
            f"another grid than the truth's: {difference(Grid.of(image), Grid.of(grid))}",
            case=case.name,
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
