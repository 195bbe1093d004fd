"""Where the header of a NIfTI file says that its voxels are.

It can say so twice, by a quaternion (qform) and by a matrix (sform), or not at all (both codes 0). ITK,
nnU-Net and nibabel take the sform where both are given; other software takes the qform or changes one only.
"""

import gzip
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, same_grid

HEADER = 348  # bytes (NIfTI-1)
APART = 0.5  # voxels, at the corner that differs most


def check_positions(images: Mapping[str, tuple[Path, Grid]], root: Path) -> list[str]:
    """Whether the places of some images that belong together are known, and remarks on those told twice.

    Args:
        images: what each is called in remarks -> its file, and its grid as it was read.
        root: files in errors are named relative to it.

    Raises:
        IGTVError: a header says nothing, and another one does or has other voxels.
    """
    headers = {name: _read(file) for name, (file, _) in images.items()}
    unplaced = [images[name][0] for name, header in headers.items() if header and not header.is_placed]
    _, first = next(iter(images.values()))
    alike = all(same_grid(grid, first) for _, grid in images.values())
    if unplaced and (len(unplaced) < len(images) or not alike):
        raise IGTVError(
            "the header does not say where the voxels are (qform_code and sform_code are 0)",
            file=os.path.relpath(unplaced[0], root),
            remedy="save it with the position of its image",
        )
    return [remark for name, header in headers.items() if header for remark in _remarks(header, name)]


@dataclass(frozen=True)
class _Header:
    """What a header says about places; matrices (4, 4) take a voxel index (x, y, z, 1) to mm."""

    size: np.ndarray
    spacing: np.ndarray
    qform: np.ndarray | None
    sform: np.ndarray | None

    @property
    def is_placed(self) -> bool:
        return self.qform is not None or self.sform is not None


def _remarks(header: _Header, name: str) -> list[str]:
    """A remark on a header that puts the voxels at two places; none if it does not."""
    if header.qform is None or header.sform is None:
        return []
    last = header.size - 1
    corners = np.array([[*(last * (i, j, k)), 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    apart = np.linalg.norm((header.qform - header.sform)[:3] @ corners.T, axis=0).max()
    if apart <= APART * header.spacing.min():
        return []
    return [
        f"the header of the {name} says two places, {apart:.1f} mm apart (qform and sform): the sform's is "
        "taken"
    ]


def _read(file: Path) -> _Header | None:
    """The header of a NIfTI file that has been read before; None for another format."""
    if not file.name.lower().endswith((".nii", ".nii.gz")):
        return None
    with open(file, "rb") as stream:
        is_compressed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(file) if is_compressed else open(file, "rb") as stream:
        head = stream.read(HEADER)
    order = "<" if head[:4] == struct.pack("<i", HEADER) else ">"
    size = np.array(struct.unpack_from(f"{order}3h", head, 42))
    handed, *spacing = struct.unpack_from(f"{order}4f", head, 76)
    codes = struct.unpack_from(f"{order}2h", head, 252)
    b, c, d, *offset = struct.unpack_from(f"{order}6f", head, 256)
    turned = Rotation.from_quat([b, c, d, np.sqrt(max(0.0, 1 - b * b - c * c - d * d))]).as_matrix()
    qform, sform = np.eye(4), np.eye(4)
    qform[:3, :3] = turned * spacing * (1, 1, -1 if handed < 0 else 1)
    qform[:3, 3] = offset
    sform[:3] = np.reshape(struct.unpack_from(f"{order}12f", head, 280), (3, 4))
    return _Header(size, np.abs(spacing), qform if codes[0] > 0 else None, sform if codes[1] > 0 else None)
