"""Predictions -> DICOM objects that refer to the CT they were made on.

write_rtstruct(mask, ct_folder, output, name="IGTV")   RTSTRUCT
write_seg(mask, ct_folder, output, name="IGTV")        DICOM-SEG (highdicom, the extra `seg`)
check_export(ct, name, seg=False)                      whether they can be written, before there is a mask
anonymised(ct, patient)                                a CT series to draw on, without identity
"""

from nnunet_igtv.export.anonymous import anonymised
from nnunet_igtv.export.checks import check_export
from nnunet_igtv.export.rtstruct import write_rtstruct
from nnunet_igtv.export.seg import write_seg

__all__ = ["anonymised", "check_export", "write_rtstruct", "write_seg"]
