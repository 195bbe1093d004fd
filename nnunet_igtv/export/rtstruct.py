"""Mask -> RTSTRUCT that refers to the CT it was drawn on (DICOM PS3.3, A.19)."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import RTStructureSetStorage

from nnunet_igtv import __version__
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.contours import Contour, trace
from nnunet_igtv.export.ct_series import reference_series
from nnunet_igtv.export.files import quiet, refuse_existing, write_dicom
from nnunet_igtv.export.uids import new_uid

# What a structure set repeats of the images' patient and study, type 2 attributes empty where absent.
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management SOP class, which readers expect here
_STRUCTURES = ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence")
COLOUR = (255, 64, 64)


class ReferencedImage(NamedTuple):
    """The image of one slice of the mask."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None = None  # index from 0 in a multi-frame object

    @classmethod
    def of(cls, header: Dataset, frame: int | None = None) -> "ReferencedImage":
        return cls(str(header.SOPClassUID), str(header.SOPInstanceUID), frame)

    def item(self) -> Dataset:
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_instance_uid
        if self.frame is not None:
            item.ReferencedFrameNumber = self.frame + 1
        return item


@quiet()
def write_rtstruct(
    mask: sitk.Image,
    ct_folder: str | Path | Series,
    output: str | Path,
    name: str = "IGTV",
    *,
    colour: tuple[int, int, int] = COLOUR,
    extend: str | Path | None = None,
) -> Path:
    """Write `mask` as the structure `name` of a new RTSTRUCT file.

    Args:
        mask: nonzero voxels are the structure; on the CT's voxels, its axes in any order and direction.
        ct_folder: holds the CT series that the mask belongs to (and perhaps others); or the series itself.
        output: the file to write; must not exist.
        name: the structure's name.
        colour: display colour, red, green, blue, 0 to 255.
        extend: an existing structure set of the same CT whose structures the new file carries as well.

    Returns:
        The file written. Reading it back on the CT's grid gives exactly the mask.

    Raises:
        IGTVError: empty mask, another grid than the CT's, no or several CT series, existing output, or a
            structure set to extend that belongs to another patient or frame of reference.

    Examples:
        >>> import SimpleITK as sitk
        >>> from nnunet_igtv import read_ct, read_structure, write_rtstruct
        >>> ct = read_ct("studies/IGTV-3-000/CT")
        >>> mask = ct > 30  # any mask on the CT's voxels
        >>> write_rtstruct(mask, "studies/IGTV-3-000/CT", "dense.dcm", "dense").name
        'dense.dcm'
        >>> again = read_structure("dense.dcm", "dense", ct)  # the same voxels come back
        >>> bool((sitk.GetArrayFromImage(again) == sitk.GetArrayFromImage(mask)).all())
        True
    """
    output = Path(output)
    refuse_existing(output)
    series, mask = reference_series(ct_folder, mask)
    images = [ReferencedImage.of(*image) for image in zip(series.headers, series.frames, strict=True)]
    if extend is None:
        dataset = structure_set(mask, series.headers[0], images, name, colour=colour)
    else:
        dataset = extended_structure_set(mask, series.headers[0], images, name, Path(extend), colour=colour)
    write_dicom(dataset, output)
    return output


def structure_set(
    mask: sitk.Image,
    ct: Dataset,
    images: Sequence[ReferencedImage],
    name: str,
    *,
    colour: tuple[int, int, int] = COLOUR,
    uid: Callable[[], str] = new_uid,
    now: datetime | None = None,
) -> Dataset:
    """The structure set of one structure.

    Args:
        mask: on the grid of the CT, third axis along `images`.
        ct: header of one image of the CT series: patient, study, series and frame of reference.
        images: the images, one per slice in slice order.
        name: the structure's name.
        colour: display colour, red, green, blue.
        uid: gives the identifiers of the new series and instance.
        now: what to write as the moment of creation, local time.
    """
    dataset = Dataset()
    _copy_patient_and_study(ct, dataset)
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesDescription = "nnU-Net IGTV"
    dataset.SeriesNumber = 1000  # after what scanners number
    dataset.OperatorsName = ""
    dataset.Manufacturer = "nnunet-igtv"
    dataset.ManufacturerModelName = "nnunet-igtv"
    dataset.SoftwareVersions = __version__
    dataset.StructureSetLabel = name[:16]
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.FrameOfReferenceUID = ct.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = ""
    dataset.ReferencedFrameOfReferenceSequence = DicomSequence([_referenced_frame(ct, images)])
    for keyword in _STRUCTURES:
        setattr(dataset, keyword, DicomSequence())
    _append_structure(dataset, trace(mask), ct, images, name, colour)
    _make_new_instance(dataset, uid, now)
    return dataset


def extended_structure_set(
    mask: sitk.Image,
    ct: Dataset,
    images: Sequence[ReferencedImage],
    name: str,
    existing: Path,
    *,
    colour: tuple[int, int, int] = COLOUR,
) -> Dataset:
    """A new structure set: all of `existing`'s structures and one more."""
    dataset = read_extendable(existing, ct, name)
    for frame in dataset.ReferencedFrameOfReferenceSequence:
        if frame.get("FrameOfReferenceUID") == ct.FrameOfReferenceUID:
            _refer_to_series(frame, ct, images)
    for keyword in _STRUCTURES:
        if keyword not in dataset:
            setattr(dataset, keyword, DicomSequence())
    _append_structure(dataset, trace(mask), ct, images, name, colour)
    _make_new_instance(dataset, new_uid, None)
    dataset.ApprovalStatus = "UNAPPROVED"
    for keyword in ("ReviewDate", "ReviewTime", "ReviewerName"):
        if keyword in dataset:
            delattr(dataset, keyword)
    return dataset


def read_extendable(existing: str | Path, ct: Dataset, name: str) -> Dataset:
    """A structure set that a structure `name` drawn on the CT can be added to. Raises IGTVError if not."""
    try:
        dataset = dcmread(existing)
        names = [str(roi.get("ROIName", "")) for roi in dataset.get("StructureSetROISequence", [])]
    except Exception as error:  # pydicom raises whatever the damage leads to
        raise IGTVError("the structure set to extend cannot be read", file=existing) from error
    remedy = "pass the structure set of this CT, or write a new one"
    if dataset.get("SOPClassUID") != RTStructureSetStorage:
        raise IGTVError("the file to extend is no RTSTRUCT", file=existing, remedy=remedy)
    if any(dataset.get(keyword) != ct.get(keyword) for keyword in ("PatientID", "StudyInstanceUID")):
        what = "the structure set to extend belongs to another patient or study than the CT"
        raise IGTVError(what, file=existing, remedy=remedy)
    frames = dataset.get("ReferencedFrameOfReferenceSequence", [])
    if ct.FrameOfReferenceUID not in [frame.get("FrameOfReferenceUID") for frame in frames]:
        what = "the structure set to extend has another frame of reference than the CT"
        raise IGTVError(what, file=existing, remedy=remedy)
    if name in names:
        what = f"the structure set holds a structure {name!r} already"
        raise IGTVError(what, file=existing, remedy="choose another name", settings=["name"])
    return dataset


def _copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    target.SpecificCharacterSet = source.get("SpecificCharacterSet", "ISO_IR 192")
    for keyword in _PATIENT + _STUDY:
        setattr(target, keyword, source.get(keyword, ""))
    target.StudyInstanceUID = source.StudyInstanceUID


def _make_new_instance(dataset: Dataset, uid: Callable[[], str], now: datetime | None) -> None:
    now = now or datetime.now()
    dataset.SOPInstanceUID = uid()
    dataset.SeriesInstanceUID = uid()
    dataset.StructureSetDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")


def _referenced_frame(ct: Dataset, images: Sequence[ReferencedImage]) -> Dataset:
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


def _refer_to_series(frame: Dataset, ct: Dataset, images: Sequence[ReferencedImage]) -> None:
    """Add the CT series to a frame of reference's references, where it is not among them."""
    studies = list(frame.get("RTReferencedStudySequence", []))
    series = [item for study in studies for item in study.get("RTReferencedSeriesSequence", [])]
    if ct.SeriesInstanceUID not in [item.get("SeriesInstanceUID") for item in series]:
        studies += _referenced_frame(ct, images).RTReferencedStudySequence
        frame.RTReferencedStudySequence = DicomSequence(studies)


def _append_structure(
    dataset: Dataset,
    contours: list[Contour],
    ct: Dataset,
    images: Sequence[ReferencedImage],
    name: str,
    colour: tuple[int, int, int],
) -> None:
    if not contours:
        raise IGTVError("the mask is empty: there is nothing to contour")
    number = max((int(roi.ROINumber) for roi in dataset.StructureSetROISequence), default=0) + 1

    structure = Dataset()
    structure.ROINumber = number
    structure.ReferencedFrameOfReferenceUID = ct.FrameOfReferenceUID
    structure.ROIName = name
    structure.ROIGenerationAlgorithm = "AUTOMATIC"
    dataset.StructureSetROISequence.append(structure)

    roi_contour = Dataset()
    roi_contour.ROIDisplayColor = list(colour)
    roi_contour.ReferencedROINumber = number
    roi_contour.ContourSequence = DicomSequence()
    for contour_number, contour in enumerate(contours, 1):
        item = Dataset()
        item.ContourImageSequence = DicomSequence([images[contour.slice_index].item()])
        item.ContourGeometricType = "CLOSED_PLANAR"
        item.NumberOfContourPoints = len(contour.points)
        item.ContourNumber = contour_number
        item.ContourData = [f"{value:.3f}" for value in contour.points.ravel()]
        roi_contour.ContourSequence.append(item)
    dataset.ROIContourSequence.append(roi_contour)

    observation = Dataset()
    observation.ObservationNumber = (
        max((int(item.ObservationNumber) for item in dataset.RTROIObservationsSequence), default=0) + 1
    )
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = "GTV"
    observation.ROIInterpreter = ""
    dataset.RTROIObservationsSequence.append(observation)
