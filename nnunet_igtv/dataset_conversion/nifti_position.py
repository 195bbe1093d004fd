"""Whether the NIfTI files of a case say where their voxels are, and what is remarked where one says it twice.

The sform is taken then (`nnunet_igtv.grids.read_image`); other software takes the qform, or changes one only.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, same_grid
from nnunet_igtv.nifti_header import NiftiHeader, is_nifti, read_header

APART = 0.5  # voxels, at the corner that differs most


def check_positions(images: Mapping[str, tuple[Path, Grid]], root: Path) -> list[str]:
    """Whether the places of some images that belong together are known, and remarks on those told twice.

    Args:
        images: what each is called in remarks -> its file, and its grid as it was read.
        root: files in errors are named relative to it.

    Raises:
        IGTVError: a header says nothing, and another one does or has other voxels.
    """
    headers = {name: read_header(file) for name, (file, _) in images.items() if is_nifti(file)}
    unplaced = [images[name][0] for name, header in headers.items() if not header.is_placed]
    _, first = next(iter(images.values()))
    alike = all(same_grid(grid, first) for _, grid in images.values())
    if unplaced and (len(unplaced) < len(images) or not alike):
        raise IGTVError(
            "the header does not say where the voxels are (qform_code and sform_code are 0)",
            file=os.path.relpath(unplaced[0], root),
            remedy="save it with the position of its image",
        )
    return [remark for name, header in headers.items() for remark in _remarks(header, name)]


def _remarks(header: NiftiHeader, name: str) -> list[str]:
    """A remark on a header that puts the voxels at two places; none if it does not."""
    if header.qform is None or header.sform is None:
        return []
    last = header.size - 1
    corners = np.array([[*(last * (i, j, k)), 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    apart = np.linalg.norm((header.qform - header.sform)[:3] @ corners.T, axis=0).max()
    if apart <= APART * np.abs(header.spacing).min():
        return []
    return [
        f"the header of the {name} says two places, {apart:.1f} mm apart (qform and sform): the sform's is "
        "taken"
    ]
