"""Predictions -> DICOM objects that refer to the CT they were made on.

write_rtstruct(mask, ct_folder, output, name="IGTV")   RTSTRUCT
write_seg(mask, ct_folder, output, name="IGTV")        DICOM-SEG (highdicom, the extra `seg`)
"""

from nnunet_igtv.export.rtstruct import write_rtstruct
from nnunet_igtv.export.seg import write_seg

__all__ = ["write_rtstruct", "write_seg"]
