"""A CT series without identity, for objects that are given away."""

from functools import cache

from pydicom import Dataset
from pydicom.uid import UID

from nnunet_igtv.dicom.attributes import attribute, text
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.export.references import referenced_images
from nnunet_igtv.export.text import long_string
from nnunet_igtv.export.uids import new_uid

_FRESH = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_KEPT = (
    "SOPClassUID",
    "Modality",
    "Rows",
    "Columns",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
)


def anonymised(ct: Series, patient: str) -> Series:
    """A CT series as somebody may know it who must not know whose it is.

    Its headers hold nothing but the geometry, `patient` as ID and name, and fresh identifiers of study,
    series, images and frame of reference. All objects written from the series returned have these in common;
    another call gives others.

    Raises:
        IGTVError: an ID that DICOM does not allow, or a series that nothing can refer to: afterwards, nobody
            would see that its images named several patients.
    """
    referenced_images(ct)
    patient = long_string(patient, "the ID of the anonymous patient", "anonymous")

    @cache
    def fresh(original: str) -> UID:
        return new_uid()

    def stripped(header: Dataset) -> Dataset:
        bare = Dataset()
        for keyword in _KEPT:
            value = attribute(header, keyword)
            if value is not None:
                setattr(bare, keyword, value)
        for keyword in _FRESH:
            if text(header, keyword):
                setattr(bare, keyword, fresh(text(header, keyword)))
        bare.SpecificCharacterSet, bare.PatientID, bare.PatientName = "ISO_IR 192", patient, patient
        return bare

    return Series([stripped(header) for header in ct.headers], ct.files, ct.frames, ct.notes, ct.fault)
