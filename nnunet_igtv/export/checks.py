"""Whether contours on a CT can be written, asked before they are computed."""

from io import BytesIO
from pathlib import Path

import numpy as np

from nnunet_igtv.dicom.quiet import quiet
from nnunet_igtv.dicom.redaction import naming_nobody
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.export.files import with_file_meta
from nnunet_igtv.export.rtstruct import rtstruct
from nnunet_igtv.export.seg import segmentation


@quiet()
def check_export(ct: Series, name: str, *, seg: bool = False, extend: str | Path | None = None) -> None:
    """Make the objects of a mask of one voxel, and keep nothing.

    Args:
        ct: the CT that the contours will be drawn on.
        name: name of the structure.
        seg: a DICOM-SEG will be written as well.
        extend: a structure set that the new one will carry on.

    Raises:
        IGTVError: as `write_rtstruct` and `write_seg` would for any mask on the CT.
    """
    voxels = np.zeros(ct.grid.size[::-1], np.uint8)
    voxels[tuple(size // 2 for size in voxels.shape)] = 1
    mask = ct.grid.image(voxels)
    with naming_nobody(ct, extend):
        objects = [rtstruct(mask, ct, name, extend=extend), *([segmentation(mask, ct, name)] if seg else [])]
    for dataset in objects:
        with_file_meta(dataset).save_as(BytesIO(), enforce_file_format=True)
