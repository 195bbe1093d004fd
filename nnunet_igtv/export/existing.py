"""An existing structure set whose structures a new one carries on, as planning systems write them."""

import re
from pathlib import Path

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import RTStructureSetStorage

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.elements import elements_of
from nnunet_igtv.export.text import structure_name
from nnunet_igtv.structures.structure_sets import references

STRUCTURES = ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence")
FRAMES = "ReferencedFrameOfReferenceSequence"
_LARGEST = 2**31 - 1  # of an Integer String


def read_existing(file: str | Path, ct: Dataset, name: str) -> Dataset:
    """What a new structure set on the same CT carries on of an existing one.

    These are its structures as they are (with contours that no longer have one) and its references; sequences
    that the file lacks are empty. Label, description, dates, equipment and review are not carried on.

    Args:
        file: the RTSTRUCT file.
        ct: header of the CT that the new structure set will be drawn on.
        name: of the structure that will be added.

    Raises:
        IGTVError: no RTSTRUCT, damaged, of another patient or frame of reference, of another study
            without naming the CT's series, or with a structure of this name.
    """
    file = Path(file)
    if not file.is_file():
        raise IGTVError("no such file", file=file, remedy="check the path", settings=["extend"])
    header = read_header(file)
    if header is None or text(header, "SOPClassUID") != RTStructureSetStorage:
        raise _not_extendable("the file to extend is no RTSTRUCT", file)
    carried = Dataset()
    try:
        for keyword in (FRAMES, *STRUCTURES):
            setattr(carried, keyword, DicomSequence(header.get(keyword) or []))
        if header.get("SpecificCharacterSet"):
            carried.SpecificCharacterSet = header.SpecificCharacterSet
        for _ in elements_of(carried):  # decodes everything that is decoded late
            pass
        _keep_contour_data(carried)
    except Exception as error:  # pydicom raises whatever the damage leads to
        raise _not_extendable("the structure set to extend is damaged", file) from error
    is_filed_with_it = text(header, "StudyInstanceUID") == text(ct, "StudyInstanceUID")
    is_drawn_on_it = text(ct, "SeriesInstanceUID") in references(header)[1]  # some systems file it elsewhere
    if text(header, "PatientID") != text(ct, "PatientID") or not (is_filed_with_it or is_drawn_on_it):
        raise _not_extendable(
            "the structure set to extend belongs to another patient or study than the CT", file
        )
    if str(ct.FrameOfReferenceUID) not in _frames_of(header):
        what = "the structure set to extend has another frame of reference than the CT"
        raise _not_extendable(what, file)
    if structure_name(name) in [text(roi, "ROIName") for roi in carried.StructureSetROISequence]:
        what = f"the structure set holds a structure {name!r} already"
        raise IGTVError(what, file=file, remedy="choose another name", settings=["name"])
    if text(header, "SOPInstanceUID"):
        predecessor = Dataset()
        predecessor.ReferencedSOPClassUID = RTStructureSetStorage
        predecessor.ReferencedSOPInstanceUID = header.SOPInstanceUID
        carried.PredecessorStructureSetSequence = DicomSequence([predecessor])
    return carried


def _keep_contour_data(carried: Dataset) -> None:
    """Let contour data be written as the bytes that they are, whatever the file's encoding was.

    They are text, the same with implicit and explicit VR. Reading and writing them as numbers takes a minute
    for ten million coordinates.
    """
    for roi in carried.ROIContourSequence:
        for contour in roi.get("ContourSequence") or []:
            contour.set_original_encoding(True, True, contour.original_character_set)


def unused_number(sequences: Dataset, *keywords: str) -> int:
    """A number that no element of these names has at any depth.

    Contours and observations may remain of structures that were deleted: their numbers count as used. Numbers
    may be empty, or none.
    """
    used = {0}
    for element in elements_of(sequences):
        if element.keyword in keywords:
            used |= {int(digits) for digits in re.findall(r"\d+", str(element.value))}
    largest = max(used)
    return largest + 1 if largest < _LARGEST else next(n for n in range(1, len(used) + 1) if n not in used)


def _not_extendable(what: str, file: Path) -> IGTVError:
    remedy = "pass the structure set of this CT, or write a new one"
    return IGTVError(what, file=file, remedy=remedy, settings=["extend"])


def _frames_of(header: Dataset) -> set[str]:
    """The frames of reference that a structure set, or one of its structures, says it lies in."""
    rois = header.get("StructureSetROISequence") or []
    stated = {text(header, "FrameOfReferenceUID"), *(text(r, "ReferencedFrameOfReferenceUID") for r in rois)}
    return stated | references(header)[0]
