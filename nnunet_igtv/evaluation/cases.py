"""Finding the cases of an evaluation, and reading their masks and images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation.consensus import consensus
from nnunet_igtv.evaluation.ignore_label import ignore_label
from nnunet_igtv.grids import (
    IMAGE_ENDINGS,
    Grid,
    difference,
    read_grid,
    read_image,
    read_mask,
    rearranged,
    same_voxels,
)

ONTO_THE_TRUTH = "bring predictions and images onto the grid of the truth"


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        name: of the case.
        truths: observer -> mask; one entry where there is one truth.
        predictions: model -> (number of the run, mask), of the runs that predicted this case.
        images: CT and, where there is one, PET.
        ignore: value of voxels of the truth that do not count.
    """

    name: str
    truths: dict[str, Path]
    predictions: dict[str, list[tuple[int, Path]]]
    images: tuple[Path, ...]
    ignore: int | None = None

    def masks(self) -> Iterator[tuple[str, Path]]:
        """Every mask of the case and what it is called."""
        yield from self.truths.items()
        for model, runs in self.predictions.items():
            yield from ((f"{model}/{run}", path) for run, path in runs)


@dataclass(frozen=True)
class Truth:
    """The truth of a case, bool (S, H, W) each.

    Attributes:
        grid: the voxels.
        structure: the truth; of several observers their consensus.
        counts: the voxels that count.
        observers: each observer's structure; empty where there is one truth.
    """

    grid: sitk.Image
    structure: np.ndarray
    counts: np.ndarray
    observers: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm along (S, H, W)."""
        x, y, z = self.grid.GetSpacing()
        return z, y, x


def find_cases(
    truths: Mapping[str, Path], predictions: Mapping[str, Sequence[Path]], images: Path | None
) -> list[Case]:
    """One case per file of the truth folders.

    Args:
        truths: observer -> folder.
        predictions: model -> folders, one per run.
        images: folder of CT and PET.

    Raises:
        IGTVError: no cases; a truth, a prediction or a CT is missing, or there twice, or a file has other
            voxels than its truth, before anything is computed.
    """
    folders = [folder for runs in predictions.values() for folder in runs]
    for folder in (*truths.values(), *folders, *([images] if images else [])):
        if not folder.is_dir():
            raise IGTVError("no such folder", file=folder)
    ignore = ignore_label(truths.values(), folders)
    drawn = {observer: _files(folder) for observer, folder in truths.items()}
    names = sorted({name for files in drawn.values() for name in files})
    if not names:
        raise IGTVError(
            "no masks",
            file=next(iter(truths.values())),
            remedy=f"pass a folder of {', '.join(IMAGE_ENDINGS)} files",
        )
    masks = {model: _runs(model, runs, names) for model, runs in predictions.items()}
    pictures = _files(images) if images else {}
    cases = []
    for name in names:
        channels = [pictures[n] for n in (f"{name}_0000", f"{name}_0001") if n in pictures]
        if images and f"{name}_0000" not in pictures:
            raise IGTVError(
                "no CT",
                case=name,
                file=images / f"{name}_0000{IMAGE_ENDINGS[0]}",
                remedy="pass the images of these cases, or none for a report without pictures",
                settings=["images"],
            )
        cases.append(
            Case(
                name,
                {observer: _drawn(name, observer, drawn, truths) for observer in truths},
                {model: by_case[name] for model, by_case in masks.items()},
                tuple(channels),
                ignore,
            )
        )
    _refuse_other_grids(cases)
    return cases


def _refuse_other_grids(cases: Sequence[Case]) -> None:
    """Compares every mask and image with the (first) truth of its case.

    Raises:
        IGTVError: a header cannot be read, or names another grid. Of several files all are listed.
    """
    errors = [error for case in cases for error in _of_other_grids(case)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise IGTVError(
            f"{len(errors)} files do not fit their truths",
            remedy=ONTO_THE_TRUTH,
            table="\n".join(f"{error.case}: {error.what} [{error.file}]" for error in errors),
        )


def _of_other_grids(case: Case) -> Iterator[IGTVError]:
    (_, first), *others = case.masks()
    try:
        wanted = read_grid(first)
    except IGTVError as error:
        yield error.but(case=case.name)
        return
    for path in (*(path for _, path in others), *case.images):
        try:
            _refuse_another_grid(read_grid(path), wanted, path, case.name)
        except IGTVError as error:
            yield error.but(case=case.name)


def _refuse_another_grid(own: Grid, wanted: Grid, path: Path, case: str) -> None:
    """Raises IGTVError for a file whose voxels are not those of the truth, in whatever order."""
    if not same_voxels(own, wanted):
        raise IGTVError(
            f"another grid than the truth's: {difference(own, wanted)}",
            case=case,
            file=path,
            remedy=ONTO_THE_TRUTH,
        )


def without_truth(cases: Sequence[Case], predictions: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
    """Model -> cases that it predicted and that have no truth, if there are any."""
    scored = {case.name for case in cases}
    found = {
        model: sorted({name for folder in runs for name in _files(folder)} - scored)
        for model, runs in predictions.items()
    }
    return {model: names for model, names in found.items() if names}


def _drawn(
    case: str, observer: str, drawn: Mapping[str, Mapping[str, Path]], folders: Mapping[str, Path]
) -> Path:
    if case not in drawn[observer]:
        raise IGTVError(
            f"no contour by {observer}",
            case=case,
            file=folders[observer],
            remedy="leave out this case for all observers, or this observer",
        )
    return drawn[observer][case]


def _runs(model: str, folders: Sequence[Path], cases: Sequence[str]) -> dict[str, list[tuple[int, Path]]]:
    """Case -> its predictions. Every case has as many as every other: all runs predicted it, or one fold."""
    files = [_files(folder) for folder in folders]
    found = {case: [(i, own[case]) for i, own in enumerate(files) if case in own] for case in cases}
    most = max(map(len, found.values()))
    for case, paths in found.items():
        if not paths:
            raise IGTVError(
                f"no prediction by {model}",
                case=case,
                file=folders[0],
                remedy="predict this case too, or take it out of the truth folder",
            )
        if len(paths) < most:
            raise IGTVError(
                f"{len(paths)} of the {len(folders)} runs of {model} predicted this case, and {most} another",
                case=case,
                file=next(folder for folder, own in zip(folders, files, strict=True) if case not in own),
                remedy="let each run predict all cases, or each fold its own",
            )
    used = {i for paths in found.values() for i, _ in paths}
    unused = [folder for i, folder in enumerate(folders) if i not in used]
    if unused:
        raise IGTVError(f"a run of {model} predicted none of the cases", file=unused[0])
    return found


def read_truth(case: Case) -> Truth:
    """The truth of a case.

    Raises:
        IGTVError: a mask cannot be read or is no mask, or two observers have different voxels.
    """
    masks = {observer: _read(read_mask, path, case) for observer, path in case.truths.items()}
    grid = next(iter(masks.values()))
    voxels = {o: _on_grid(mask, case.truths[o], case, grid) for o, mask in masks.items()}
    counts = np.ones(next(iter(voxels.values())).shape, bool)
    if case.ignore is not None:
        for values in voxels.values():
            counts &= values != case.ignore
    observers = {observer: (values != 0) & counts for observer, values in voxels.items()}
    if len(observers) == 1:
        return Truth(grid, next(iter(observers.values())), counts)
    return Truth(grid, consensus(list(observers.values())), counts, observers)


def read_prediction(case: Case, path: Path, truth: Truth) -> tuple[np.ndarray, Grid]:
    """The voxels that a run predicts, of those that count; bool (S, H, W), in the order of the truth.

    And the grid of the file, whose axes may run in another order and direction.

    Raises:
        IGTVError: the prediction cannot be read, is no mask, or has other voxels than the truth.
    """
    mask = _read(read_mask, path, case)
    return (_on_grid(mask, path, case, truth.grid) != 0) & truth.counts, Grid.of(mask)


@dataclass(frozen=True)
class Content:
    """What is shown of a case; arrays are (S, H, W).

    Attributes:
        truth: with its grid.
        predictions: model -> bool; of several runs the first that predicted the case.
        images: CT and, where there is one, PET. A PET of zeros stands for none, as in a conversion.
    """

    truth: Truth
    predictions: dict[str, np.ndarray]
    images: list[np.ndarray]


def read_content(case: Case) -> Content:
    """Everything of a case that has images.

    Raises:
        IGTVError: as `read_truth` and `read_prediction`; an image cannot be read, or has other voxels.
    """
    truth = read_truth(case)
    predictions = {
        model: read_prediction(case, runs[0][1], truth)[0] for model, runs in case.predictions.items()
    }
    ct, *pet = (_on_grid(_read(read_image, path, case), path, case, truth.grid) for path in case.images)
    return Content(truth, predictions, [ct, *(image for image in pet if image.any())])


def _read(reader: Callable[[Path], sitk.Image], path: Path, case: Case) -> sitk.Image:
    try:
        return reader(path)
    except IGTVError as error:
        raise error.but(case=case.name) from error


def _on_grid(image: sitk.Image, path: Path, case: Case, grid: sitk.Image) -> np.ndarray:
    """The voxels (S, H, W) in the order of a grid that has the same ones."""
    own, wanted = Grid.of(image), Grid.of(grid)
    _refuse_another_grid(own, wanted, path, case.name)
    return rearranged(sitk.GetArrayViewFromImage(image), own, wanted, "truth")


def _files(folder: Path) -> dict[str, Path]:
    """Name without its ending -> image file, sorted. Raises IGTVError where two are of one name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = _name(path)
        if name is None:
            continue
        if not path.is_file():
            raise IGTVError("not a file", case=name, file=path)
        if name in found:
            raise IGTVError(
                f"two files of one case: {found[name].name} and {path.name}",
                case=name,
                file=folder,
                remedy="take one of them away",
            )
        found[name] = path
    return found


def _name(path: Path) -> str | None:
    for ending in IMAGE_ENDINGS:
        if path.name.endswith(ending) and not path.name.startswith("."):
            return path.name[: -len(ending)]
    return None
