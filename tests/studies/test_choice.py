"""Which CT and PET are taken: each rule, what stays ambiguous, and what a person can say."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from nnunet_igtv import read_ct, read_pet
from nnunet_igtv.dicom.phases import PERCENT
from nnunet_igtv.dicom.series import group_series
from nnunet_igtv.dicom.traits import moment
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import structure_set
from nnunet_igtv.studies.case_parts import choose_parts
from nnunet_igtv.studies.choice import CT_BELONGS, CT_KIND, PET_BELONGS, PET_KIND, choose_images
from nnunet_igtv.studies.grouping import Study, group_studies, index_file
from nnunet_igtv.studies.known import ReadingOptions

DERIVED = ["DERIVED", "SECONDARY", "AXIAL"]


@pytest.fixture
def study(patient):
    made = patient("a")
    for images, name, number in ((made.ct, "CT plain", 2), (made.pet, "PET plain", 3)):
        for image in images:
            image.SeriesDescription, image.SeriesNumber = name, number
    return made


def twin(images, name, **changes):
    """A copy of a series under another UID and description, with some attributes changed."""
    copies = deepcopy(images)
    uid = generate_uid(entropy_srcs=[name])
    for k, image in enumerate(copies):
        image.SeriesInstanceUID, image.SeriesDescription = uid, name
        image.SOPInstanceUID = generate_uid(entropy_srcs=[name, str(k)])
        for attribute, value in changes.items():
            setattr(image, attribute, value)
    return copies


def unnamed(study, series=()):
    """Let the structure set name some series (UIDs), or none, and no images."""
    for frame in study.rt[0].ReferencedFrameOfReferenceSequence:
        (reference,) = frame.RTReferencedStudySequence
        items = [deepcopy(reference.RTReferencedSeriesSequence[0]) for _ in series]
        for item, uid in zip(items, series, strict=True):
            item.SeriesInstanceUID = uid
        reference.RTReferencedSeriesSequence = items
    for contour in study.contours:
        del contour.ContourImageSequence


def choose(made, /, *others, structure=True, **options):
    """(description of the CT, of the PET, what is said about them)."""
    headers = [*made.ct, *made.pet, *(image for images in others for image in images)]
    series = group_series((Path(f"{k:04d}.dcm"), header) for k, header in enumerate(headers))
    if structure:
        sets = [structure_set(Path("rt.dcm"), header) for header in made.rt]
        parts = choose_parts(Study(series, sets), "IGTV", ReadingOptions(**options))
        ct, pet = parts.ct, parts.pet
    else:
        ct, pet = choose_images(series, ReadingOptions(**options))
    return ct.series.description, pet.series.description, (*ct.warnings, *pet.warnings)


def refused(*arguments, **options):
    with pytest.raises(IGTVError) as raised:
        choose(*arguments, **options)
    return raised.value


def both_ways(study, *others, **options):
    """The choice with a structure that names no series, which is the one without a structure."""
    unnamed(study)
    found = choose(study, *others, **options)
    assert choose(study, *others, structure=False, **options) == found
    return found


def coronal(images, **changes):
    """The stack cut along its rows, as scanners reformat it: more images than the original."""
    made = []
    for row in range(images[0].Rows):
        image = deepcopy(images[0])
        image.SeriesInstanceUID = generate_uid(entropy_srcs=["coronal"])
        image.SOPInstanceUID = generate_uid(entropy_srcs=["coronal", str(row)])
        image.SeriesDescription = "coronal"
        image.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        image.ImagePositionPatient = [0, 2 * row, 27]
        image.PixelSpacing, image.SliceThickness, image.Rows = [3, 2], 2, len(images)
        for attribute, value in changes.items():
            setattr(image, attribute, value)
        made.append(image)
    return made


# ------------------------------------------------------------------------------------------------- the rules


def test_one_of_each_needs_no_rule(study):
    assert choose(study) == choose(study, structure=False) == ("CT plain", "PET plain", ())


@pytest.mark.parametrize("kind", [["DERIVED", "SECONDARY", "REFORMATTED"], ["ORIGINAL", "PRIMARY", "AXIAL"]])
def test_axial_images_come_before_a_reformat(study, kind):
    assert both_ways(study, coronal(study.ct, ImageType=kind))[0] == "CT plain"


@pytest.mark.parametrize(
    "kind",
    [
        DERIVED,
        ["DERIVED", "PRIMARY", "AXIAL"],
        ["ORIGINAL", "SECONDARY", "AXIAL"],
        ["ORIGINAL", "PRIMARY", "MPR"],
    ],
)
def test_original_primary_images_come_first(study, kind):
    many = twin(study.ct, "many") + twin(study.ct, "many")
    for k, image in enumerate(many):  # with more slices
        image.ImagePositionPatient, image.ImageType = [0, 0, 1.5 * k], kind
    assert both_ways(study, many)[0] == "CT plain"


def test_what_is_there_alone_is_taken_whatever_it_is(study):
    """Reformatted by the scanner, sagittal, gated: no rule refuses."""
    study.ct = coronal(study.ct, ImageType=["DERIVED", "SECONDARY", "REFORMATTED"])
    for image in study.pet:
        image.ImageType, image.SeriesType = ["DERIVED", "SECONDARY"], ["GATED", "IMAGE"]
    assert choose(study, structure=False)[:2] == ("coronal", "PET plain")


def scout(study):
    made = twin(study.ct[:2], "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    made[1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return made


def unlabelled_scout(study):
    made = twin(study.ct[:2], "scout", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    made[1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    return made


def screenshots(study):
    return twin(study.ct[:3], "screenshot", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")


def bolus_tracking(study):
    return twin(study.ct[:1], "monitoring")


def projections(study):
    """A rotating maximum intensity projection of the PET."""
    made = twin(study.pet, "MIP")
    for k, image in enumerate(made):
        angle = np.radians(20 * k)
        image.ImageOrientationPatient = [np.cos(angle), np.sin(angle), 0, 0, 0, -1]
    return made


def overview(study):
    """One image of the PET under a UID of its own."""
    return twin(study.pet[4:5], "overview")


@pytest.mark.parametrize(
    "extra", [scout, unlabelled_scout, screenshots, bolus_tracking, projections, overview]
)
def test_what_is_no_volume_makes_nothing_ambiguous(study, extra):
    assert both_ways(study, extra(study)) == ("CT plain", "PET plain", ())


def test_the_series_drawn_on_comes_before_every_other_rule(study):
    phases = [twin(study.ct, f"Gated, {p}.0%A", ImageType=DERIVED) for p in (0, 30, 60)]
    unnamed(study, [phases[1][0].SeriesInstanceUID])
    assert choose(study, *phases) == ("Gated, 30.0%A", "PET plain", ())


def test_images_that_contours_refer_to_tell_the_series_where_it_is_not_named(study):
    other = twin(study.ct, "CT contrast")
    references = [contour.ContourImageSequence for contour in study.contours]
    unnamed(study)
    assert "2 CT series could serve" in refused(study, other).what
    for contour, images, k in zip(study.contours, references, range(3, 7), strict=True):
        images[0].ReferencedSOPInstanceUID = other[k].SOPInstanceUID
        contour.ContourImageSequence = images
    assert choose(study, other)[0] == "CT contrast"


def test_images_tell_the_series_where_its_uid_was_changed(study):
    """De-identified series under new UIDs: the structure set names the old one, and the images."""
    other = twin(study.ct, "CT contrast")
    for image in study.ct:
        image.SeriesInstanceUID = generate_uid(entropy_srcs=["new"])
    assert choose(study, other) == ("CT plain", "PET plain", ())


def test_a_structure_that_another_set_repeats_is_one(study):
    """Exported again under a new UID, or extended; a version that was edited is another structure."""
    again = deepcopy(study.rt[0])
    again.SOPInstanceUID = generate_uid()
    study.rt.append(again)
    assert choose(study) == ("CT plain", "PET plain", ())
    edited = again.ROIContourSequence[0].ContourSequence[1]
    edited.ContourData = [f"{float(v) + 0.1:.4f}" for v in edited.ContourData]
    assert "2 structures in 2 structure set(s) match" in refused(study).what


def test_the_ct_of_the_structure_set_s_study_comes_first(study):
    later = follow_up(study.ct, "CT later")
    unnamed(study)
    assert choose(study, later)[0] == "CT plain"
    study.rt[0].StudyInstanceUID = later[0].StudyInstanceUID
    with pytest.raises(IGTVError, match="another study"):  # the PET is of the first
        choose(study, later)
    assert choose(study, later, pet="plain")[0] == "CT later"


def test_a_ct_of_the_head_does_not_serve_for_a_tumour_of_the_lung(study):
    head = twin(study.ct, "CT head")
    for k, image in enumerate(head):
        image.ImagePositionPatient = [0, 0, 400 + 3 * k]
    unnamed(study)
    assert choose(study, head)[0] == "CT plain"


def test_a_pet_that_the_structure_was_drawn_on(study):
    late = twin(study.pet, "PET late")
    unnamed(study, [late[0].SeriesInstanceUID])
    assert choose(study, late)[:2] == ("CT plain", "PET late")


def test_attenuation_corrected_comes_first(study):
    for images in (study.pet, twin(study.pet, "PET NAC")):
        for image in images:
            image.CorrectedImage = ["DECY", "SCAT"] + ["ATTN"] * (images is study.pet)
        if images is not study.pet:
            assert both_ways(study, images)[1] == "PET plain"


def test_a_static_pet_comes_before_gates(study):
    for image in study.pet:
        image.SeriesType, image.ImageType = ["WHOLE BODY", "IMAGE"], ["DERIVED", "SECONDARY"]
    gates = [twin(study.pet, f"gate {k}", SeriesType=["GATED", "IMAGE"]) for k in range(3)]
    assert both_ways(study, *gates)[1] == "PET plain"


@pytest.mark.parametrize("kind", ["GATED", "DYNAMIC"])
def test_a_gate_that_is_there_alone_is_taken_with_a_word(study, kind):
    for image in study.pet:
        image.SeriesType = [kind, "IMAGE"]
    assert "the PET is gated or dynamic: its SUV is that of a part of the scan" in choose(study)[2]


def test_a_pet_of_the_head_does_not_serve_for_a_tumour_of_the_lung(study):
    head = twin(study.pet, "PET head")
    for k, image in enumerate(head):
        image.ImagePositionPatient = [-2, -2, 400 + 4 * k]
    unnamed(study)
    assert choose(study, head)[1] == "PET plain"
    assert refused(study, head, structure=False).settings == ("pet",)


# ------------------------------------------------------------------------------------------------ ambiguous


@pytest.mark.parametrize("name", ["CT contrast", "Gated, 50%", "CT lung kernel"])
def test_two_ct_series_that_no_rule_separates(study, name):
    other = twin(study.ct, name, SeriesNumber=7)[:-1]  # fewer slices: no rule
    unnamed(study)
    for error in (refused(study, other), refused(study, other, structure=False)):
        assert error.what == "2 CT series could serve"
        assert error.settings == ("ct",)
        header, *rows = error.table.splitlines()
        assert header.split() == ["no.", "description", "taken", "phase", "slices", "spacing", "mm", "uid"]
        assert [name in row for row in rows].count(True) == 1
        assert all("2020-01-02 11:00" in row and "2 x 2 x 3" in row for row in rows)
        phases = [row.split("11:00")[1].split()[0] for row in rows]  # the column after the time
        assert ("50" in phases) == ("50%" in name)


def test_early_and_delayed_pet(study):
    late = twin(study.pet, "PET delayed", AcquisitionTime="140000", SeriesTime="140000")
    error = refused(study, late)
    assert error.what == "2 PET series could serve"
    assert "2020-01-02 14:00" in error.table


def test_the_phase_drawn_on_is_absent(study):
    """No rule about kinds of images stands in for it, but a reformat is still none."""
    absent = generate_uid()
    unnamed(study, [absent])
    assert choose(study, coronal(study.ct)) == (
        "CT plain",
        "PET plain",
        ("the CT series that the structure was drawn on is absent: another is used",),
    )
    average = twin(study.ct, "average", ImageType=DERIVED)
    assert "drawn on is absent" in refused(study, average).what
    assert choose(study, average, ct="plain")[0] == "CT plain"


def test_descriptions_are_shown_without_the_patient(study):
    other = twin(study.ct, "CT of Mustera, MRNa77")
    unnamed(study)
    table = refused(study, other).table
    assert "CT of <patient>, <patient>" in table
    assert "Muster" not in table


# ------------------------------------------------------------------------------------------ several visits


def follow_up(images, name, frame=None, **changes):
    dates = dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate"), "20200402")
    made = twin(images, name, **dates, StudyInstanceUID=generate_uid(entropy_srcs=["later"]), **changes)
    for image in made if frame else ():
        image.FrameOfReferenceUID = frame
    return made


def test_the_pet_of_the_ct_s_study_comes_first(study):
    later = follow_up(study.pet, "PET later")
    later += deepcopy(later)
    for k, image in enumerate(later):  # more slices, lower number
        image.ImagePositionPatient, image.SeriesNumber = [-2, -2, 2 * k - 2], 1
    assert choose(study, later) == ("CT plain", "PET plain", ())


def test_the_pet_of_the_ct_s_study_comes_first_without_dates(study):
    later = follow_up(study.pet, "PET later")
    for image in [*study.ct, *study.pet, *later]:
        for name in ("StudyDate", "SeriesDate", "AcquisitionDate"):
            delattr(image, name)
    assert choose(study, later) == ("CT plain", "PET plain", ())


def test_the_pet_of_the_ct_s_day_comes_first(study):
    late = twin(study.pet, "PET next day", AcquisitionDate="20200103", SeriesNumber=1)
    assert both_ways(study, late) == ("CT plain", "PET plain", ())


def test_two_visits_of_pet_are_never_told_apart_by_the_kind_of_their_images(study):
    """A planning CT, and two PET studies that were registered to it."""
    for image in [*study.ct, *study.rt]:
        image.StudyInstanceUID = generate_uid(entropy_srcs=["planning"])
    later = follow_up(study.pet, "PET later")
    for image in [*study.pet, *later]:
        image.AcquisitionDate = image.SeriesDate = {True: "20200601", False: "20200801"}[image in study.pet]
        image.ImageType = ["ORIGINAL", "PRIMARY"] if image in study.pet else ["DERIVED", "SECONDARY"]
    assert refused(study, later).what == "2 PET series could serve, in 2 studies"
    assert choose(study, later, pet="later")[1] == "PET later"


def test_a_pet_of_another_visit_is_refused_unless_it_is_named(study):
    study.pet = follow_up(study.pet, "PET later")
    error = refused(study)
    assert "another study than the CT and not known to be of its day (91 days apart)" in error.what
    assert error.settings == ("pet",)
    assert "2020-04-02" in error.table
    assert choose(study, pet="later")[1:] == (
        "PET later",
        ("the PET is of another study than the CT (91 days apart), as asked for",),
    )


def test_a_pet_of_another_study_of_the_same_day_is_taken_with_a_word(study):
    for image in study.pet:
        image.StudyInstanceUID = generate_uid(entropy_srcs=["pacs"])
    assert choose(study)[2] == ("the PET is of another study than the CT, of the same day",)


def test_a_pet_of_the_same_study_on_another_day_is_refused_unless_it_is_named(study):
    for image in study.pet:
        image.AcquisitionDate = "20200106"
    error = refused(study)
    assert error.what == "the PET that fits the CT is of another day than the CT (4 days apart)"
    assert error.settings == ("pet",)
    assert choose(study, pet="plain")[2] == (
        "the PET is of another day than the CT (4 days apart), as asked for",
    )


@pytest.mark.parametrize(
    ("ct", "pet", "said"),
    [
        (("20200102", "235500"), ("20200103", "001500"), ()),  # across midnight
        (("20200102", "070000"), ("20200102", "210000"), ()),
        (("20200102", "000000"), ("20200102", "140000"), ()),  # a removed time
        (("20200102", None), ("20200103", None), ("the PET is of another day than the CT (1 days apart)",)),
        ((None, None), ("20200103", "001500"), ()),  # by the series dates, which are the same
    ],
)
def test_a_night_is_no_other_day(study, ct, pet, said):
    for images, (day, time) in ((study.ct, ct), (study.pet, pet)):
        for image in images:
            image.AcquisitionDate, image.AcquisitionTime = day, time
    assert choose(study)[2] == said


def test_two_visits_under_one_study_uid(study):
    """As some pseudonymisers write them: the acquisition dates tell them apart."""
    other = twin(study.ct, "CT later", AcquisitionDate="20200402", ImageType=DERIVED)
    unnamed(study)
    assert "2 CT series could serve" in refused(study, other).what
    stored_again = twin(study.ct, "CT reformat", SeriesDate="20200402", ImageType=DERIVED)
    assert choose(study, stored_again)[0] == "CT plain"


@pytest.mark.parametrize("frame", [None, "1.2.3.4"])
def test_two_visits_are_never_told_apart_by_the_kind_of_their_images(study, frame):
    later = [
        follow_up(study.ct, "CT later", frame, ImageType=DERIVED),
        follow_up(study.pet, "PET later", frame),
    ]
    error = refused(study, *later, structure=False)
    assert "2 CT series could serve, in 2 studies" in error.what
    assert error.settings == ("study", "ct")
    for selector in ("2020-04-02", "date:last", f"uid:{later[0][0].StudyInstanceUID[-9:]}"):
        assert choose(study, *later, structure=False, study=selector)[:2] == ("CT later", "PET later")
    assert choose(study, *later, structure=False, study="date:first")[:2] == ("CT plain", "PET plain")


def test_two_places_of_one_study(study):
    frame = generate_uid()
    brain = [twin(s, f"{s[0].Modality} brain", FrameOfReferenceUID=frame) for s in (study.ct, study.pet)]
    assert "2 frames of reference" in refused(study, *brain, structure=False).what
    assert choose(study, *brain, structure=False, ct="brain")[:2] == ("CT brain", "PT brain")


def test_complete_studies_in_one_frame_of_reference_are_cases_of_their_own(tmp_path, patient):
    """Two visits whose table was at the same place; an incomplete third study makes them one again."""
    first, second = patient("a"), patient("bb")
    for image in second.all:
        image.PatientID, image.FrameOfReferenceUID = first.ct[0].PatientID, first.ct[0].FrameOfReferenceUID
    second.rt[0].ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = first.ct[0].FrameOfReferenceUID
    first.write(tmp_path / "1")
    second.write(tmp_path / "2")
    studies, _ = group_studies([index_file(path) for path in sorted(tmp_path.rglob("*.dcm"))])
    assert sorted(len(s.files) for s in studies) == [20, 20]
    structures = second.rt[0]  # drawn on the first visit's CT: no study is a case by itself
    reference = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    reference.RTReferencedSeriesSequence[0].SeriesInstanceUID = first.ct[0].SeriesInstanceUID
    second.write(tmp_path / "2")
    studies, _ = group_studies([index_file(path) for path in sorted(tmp_path.rglob("*.dcm"))])
    assert [len(s.files) for s in studies] == [40]
    for path in (tmp_path / "2" / "PET").iterdir():
        path.unlink()
    studies, _ = group_studies([index_file(path) for path in sorted(tmp_path.rglob("*.dcm"))])
    assert [len(s.files) for s in studies] == [31]


# ------------------------------------------------------------------------------------------------ selectors


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        ("7", "Gated, 0%"),
        ("number: 8", "Gated, 50%"),
        ("gated, 0%", "Gated, 0%"),  # whole, before "Gated, 0% and more"
        ("description:plain", "CT plain"),
        ("gated.*50%", "Gated, 50%"),
        ("phase:50", "Gated, 50%"),
        ("phase:0 %", "Gated, 0%"),
        ("2020-01-02 11:10", "Gated, 50%"),
        ("date:20200102 1105", "Gated, 0%"),
        ("date:first", "CT plain"),
        ("date:last", "Gated, 0% and more"),
    ],
)
def test_selectors(study, selector, taken):
    others = [
        twin(study.ct, "Gated, 0%", SeriesNumber=7, AcquisitionTime="110500"),
        twin(study.ct, "Gated, 50%", SeriesNumber=8, AcquisitionTime="111000"),
        twin(study.ct, "Gated, 0% and more", SeriesNumber=9, AcquisitionTime="111500", ImageType=DERIVED),
    ]
    assert choose(study, *others, structure=False, ct=selector)[0] == taken
    whole, end = others[1][0].SeriesInstanceUID, others[1][0].SeriesInstanceUID[-8:]
    for uid in (whole, f"uid:…{end}"):
        assert choose(study, *others, structure=False, ct=uid)[0] == "Gated, 50%"


def phase(series):
    """In per cent; None where it is not told in per cent."""
    found = moment(series)
    return found.value if found is not None and found.unit == PERCENT else None


@pytest.mark.parametrize(
    ("description", "percent"),
    [
        ("Gated, 40.0%A", 40),
        ("CT 0 % exhale", 0),
        ("4D_Phase_30", 30),
        ("T90", 90),
        ("thorax T12", None),
        ("CT", None),
    ],
)
def test_phases_in_descriptions(study, description, percent):
    (series,) = group_series([(Path("0.dcm"), image) for image in twin(study.ct[:1], description)])
    assert phase(series) == percent
    series.headers[0].NominalPercentageOfRespiratoryPhase = 75
    assert phase(series) == 75


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ct": "number:two"}, "a series number is a whole number"),
        ({"ct": "phase:inhale"}, "a phase is a number"),
        ({"pet": "date:March"}, "a date is written 2024-03-05"),
        ({"pet": "uid:abc"}, "a UID holds digits and dots"),
        ({"study": "number:1"}, "a study has no number"),
        ({"study": " "}, "it says nothing"),
    ],
)
def test_selectors_that_cannot_mean_anything(study, options, why):
    error = refused(study, **options)
    assert why in error.what
    assert error.settings == tuple(options)


def test_what_is_meant_by_no_series_is_refused_with_those_that_there_are(study):
    error = refused(study, ct="contrast")
    assert error.what == "no CT series is meant by 'contrast'"
    assert "CT plain" in error.table


def test_the_structure_set_drawn_on_the_ct_that_was_asked_for(study):
    """Two phases with a structure set each: the CT tells which."""
    phase = twin(study.ct, "Gated, 50%")
    second = deepcopy(study.rt[0])
    second.SOPInstanceUID = generate_uid()
    reference = second.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    reference.RTReferencedSeriesSequence[0].SeriesInstanceUID = phase[0].SeriesInstanceUID
    study.rt.append(second)
    assert "2 structures in 2 structure set(s)" in refused(study, phase).what
    assert choose(study, phase, ct="phase:50") == ("Gated, 50%", "PET plain", ())
    assert choose(study, phase, ct="plain") == ("CT plain", "PET plain", ())


def test_a_structure_set_drawn_on_a_ct_that_is_there_comes_first(study):
    old = deepcopy(study.rt[0])
    old.SOPInstanceUID = generate_uid()
    reference = old.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    reference.RTReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()
    study.rt.insert(0, old)
    assert choose(study) == ("CT plain", "PET plain", ())


def test_another_ct_than_the_one_drawn_on_is_taken_with_a_word(study):
    warnings = choose(study, twin(study.ct, "CT contrast"), ct="contrast")[2]
    assert warnings == ("the structure was drawn on another CT series than the one asked for",)


# ------------------------------------------------------------------------------------- reading from a folder


def test_a_folder_of_two_patients_is_refused(tmp_path, patient):
    patient("a").write(tmp_path / "1")
    patient("bb").write(tmp_path / "2")
    for read in (read_ct, read_pet):
        with pytest.raises(IGTVError, match=r"several patients \(2\)"):
            read(tmp_path)


@pytest.mark.parametrize("kind", ["ct", "pet"])
def test_a_series_whose_images_name_two_patients_is_refused(tmp_path, patient, kind):
    study = patient("a")
    getattr(study, kind)[-1].PatientID = "QP774411"
    study.write(tmp_path)
    with pytest.raises(IGTVError, match="do not have one patient's ID") as raised:
        (read_ct if kind == "ct" else read_pet)(tmp_path)
    assert "QP774411" not in str(raised.value)


def test_a_folder_of_two_frames_of_reference_is_refused_unless_one_is_named(tmp_path, study):
    study.write(tmp_path / "1")
    frame = generate_uid()
    study.ct = follow_up(study.ct, "CT later", frame)
    study.pet = follow_up(study.pet, "PET later", frame)
    study.write(tmp_path / "2")
    for read in (read_ct, read_pet):
        with pytest.raises(IGTVError, match="2 frames of reference") as raised:
            read(tmp_path)
        assert "\n" not in str(raised.value)
        assert "2020-04-02" in str(raised.value)
        assert read(tmp_path, study="date:last").GetSize() == read(tmp_path / "2").GetSize()
    assert read_ct(tmp_path, ct="later").GetSize() == (24, 20, 10)


def test_a_ct_and_a_pet_that_are_not_registered_are_no_one_folder(tmp_path, study):
    for image in study.pet:
        image.FrameOfReferenceUID = "1.2.3"
    study.write(tmp_path)
    for read, folder in ((read_ct, "CT"), (read_pet, "PET")):
        with pytest.raises(IGTVError, match="2 frames of reference"):
            read(tmp_path)
        assert read(tmp_path / folder).GetSize()


def test_a_folder_of_two_ct_series_is_refused_unless_one_is_named(tmp_path, study):
    study.ct += twin(study.ct, "CT contrast")
    study.write(tmp_path)
    with pytest.raises(IGTVError, match="2 CT series could serve"):
        read_ct(tmp_path)
    assert read_ct(tmp_path, ct="contrast").GetSize() == (24, 20, 10)
    assert read_pet(tmp_path).GetSize() == (14, 12, 9)


# ----------------------------------------------------------------------------------------- the documentation


@pytest.mark.parametrize(
    ("letter", "belongs", "kind"), [("C", CT_BELONGS, CT_KIND), ("P", PET_BELONGS, PET_KIND)]
)
def test_the_documented_table_is_the_table_of_rules(letter, belongs, kind):
    """In the same words and order, with the check of visits between the two parts."""
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if line.startswith("| ")
    ]
    first = rows.index([f"{letter}1", belongs[0].why])
    documented = rows[first : first + len(belongs) + 1 + len(kind)]
    visits = documented.pop(len(belongs))
    numbers = range(1, len(belongs) + len(kind) + 1)
    expected = zip(numbers, [*belongs, *kind], strict=True)
    assert documented == [[f"{letter}{k}", rule.why] for k, rule in expected]
    assert visits[0] == "check"
    assert "one visit" in visits[1]
    assert f"{letter}{len(numbers) + 1}" not in {row[0] for row in rows}
