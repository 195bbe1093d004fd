"""The sources of cases, one module each. A new source is a module with a `SOURCE`, and a line here."""

from nnunet_igtv.dataset_conversion.source import Source
from nnunet_igtv.dataset_conversion.sources import autopet, dicom_rt, four_d_ct, lucid, nifti, pclt20k

SOURCES: dict[str, Source] = {
    module.SOURCE.name: module.SOURCE for module in (lucid, dicom_rt, four_d_ct, pclt20k, autopet, nifti)
}
