"""Mask -> RTSTRUCT that refers to the CT it was drawn on (DICOM PS3.3, A.19)."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from numbers import Integral
from pathlib import Path

import SimpleITK as sitk
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import RTStructureSetStorage

from nnunet_igtv import __version__
from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.dicom.quiet import quiet
from nnunet_igtv.dicom.redaction import naming_nobody
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.anonymous import anonymised
from nnunet_igtv.export.contours import Contour, trace
from nnunet_igtv.export.ct_series import reference_series
from nnunet_igtv.export.existing import FRAMES, STRUCTURES, read_existing, unused_number
from nnunet_igtv.export.files import refuse_other, write_dicom
from nnunet_igtv.export.patient import patient_and_study
from nnunet_igtv.export.references import ReferencedImage, referenced_frame, referenced_images
from nnunet_igtv.export.text import Copied, set_character_set, structure_name
from nnunet_igtv.export.uids import new_uid
from nnunet_igtv.structures.contours import ON_EVERY_SLICE
from nnunet_igtv.structures.structure_sets import references
from nnunet_igtv.studies.known import ReadingOptions

COLOUR = (255, 64, 64)


@quiet()
def write_rtstruct(
    mask: sitk.Image,
    ct_folder: str | Path | Series,
    output: str | Path,
    name: str = "IGTV",
    *,
    colour: tuple[int, int, int] = COLOUR,
    extend: str | Path | None = None,
    anonymous: str | None = None,
    ct: str | None = None,
    study: str | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write `mask` as the structure `name` of a new RTSTRUCT file.

    Args:
        mask: nonzero voxels are the structure; on the CT's voxels, its axes in any order and direction.
        ct_folder: holds the CT series that the mask belongs to (and perhaps others); or the series itself.
        output: the file to write.
        name: the structure's name, at most 64 characters of any script, no backslash.
        colour: display colour, red, green, blue, 0 to 255.
        extend: an existing structure set of the same CT whose structures the new file carries as well.
        anonymous: an ID to write in place of the patient's identity; all identifiers are fresh then.
        ct: which CT series, where several lie on the mask's grid: see `nnunet_igtv.studies.selectors`.
        study: of which study.
        overwrite: replace the output if it is a RTSTRUCT; without it, an existing file is refused.
        tell: called with the CT that was chosen of several on the mask's grid, and what to know of it.

    Returns:
        The file written. Reading it back on the CT's grid gives exactly the mask.

    Raises:
        IGTVError: no mask or an empty one, another grid than the CT's, no or several CT series, a CT without
            identifiers, a name or a colour that DICOM does not allow, existing output, or a structure set to
            extend that belongs to another patient or frame of reference.

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
    refuse_other(output, "RTSTRUCT", overwrite)
    if anonymous is not None and extend is not None:
        raise IGTVError(
            "an existing structure set holds the patient's identity, so it cannot be extended anonymously",
            remedy="write a new structure set, or keep the identity",
            settings=["anonymous", "extend"],
        )
    with naming_nobody(ct_folder, extend):
        series, mask = reference_series(
            ct_folder, mask, ReadingOptions(ct=ct, study=study), partial(_drawn_on, extend), tell
        )
        if anonymous is not None:
            series = anonymised(series, anonymous)
        drawn = rtstruct(mask, series, name, colour=colour, extend=extend)
    write_dicom(drawn, output, overwrite)
    return output


def _drawn_on(existing: str | Path | None) -> frozenset[str]:
    """UIDs of the series that a structure set was drawn on; none if it cannot be read."""
    header = read_header(Path(existing)) if existing is not None and Path(existing).is_file() else None
    return frozenset() if header is None else references(header)[1]


def rtstruct(
    mask: sitk.Image,
    ct: Series,
    name: str,
    *,
    colour: tuple[int, int, int] = COLOUR,
    extend: str | Path | None = None,
) -> Dataset:
    """The structure set of a mask on the grid of a CT series; see `write_rtstruct`."""
    images = referenced_images(ct)
    existing = None if extend is None else read_existing(extend, ct.headers[0], name)
    return structure_set(mask, ct.headers[0], images, name, colour=colour, existing=existing)


def structure_set(
    mask: sitk.Image,
    ct: Dataset,
    images: Sequence[ReferencedImage],
    name: str,
    *,
    colour: tuple[int, int, int] = COLOUR,
    existing: Dataset | None = None,
    uid: Callable[[], str] = new_uid,
    now: datetime | None = None,
) -> Dataset:
    """The structure set of one structure, after those of an existing set.

    Args:
        mask: on the grid of the CT, third axis along `images`.
        ct: header of one image of the CT series: patient, study, series and frame of reference.
        images: the images, one per slice in slice order.
        name: the structure's name.
        colour: display colour, red, green, blue.
        existing: what is carried on of an existing set, by `read_existing`.
        uid: gives the identifiers of the new instance and series.
        now: what to write as the moment of creation, local time.
    """
    name = structure_name(name)
    _check_colour(colour)
    existing = existing or Dataset()
    dataset = patient_and_study(ct)
    set_character_set(dataset, [Copied.of(dataset, ct), Copied.of(existing, existing)], own=[name])
    _describe(dataset, name, uid, now or datetime.now())
    dataset.FrameOfReferenceUID = ct.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = ""
    for keyword in (FRAMES, *STRUCTURES):
        setattr(dataset, keyword, DicomSequence(existing.get(keyword, [])))
    if "PredecessorStructureSetSequence" in existing:
        dataset.PredecessorStructureSetSequence = existing.PredecessorStructureSetSequence
    _refer_to(dataset, ct, images)
    contours = trace(mask, [image.position for image in images])
    _append_structure(dataset, contours, mask.GetSpacing()[2], ct, images, name, colour)
    return dataset


def _check_colour(colour: Sequence[int]) -> None:
    if len(colour) != 3 or not all(isinstance(part, Integral) and 0 <= part <= 255 for part in colour):
        raise IGTVError(
            f"{colour!r} is no colour", remedy="give three numbers from 0 to 255", settings=["colour"]
        )


def _describe(dataset: Dataset, name: str, uid: Callable[[], str], now: datetime) -> None:
    """What the set is called, who made it, and when: this package, now, whatever it was made from."""
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = uid()
    dataset.SeriesInstanceUID = uid()
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesDescription = "nnU-Net IGTV"
    dataset.SeriesNumber = 1000  # after what scanners number
    dataset.OperatorsName = ""
    dataset.Manufacturer = "nnunet-igtv"
    dataset.ManufacturerModelName = "nnunet-igtv"
    dataset.SoftwareVersions = __version__
    dataset.StructureSetLabel = name[:16].strip(" ")
    dataset.StructureSetDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"


def _refer_to(dataset: Dataset, ct: Dataset, images: Sequence[ReferencedImage]) -> None:
    """Add the CT's frame of reference, or its series, to the references that lack it."""
    ours = referenced_frame(ct, images)
    frames = dataset.ReferencedFrameOfReferenceSequence
    for frame in frames:
        if text(frame, "FrameOfReferenceUID") == ct.FrameOfReferenceUID:
            if ct.SeriesInstanceUID not in references(dataset)[1]:
                studies = [*(frame.get("RTReferencedStudySequence") or []), *ours.RTReferencedStudySequence]
                frame.RTReferencedStudySequence = DicomSequence(studies)
            return
    frames.append(ours)


def _append_structure(
    dataset: Dataset,
    contours: list[Contour],
    thickness_mm: float,
    ct: Dataset,
    images: Sequence[ReferencedImage],
    name: str,
    colour: tuple[int, int, int],
) -> None:
    if not contours:
        raise IGTVError("the mask is empty: there is nothing to contour")
    number = unused_number(dataset, "ROINumber", "ReferencedROINumber")

    structure = Dataset()
    structure.ROINumber = number
    structure.ReferencedFrameOfReferenceUID = ct.FrameOfReferenceUID
    structure.ROIName = name
    structure.ROIGenerationAlgorithm = "AUTOMATIC"
    structure.ROIGenerationDescription = ON_EVERY_SLICE.format(thickness=thickness_mm)

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

    observation = Dataset()
    observation.ObservationNumber = unused_number(dataset, "ObservationNumber")
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = "GTV"
    observation.ROIInterpreter = ""

    dataset.StructureSetROISequence.append(structure)
    dataset.ROIContourSequence.append(roi_contour)
    dataset.RTROIObservationsSequence.append(observation)
