"""Reading DICOM: files, headers, frames, pixels, series, geometry, studies, SUV and structure sets.

Nothing here knows nnU-Net, or what a case of a dataset is.

    read_ct(folder)      CT in HU
    read_pet(folder)     PET in SUVbw
    read_structure(rtstruct, pattern, image)   mask of a structure on that image's grid
"""

from nnunet_igtv.dicom.images import read_ct, read_pet
from nnunet_igtv.dicom.rasterise import read_structure
from nnunet_igtv.dicom.series import find_series

__all__ = ["find_series", "read_ct", "read_pet", "read_structure"]
