"""Reading a mask from a file."""

from pathlib import Path

import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError


def read_mask(path: str | Path) -> sitk.Image:
    """A 3D label image. Raises IGTVError for anything else."""
    path = Path(path)
    if not path.is_file():
        raise IGTVError("no such file", file=path)
    try:
        mask = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise IGTVError(
            "the mask cannot be read", file=path, remedy="check that it is a NIfTI image"
        ) from error
    if mask.GetDimension() != 3 or mask.GetNumberOfComponentsPerPixel() != 1:
        raise IGTVError(f"the mask is not a 3D image of one channel (size {mask.GetSize()})", file=path)
    return mask
