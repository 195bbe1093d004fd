"""Whether all files of cases have the voxels of their truths: by their headers, before voxels are read."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, difference, read_grid, same_voxels

if TYPE_CHECKING:
    from nnunet_igtv.evaluation.cases import Case


def refuse_another_grid(own: Grid, wanted: Grid, path: Path, case: str) -> None:
    """Raises IGTVError for a file whose voxels are not those of the truth, in whatever order."""
    if not same_voxels(own, wanted):
        raise IGTVError(
            f"another grid than the truth's: {difference(own, wanted)}",
            case=case,
            file=path,
            remedy="bring predictions and images onto the grid of the truth",
        )


def refuse_other_grids(cases: Iterable["Case"]) -> None:
    """Compares every mask and image with the (first) truth of its case.

    Raises:
        IGTVError: a header cannot be read, or names another grid. Of several files all are listed.
    """
    errors = [error for case in cases for error in _errors(case)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise IGTVError(
            f"{len(errors)} files do not fit their truths",
            remedy="bring predictions and images onto the grid of the truth",
            table="\n".join(f"{error.case}: {error.what} [{error.file}]" for error in errors),
        )


def _errors(case: "Case") -> Iterator[IGTVError]:
    (_, first), *others = case.masks()
    try:
        wanted = read_grid(first)
    except IGTVError as error:
        yield error.but(case=case.name)
        return
    for path in (*(path for _, path in others), *case.images):
        try:
            refuse_another_grid(read_grid(path), wanted, path, case.name)
        except IGTVError as error:
            yield error.but(case=case.name)
