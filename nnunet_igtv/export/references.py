"""References to the CT's images, as RTSTRUCT and SEG hold them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from nnunet_igtv.dicom.attributes import text, values_of
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError

_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management SOP class, which readers expect here
_NEEDED = {
    "StudyInstanceUID": "Study Instance UID (0020,000D)",
    "SeriesInstanceUID": "Series Instance UID (0020,000E)",
    "SOPInstanceUID": "SOP Instance UID (0008,0018)",
    "FrameOfReferenceUID": "frame of reference (0020,0052)",
}


class ReferencedImage(NamedTuple):
    """The image of one slice of the mask."""

    sop_class_uid: str
    sop_instance_uid: str
    position: tuple[float, ...]  # Image Position (Patient), of the frame where there are several; mm
    frame: int | None = None  # index from 0 in a multi-frame object

    @classmethod
    def of(cls, header: Dataset, frame: int | None = None) -> "ReferencedImage":
        position = tuple(float(value) for value in header.ImagePositionPatient)
        return cls(str(header.SOPClassUID), str(header.SOPInstanceUID), position, frame)

    def item(self) -> Dataset:
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_instance_uid
        if self.frame is not None:
            item.ReferencedFrameNumber = self.frame + 1
        return item


def referenced_images(ct: Series) -> list[ReferencedImage]:
    """The images of a series, in slice order.

    Raises:
        IGTVError: the series lacks an identifier, or two images share one, so that nothing can refer to it;
            or its images do not name one patient.
    """
    patient = text(ct.headers[0], "PatientID")
    images: dict[tuple[str, int | None], Path] = {}
    for header, file, frame in zip(ct.headers, ct.files, ct.frames, strict=True):
        missing = [name for keyword, name in _NEEDED.items() if len(values_of(header, keyword)) != 1]
        if missing:
            raise IGTVError(
                f"the CT has no {', no '.join(missing)}: contours cannot refer to it",
                file=file,
                remedy="export the CT again with its identifiers (pseudonymised ones will do)",
            )
        if text(header, "PatientID") != patient:
            raise IGTVError(
                "the images of the CT series do not have one patient's ID (0010,0020)",
                file=file,
                remedy="take the images of one patient, or export the CT again",
            )
        other = images.setdefault((text(header, "SOPInstanceUID"), frame), file)
        if other != file:
            raise IGTVError(
                f"the image has the SOP Instance UID (0008,0018) of {other.name}: nothing can refer to it",
                file=file,
                remedy="export the CT again with an identifier for each image",
            )
    return [ReferencedImage.of(*image) for image in zip(ct.headers, ct.frames, strict=True)]


def referenced_frame(ct: Dataset, images: Sequence[ReferencedImage]) -> Dataset:
    """The item of the Referenced Frame of Reference Sequence that names study, series and images of a CT."""
    series = Dataset()
    series.SeriesInstanceUID = ct.SeriesInstanceUID
    series.ContourImageSequence = DicomSequence(image.item() for image in images)
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = ct.StudyInstanceUID
    study.RTReferencedSeriesSequence = DicomSequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = ct.FrameOfReferenceUID
    frame.RTReferencedStudySequence = DicomSequence([study])
    return frame
