"""Where the header of a NIfTI-1 file says that its voxels are, and how large they are.

The sizes are in `pixdim`. The place can be said twice, by a quaternion (qform) and by a matrix (sform), which
says the sizes once more; or not at all (both codes 0). The sform counts where there is one, as in nibabel and
SPM; ITK takes it only in some cases, and the sizes from `pixdim` in all.
"""

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from nnunet_igtv.errors import IGTVError

LENGTH = 348  # bytes (NIfTI-1)
ENDINGS = (".nii", ".nii.gz")
UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}  # of xyzt_units; anything else is taken for mm
APART = 0.01  # how far the sizes of sform and pixdim may differ, as a part of them


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says; lengths are in mm, matrices (4, 4) take a voxel index (x, y, z, 1) to RAS.

    Attributes:
        size: voxels along x, y and z.
        spacing: `pixdim`, as it stands: it may be negative, 0 or no number.
        qform, sform: None where the code is 0.
        unit: the unit of the file, where it is another than mm; "" else.
    """

    size: np.ndarray
    spacing: np.ndarray
    qform: np.ndarray | None
    sform: np.ndarray | None
    unit: str = ""

    @property
    def is_placed(self) -> bool:
        return self.qform is not None or self.sform is not None

    def check_sizes(self, shown: str) -> None:
        """Raises IGTVError (the file named as `shown`) if sform and `pixdim` say two sizes."""
        if self.sform is None:
            return
        sizes = np.linalg.norm(self.sform[:3, :3], axis=0)
        if (
            not (np.abs(sizes - np.abs(self.spacing)) <= APART * np.abs(self.spacing)).all()
            or not sizes.all()
        ):
            raise IGTVError(
                f"the header says two voxel sizes: {in_mm(self.spacing)} (pixdim) and {in_mm(sizes)} (sform)",
                file=shown,
                remedy="find out which is right and save the image with it in both places; of an image that "
                "nibabel has read, nibabel.Nifti1Image(image.dataobj, image.affine) has the sform's",
            )


def is_nifti(file: Path) -> bool:
    """Whether a file is called a NIfTI file of header and voxels."""
    return file.name.lower().endswith(ENDINGS)


def in_mm(sizes: np.ndarray) -> str:
    """Lengths along x, y and z, for people."""
    return " x ".join(f"{size:.4g}" for size in sizes) + " mm"


def read_header(file: Path) -> NiftiHeader:
    """The header of a NIfTI-1 file that can be read, and holds one."""
    with open(file, "rb") as stream:
        is_compressed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(file) if is_compressed else open(file, "rb") as stream:
        head = stream.read(LENGTH)
    order = "<" if head[:4] == struct.pack("<i", LENGTH) else ">"
    size = np.array(struct.unpack_from(f"{order}3h", head, 42))
    handed, *spacing = struct.unpack_from(f"{order}4f", head, 76)
    unit, factor = UNITS.get(head[123] & 7, ("", 1.0))
    codes = struct.unpack_from(f"{order}2h", head, 252)
    b, c, d, *offset = struct.unpack_from(f"{order}6f", head, 256)
    turned = Rotation.from_quat([b, c, d, np.sqrt(max(0.0, 1 - b * b - c * c - d * d))]).as_matrix()
    qform, sform = np.eye(4), np.eye(4)
    qform[:3, :3] = turned * spacing * (1, 1, -1 if handed < 0 else 1)
    qform[:3, 3] = offset
    sform[:3] = np.reshape(struct.unpack_from(f"{order}12f", head, 280), (3, 4))
    for matrix in (qform, sform):
        matrix[:3] *= factor
    return NiftiHeader(
        size,
        np.array(spacing) * factor,
        qform if codes[0] > 0 else None,
        sform if codes[1] > 0 else None,
        unit,
    )
