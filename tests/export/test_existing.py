"""Structure sets as planning systems write them are carried on: each structure as it was, and one more."""

import copy
import time

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from nnunet_igtv import read_structure
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export import write_rtstruct

SEQUENCES = ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence")


@pytest.fixture
def box():
    mask = np.zeros((7, 11, 14), np.uint8)
    mask[1:3, 7:10, 1:3] = 1
    return mask


@pytest.fixture
def plan(ring, upright, write_ct, tmp_path):
    """plan(change, **options): extend a structure set of GTV and LUNG, altered as given.

    It is the folder's `old.dcm`; the new structure IGTV goes to `new.dcm`. Returns both as datasets.
    """
    ct = write_ct(tmp_path / "ct", upright)
    first = write_rtstruct(upright.image(ring), ct, tmp_path / "first.dcm", "GTV")
    planned = dcmread(write_rtstruct(upright.image(ring), ct, tmp_path / "two.dcm", "LUNG", extend=first))

    def extend(mask, change=lambda planned: None, syntax=ImplicitVRLittleEndian, name="IGTV"):
        change(planned)
        old, new = tmp_path / "old.dcm", tmp_path / "new.dcm"
        planned.file_meta.TransferSyntaxUID = syntax
        dcmwrite(old, planned, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        before = old.read_bytes()
        write_rtstruct(upright.image(mask), ct, new, name, extend=old)
        assert old.read_bytes() == before
        return dcmread(old), dcmread(new)

    extend.ct = ct
    return extend


def by_name(dataset, name):
    """The contour items of a structure."""
    (number,) = [r.ROINumber for r in dataset.StructureSetROISequence if r.get("ROIName") == name]
    return [item for item in dataset.ROIContourSequence if item.ReferencedROINumber == number]


def carries_on(old, new):
    """Whether the old items are the first of the new sequences, unchanged; what is new."""
    added = []
    for keyword in SEQUENCES:
        before, after = old.get(keyword) or [], new[keyword].value
        assert list(after[: len(before)]) == list(before)
        (item,) = after[len(before) :]
        added.append(item)
    return added


def test_existing_structures_are_carried_on(plan, ring, box, upright, read_independently, tmp_path):
    old, new = plan(box)
    carries_on(old, new)
    for name, mask in (("GTV", ring), ("LUNG", ring), ("IGTV", box)):
        read_back = read_structure(tmp_path / "new.dcm", name, upright.image(mask))
        assert (sitk.GetArrayFromImage(read_back) == mask).all()
        assert (read_independently(tmp_path / "new.dcm", name, upright, plan.ct) == mask).all()
    assert [roi.ROINumber for roi in new.StructureSetROISequence] == [1, 2, 3]


def test_extending_refers_to_the_series_drawn_on(upright, ring, write_ct, tmp_path):
    first, second = (write_ct(tmp_path / name, upright, series=name) for name in "ab")
    mask = upright.image(ring)
    old = write_rtstruct(mask, first, tmp_path / "old.dcm", name="GTV")
    for ct, expected in ((first, 1), (second, 2)):
        new = dcmread(write_rtstruct(mask, ct, tmp_path / f"{expected}.dcm", extend=old))
        (frame,) = new.ReferencedFrameOfReferenceSequence
        series = [s for study in frame.RTReferencedStudySequence for s in study.RTReferencedSeriesSequence]
        assert len(series) == expected
        assert series[-1].SeriesInstanceUID == dcmread(next(ct.iterdir())).SeriesInstanceUID


def test_the_new_set_is_named_as_ours(plan, box):
    def as_planned_elsewhere(planned):
        planned.Manufacturer, planned.ManufacturerModelName = "Planner Inc.", "Planner"
        planned.SoftwareVersions, planned.DeviceSerialNumber = "15.6", "SERIAL"
        planned.SeriesDescription, planned.SeriesNumber, planned.InstanceNumber = "plan of Erika", 7, 3
        planned.StructureSetLabel, planned.StructureSetName = "approved", "by the physician"
        planned.StructureSetDescription, planned.OperatorsName = "drawn in 2019", "Zoe^O"
        planned.StructureSetDate, planned.StructureSetTime = "20190101", "110000"
        planned.SeriesDate, planned.SeriesTime = "20190101", "110000"
        planned.InstanceCreationDate, planned.InstanceCreationTime = "20190101", "110000"
        planned.ApprovalStatus, planned.ReviewDate, planned.ReviewTime = "APPROVED", "20190102", "120000"
        planned.ReviewerName, planned.InstitutionName = "Reviewer^R", "Hospital"
        planned.private_block(0x3287, "Planner", create=True).add_new(1, "LO", "private")

    old, new = plan(box, as_planned_elsewhere)
    assert (new.Manufacturer, new.ManufacturerModelName) == ("nnunet-igtv", "nnunet-igtv")
    assert (new.StructureSetLabel, new.SeriesDescription) == ("IGTV", "nnU-Net IGTV")
    assert (new.SeriesNumber, new.ApprovalStatus, new.OperatorsName) == (1000, "UNAPPROVED", "")
    today = time.strftime("%Y")
    assert new.StructureSetDate.startswith(today)
    assert new.InstanceCreationDate.startswith(today)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert new[keyword].value != old[keyword].value
    (predecessor,) = new.PredecessorStructureSetSequence
    assert predecessor.ReferencedSOPInstanceUID == old.SOPInstanceUID
    theirs = ["Planner", "SERIAL", "Erika", "approved", "physician", "2019", "Zoe", "Reviewer", "Hospital"]
    assert not [word for word in theirs if word in str(new)]


def without(*keywords):
    def take_away(planned):
        for keyword in keywords:
            delattr(planned, keyword)

    return take_away


def emptied(*keywords):
    def empty(planned):
        for keyword in keywords:
            setattr(planned, keyword, Sequence())

    return empty


def bare_items(planned):
    """Only what is of type 1 in them."""
    for roi in planned.StructureSetROISequence:
        del roi.ROIGenerationAlgorithm
    for item in planned.ROIContourSequence:
        del item.ROIDisplayColor
        for contour in item.ContourSequence:
            del contour.ContourImageSequence
            del contour.ContourNumber
    for item in planned.RTROIObservationsSequence:
        del item.ROIInterpreter
        del item.RTROIInterpretedType


def without_contours(planned):
    del planned.ROIContourSequence[0].ContourSequence
    planned.ROIContourSequence[1].ContourSequence = Sequence()


def empty_numbers(planned):
    planned.StructureSetROISequence[0].ROINumber = None
    planned.ROIContourSequence[0].ReferencedROINumber = None
    planned.RTROIObservationsSequence[0].ObservationNumber = None
    planned.RTROIObservationsSequence[0].ReferencedROINumber = None
    planned.ROIContourSequence[1].ContourSequence[0].ContourNumber = None
    planned.ROIContourSequence[1].ContourSequence[0].NumberOfContourPoints = None
    planned.StructureSetROISequence[1].ROIName = None


def numbers_that_are_none(planned):
    planned.RTROIObservationsSequence[0].add_new("ObservationNumber", "LO", "n/a")
    planned.ROIContourSequence[0].add_new("ReferencedROINumber", "LO", "n/a")


def private_elements(planned):
    for item in (planned.StructureSetROISequence[0], planned.RTROIObservationsSequence[1]):
        block = item.private_block(0x3287, "Planner", create=True)
        block.add_new(1, "LO", "private")
        block.add_new(2, "DS", "1.25")


def name_of_two_values(planned):
    planned.StructureSetROISequence[0].ROIName = "GTV\\left"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(without("RTROIObservationsSequence"), id="no observations"),
        pytest.param(without("ROIContourSequence"), id="no contours"),
        pytest.param(without("ReferencedFrameOfReferenceSequence"), id="frame of its structures only"),
        pytest.param(without("FrameOfReferenceUID", "ApprovalStatus", "SeriesNumber"), id="no type 3"),
        pytest.param(without(*SEQUENCES), id="nothing drawn"),
        pytest.param(emptied(*SEQUENCES), id="empty sequences"),
        bare_items,
        without_contours,
        empty_numbers,
        numbers_that_are_none,
        private_elements,
        name_of_two_values,
    ],
)
def test_structure_sets_that_lack_what_they_may_lack(
    change, syntax, plan, box, upright, read_independently, tmp_path
):
    old, new = plan(box, change, syntax)
    if syntax is ImplicitVRLittleEndian:  # else the representation of private elements is lost
        carries_on(old, new)
    for keyword in SEQUENCES:
        assert len(new[keyword].value) == len(old.get(keyword) or []) + 1
    assert (read_independently(tmp_path / "new.dcm", "IGTV", upright, plan.ct) == box).all()
    (frame,) = new.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == new.FrameOfReferenceUID


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings(syntax, plan, box):
    old, new = plan(box, syntax=syntax)
    carries_on(old, new)
    assert new.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian


def stale(planned, number):
    for sequence in (planned.ROIContourSequence, planned.RTROIObservationsSequence):
        left = copy.deepcopy(sequence[0])
        left.ReferencedROINumber = number
        sequence.append(left)


def related(planned, number):
    item = Dataset()
    item.ReferencedROINumber, item.RTROIRelationship = number, "ENCLOSED"
    planned.RTROIObservationsSequence[0].RTRelatedROISequence = Sequence([item])


def numbered(planned, number):
    planned.StructureSetROISequence[1].ROINumber = number
    planned.ROIContourSequence[1].ReferencedROINumber = number
    planned.RTROIObservationsSequence[1].ReferencedROINumber = number


@pytest.mark.parametrize("use", [stale, related, numbered])
@pytest.mark.parametrize(("number", "expected"), [(3, 4), (41, 42), (2**31 - 1, None)])
def test_a_number_in_use_is_never_used_again(
    use, number, expected, plan, box, upright, read_independently, tmp_path
):
    """Not even that of a deleted structure whose contours are left."""
    old, new = plan(box, lambda planned: use(planned, number))
    roi, drawn, observation = carries_on(old, new)
    assert roi.ROINumber == drawn.ReferencedROINumber == observation.ReferencedROINumber
    assert roi.ROINumber == (expected or (2 if use is numbered else 3))
    assert len(by_name(new, "IGTV")) == 1
    assert (read_independently(tmp_path / "new.dcm", "IGTV", upright, plan.ct) == box).all()


def test_extended_again_and_again(plan, ring, box, upright, read_independently, tmp_path):
    plan(box, lambda planned: stale(planned, 3))
    file = tmp_path / "new.dcm"
    for number, mask in ((5, ring), (6, box)):
        name = f"IGTV {number}"
        file = write_rtstruct(upright.image(mask), plan.ct, tmp_path / f"{number}.dcm", name, extend=file)
        assert dcmread(file).StructureSetROISequence[-1].ROINumber == number
    for name, mask in (("GTV", ring), ("IGTV", box), ("IGTV 5", ring), ("IGTV 6", box)):
        assert (read_independently(file, name, upright, plan.ct) == mask).all()


@pytest.mark.parametrize(
    ("declared", "theirs", "ours", "written"),
    [
        ("ISO_IR 100", "Lunge größer", "IGTV", "ISO_IR 100"),
        ("ISO_IR 100", "Lunge größer", "肺", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "左肺 L", "IGTV", ["", "ISO 2022 IR 87"]),
        ("ISO_IR 192", "肺", "IGTV µ", "ISO_IR 192"),
        (None, "LUNG", "IGTV µ", "ISO_IR 192"),
    ],
)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_names_in_other_character_sets_stay_as_they_are(declared, theirs, ours, written, syntax, plan, box):
    def change(planned):
        if declared:
            planned.SpecificCharacterSet = declared
        planned.StructureSetROISequence[1].ROIName = theirs
        planned.RTROIObservationsSequence[1].ROIInterpreter = f"{theirs}^x"

    _, new = plan(box, change, syntax, name=ours)
    assert new.get("SpecificCharacterSet") == written
    assert [roi.ROIName for roi in new.StructureSetROISequence] == ["GTV", theirs, ours]
    assert str(new.RTROIObservationsSequence[1].ROIInterpreter) == f"{theirs}^x"


def test_contours_of_more_than_64_kib_stay_decimal_strings(plan, box, tmp_path):
    """Which explicit VR has no room for; planning systems keep outlines with thousands of points."""
    angle = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    points = np.stack([9 * np.cos(angle), 40 + 9 * np.sin(angle), np.full_like(angle, -100)], 1)
    values = [f"{value:.4f}" for value in points.ravel()]

    def outline(planned):
        contour = planned.ROIContourSequence[0].ContourSequence[0]
        contour.ContourData, contour.NumberOfContourPoints = values, len(points)

    _, new = plan(box, outline)
    assert len("\\".join(values)) > 2**16
    assert new.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    data = new.ROIContourSequence[0].ContourSequence[0]["ContourData"]
    assert data.VR == "DS"
    assert [str(value) for value in data.value] == values
    assert not (tmp_path / "new.dcm").read_bytes().count(b"\x06\x30\x50\x00UN")


def test_structure_sets_of_other_images_are_refused(plan, ring, upright, write_ct, tmp_path):
    def refused(match, change):
        with pytest.raises(IGTVError, match=match):
            plan(ring, change)
        assert not (tmp_path / "new.dcm").exists()

    def another_frame(planned):
        planned.FrameOfReferenceUID = "1.2.3"
        planned.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
        for roi in planned.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = "1.2.3"

    refused("another frame of reference", another_frame)

    def another_study(planned):
        planned.StudyInstanceUID = "1.2.3"
        series = planned.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        series.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.4"

    refused("another patient or study", another_study)
    refused("is no RTSTRUCT", lambda planned: setattr(planned, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"))


def test_a_set_that_is_filed_in_another_study_and_names_the_ct_is_extended(plan, box):
    old, new = plan(box, lambda planned: setattr(planned, "StudyInstanceUID", "1.2.3"))
    carries_on(old, new)
    assert new.StudyInstanceUID != "1.2.3"


def test_names_that_are_taken(plan, box):
    for name in ("GTV", " LUNG "):
        with pytest.raises(IGTVError, match="already") as error:
            plan(box, name=name)
        assert error.value.settings == ("name",)


def test_damaged_structure_sets(plan, box, upright, tmp_path):
    plan(box)
    content = (tmp_path / "old.dcm").read_bytes()
    (tmp_path / "new.dcm").unlink()
    for length in (300, len(content) // 3, len(content) // 2, len(content) - 100, len(content) - 4):
        (tmp_path / "cut.dcm").write_bytes(content[:length])
        with pytest.raises(IGTVError, match="unreadable DICOM file"):
            write_rtstruct(upright.image(box), plan.ct, tmp_path / "new.dcm", extend=tmp_path / "cut.dcm")
    assert not (tmp_path / "new.dcm").exists()

    def half_a_double(planned):
        planned.StructureSetROISequence[0].add_new("ExposureTimeInms", "LO", "four")

    with pytest.raises(IGTVError, match="is damaged"):
        plan(box, half_a_double)
    assert not (tmp_path / "new.dcm").exists()
