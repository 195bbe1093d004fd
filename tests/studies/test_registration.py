"""Registration objects: which frames they join and how, what is refused, and what a study takes by them."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid
from registered import DEFORMABLE, moved_examination, registration, rigid

from nnunet_igtv.dicom.series import group_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import structure_set
from nnunet_igtv.studies.case_parts import choose_parts
from nnunet_igtv.studies.choice import choose_images
from nnunet_igtv.studies.grouping import Study, entry_of, group_studies
from nnunet_igtv.studies.known import Known, ReadingOptions
from nnunet_igtv.studies.registration import find_registrations, join

HERE, THERE, THIRD, FAR = (generate_uid(entropy_srcs=[n]) for n in ("here", "there", "third", "far"))
SCALED = np.diag([1.02, 0.98, 1.01, 1.0]) @ np.eye(4)
SHEARED = np.eye(4) + np.diag([0.05, 0, 0], k=1)
MIRRORED = np.diag([-1.0, 1, 1, 1])


@pytest.fixture
def image(patient):
    return patient("a").ct[0]


def objects(*headers):
    return find_registrations([(Path(f"reg{k}.dcm"), header) for k, header in enumerate(headers)])


def joined(image, *made):
    return join(objects(*(registration(image, *parts) for parts in made)), THERE, HERE)


def chain(first, second):
    return [(THIRD, (THERE, "RIGID", first)), (HERE, (THIRD, "RIGID", second))]


@pytest.mark.parametrize(
    "made",
    [
        [(HERE, (THERE, "RIGID", rigid()))],
        [(HERE, (HERE, "RIGID", np.eye(4)), (THERE, "RIGID", rigid()))],
        [(THERE, (HERE, "RIGID", np.linalg.inv(rigid())))],
        [(THIRD, (HERE, "RIGID", rigid(9, 8, 7)), (THERE, "RIGID", rigid(9, 8, 7) @ rigid()))],
        [(HERE, (THERE, "RIGID", rigid(1, 2, 3), rigid() @ np.linalg.inv(rigid(1, 2, 3))))],
        chain(rigid(1, 2, 3), rigid() @ np.linalg.inv(rigid(1, 2, 3))),
        chain(rigid(1, 2, 3), rigid() @ np.linalg.inv(rigid(1, 2, 3)))[::-1],
        # one object is preferred to a chain of two that says something else
        [*chain(rigid(30), rigid(-5)), (HERE, (THERE, "RIGID", rigid()))],
        [(HERE, (THERE, "RIGID", rigid())), (HERE, (THERE, "RIGID", rigid() + 1e-5 * np.eye(4)))],
        # what is wrong with an object that is not needed
        [(HERE, (THERE, "RIGID", rigid())), (FAR, (THIRD, "RIGID", MIRRORED))],
        [(HERE, (FAR, "RIGID", SHEARED), (THERE, "RIGID", rigid()))],
    ],
)
def test_frames_are_joined_in_either_direction_and_by_chains(image, made):
    found = joined(image, *made)
    assert np.abs(found.matrix - rigid()).max() < 1e-4
    assert found.type == "RIGID"


def test_what_joins_other_frames_is_not_used(image):
    assert joined(image, (HERE, (FAR, "RIGID", rigid()))) is None
    three = [(THIRD, (THERE, "RIGID", rigid())), (FAR, (THIRD, "RIGID", rigid()))]
    assert joined(image, *three, (HERE, (FAR, "RIGID", rigid()))) is None  # a chain of three


@pytest.mark.parametrize(
    ("kind", "matrix"), [("RIGID_SCALE", rigid() @ SCALED), ("AFFINE", rigid() @ SHEARED)]
)
def test_scaled_and_affine_matrices_are_taken_by_their_type(image, kind, matrix):
    found = joined(image, (HERE, (THERE, kind, matrix)))
    assert found.type == kind
    assert np.abs(found.matrix - matrix).max() < 1e-4


def test_a_source_given_by_its_images_has_their_frame_of_reference(patient):
    made = patient("a")
    pet = moved_examination(made, rigid()) and made.pet
    header = registration(made.ct[0], made.ct[0].FrameOfReferenceUID, (pet, "RIGID", rigid()))
    everything = [(Path(f"{k}"), h) for k, h in enumerate([*made.ct, *pet, header])]
    found = join(find_registrations(everything), pet[0].FrameOfReferenceUID, made.ct[0].FrameOfReferenceUID)
    assert np.abs(found.matrix - rigid()).max() < 1e-4


def test_the_object_of_another_writer(patient):
    """pydicomrt's, which agrees with VTK's reader: moving to fixed, the first matrix applied first."""
    from pydicomrt.reg.builder import SpatialRegistrationBuilder

    made = patient("a")
    moved_examination(made, rigid())
    for each in [*made.ct, *made.pet]:
        each.StudyDate, each.StudyTime, each.AccessionNumber = "20200101", "100000", ""
        each.PatientBirthDate = each.PatientSex = each.StudyID = each.ReferringPhysicianName = ""
    builder = SpatialRegistrationBuilder(made.ct)
    builder.add_registration(made.pet, rigid().ravel().tolist())
    (found,) = objects(builder.build())
    frames = [images[0].FrameOfReferenceUID for images in (made.pet, made.ct)]
    assert np.abs(join([found], *frames).matrix - rigid()).max() < 1e-4


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([(HERE, (THERE, "RIGID", rigid() @ SCALED))], "called RIGID and scales by 0.980 to 1.020"),
        ([(HERE, (THERE, "RIGID", rigid() @ SHEARED))], "called RIGID and shears"),
        ([(HERE, (THERE, "RIGID_SCALE", rigid() @ SHEARED))], "called RIGID_SCALE and shears"),
        ([(HERE, (THERE, "RIGID", MIRRORED))], "mirrors the patient or is singular"),
        ([(HERE, (THERE, "AFFINE", np.zeros((4, 4)) + np.diag([0, 0, 0, 1.0])))], "singular"),
        ([(HERE, (THERE, "AFFINE", np.diag([3.0, 1, 1, 1])))], "scales by 1.00 to 3.00"),
        ([(HERE, (THERE, "RIGID", rigid().T))], "last row of its matrix is not 0 0 0 1"),
        ([(HERE, (THERE, "PERSPECTIVE", rigid()))], "'PERSPECTIVE' is no type of matrix"),
        ([(HERE, (THERE, "RIGID"))], "holds no matrix"),
        ([(HERE, (THERE, "RIGID", np.eye(3)))], "not 16 finite number"),
        ([("", (THERE, "RIGID", rigid()), (HERE, "RIGID", rigid()))], "has no frame of reference"),
        (
            [(HERE, (HERE, "RIGID", rigid()), (THERE, "RIGID", rigid()))],
            "moves its own frame of reference by",
        ),
        ([(HERE, (THERE, "RIGID", rigid())), (HERE, (THERE, "RIGID", rigid(6)))], "differ, by up to 2.0 mm"),
        ([(HERE, (THERE, "RIGID", rigid()), (THERE, "RIGID", rigid(6)))], "two matrices for one frame"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(image, made, message):
    with pytest.raises(IGTVError, match=message) as raised:
        joined(image, *made)
    assert raised.value.remedy


def test_a_deformable_registration_is_refused_by_name_where_no_other_joins_the_frames(image):
    deformable = registration(image, HERE, (THERE, "RIGID", rigid()), kind=DEFORMABLE)
    with pytest.raises(IGTVError, match="the registration is deformable"):
        join(objects(deformable), THERE, HERE)
    both = objects(deformable, registration(image, HERE, (THERE, "RIGID", rigid())))
    assert "deformable" in join(both, THERE, HERE).notes[0]


def test_two_files_of_one_object_count_once_or_contradict(image):
    """Like a registration that was corrected and kept its UID, and the file before it."""
    first = registration(image, HERE, (THERE, "RIGID", rigid()))
    second = registration(image, HERE, (THERE, "RIGID", rigid(6)))
    second.SOPInstanceUID = first.SOPInstanceUID
    assert len(objects(first, deepcopy(first))) == 1
    with pytest.raises(IGTVError, match=r"has the SOP Instance UID \(0008,0018\)"):
        objects(first, second)


# ------------------------------------------------------------------------------------------------ the choice


def taken(made, *more, structure=True, **options):
    """(day of the CT, of the PET, the PET as chosen) of a study and further headers."""
    headers = [*made.ct, *made.pet, *more]
    listed = [(Path(f"{k:04d}.dcm"), header) for k, header in enumerate(headers)]
    series, found = group_series(listed), find_registrations(listed)
    if structure:
        study = Study(series, [structure_set(Path("rt.dcm"), made.rt[0])], found)
        parts = choose_parts(study, "IGTV", ReadingOptions(**options))
        ct, pet = parts.ct, parts.pet
    else:
        ct, pet = choose_images(series, ReadingOptions(**options), Known(registrations=tuple(found)))
    return ct.series.headers[0].StudyDate, pet.series.headers[0].StudyDate, pet


def examinations(patient, day="20200120"):
    made = patient("a")
    own_ct = moved_examination(made, rigid(), day)
    frames = made.ct[0].FrameOfReferenceUID, made.pet[0].FrameOfReferenceUID
    return made, own_ct, frames


@pytest.mark.parametrize("structure", [True, False])
def test_the_ct_that_the_pet_is_registered_to_is_taken(patient, structure):
    made, own_ct, (here, there) = examinations(patient)
    joins = registration(made.ct[0], here, (there, "RIGID", rigid()))
    ct, pet, chosen = taken(made, *own_ct, joins, structure=structure)
    assert (ct, pet) == ("20200102", "20200120")
    assert np.abs(chosen.joined.matrix - rigid()).max() < 1e-4
    assert "18 days apart), and registered to it" in chosen.warnings[0]
    assert "joined to the CT: RIGID by a registration object" in chosen.why


def test_without_a_registration_of_these_frames_nothing_changes(patient):
    made, own_ct, (here, there) = examinations(patient)
    elsewhere = registration(made.ct[0], here, (FAR, "RIGID", rigid()))
    assert taken(made, *own_ct, structure=False)[0] == "20200120"  # the PET/CT's own, as ever
    assert taken(made, *own_ct, elsewhere, structure=False)[0] == "20200120"
    with pytest.raises(IGTVError, match="join other frames"):
        taken(made, *own_ct, elsewhere)
    joins = registration(made.ct[0], here, (there, "RIGID", rigid()))
    ct, _, chosen = taken(made, *own_ct, joins, structure=False, ct="number:3")
    assert (ct, chosen.joined) == ("20200120", None)
    _, _, chosen = taken(made, *own_ct, joins, trust_frames=True, pet="number:2")
    assert chosen.joined is None
    assert "the registration of them is not applied" in chosen.warnings[-1]


def test_a_pet_of_long_before_is_named_by_a_person(patient):
    made, own_ct, (here, there) = examinations(patient, "20200801")
    joins = registration(made.ct[0], here, (there, "RIGID", rigid()))
    with pytest.raises(IGTVError, match="212 days apart"):
        taken(made, *own_ct, joins)
    assert taken(made, *own_ct, joins, pet="number:2")[1] == "20200801"


def test_images_that_are_moved_within_their_frame_of_reference_are_mentioned(patient):
    made = patient("a")
    frame = made.ct[0].FrameOfReferenceUID
    *_, chosen = taken(made, registration(made.ct[0], frame, (frame, "RIGID", rigid())))
    assert "moves its own frame of reference" in chosen.warnings[0]


# ---------------------------------------------------------------------------------------------- the grouping


def grouped(*headers):
    """Studies by the modalities that they hold, and how many objects of each."""
    found, _ = group_studies([entry_of(Path(f"{k:04d}.dcm"), h) for k, h in enumerate(headers)])
    return sorted(
        [f"{kind} {count}" for kind, count in sorted(_counts(headers, study).items())] for study in found
    )


def _counts(headers, study):
    kinds = [headers[int(path.stem)].Modality for path in study.files]
    return {kind: kinds.count(kind) for kind in kinds}


@pytest.mark.parametrize("by", ["frame", "images", "chain", "deformable"])
def test_a_study_without_a_pet_takes_that_of_the_pet_ct_it_is_registered_to(patient, by):
    made, own_ct, (here, there) = examinations(patient)
    first = made.ct[0]
    joins = {
        "frame": [registration(first, there, (here, "RIGID", rigid()))],
        "images": [registration(first, here, (made.pet, "RIGID", rigid()))],
        "chain": [registration(first, FAR, (f, "RIGID", rigid())) for f in (here, there)],
        "deformable": [registration(first, here, (there, "RIGID", rigid()), kind=DEFORMABLE)],
    }[by]
    # nothing joins them: together all the same, so that the choice of series says what can be done
    unjoined = [["CT 20", "PT 9", "RTSTRUCT 1"]]
    assert grouped(*made.all, *own_ct) == unjoined
    assert grouped(*made.all, *own_ct, *joins) == [["CT 20", "PT 9", f"REG {len(joins)}", "RTSTRUCT 1"]]
    other = patient("bb").ct[0]  # of another patient
    stranger = registration(other, there, (here, "RIGID", rigid()))
    assert [g for g in grouped(*made.all, *own_ct, stranger) if g != ["REG 1"]] == unjoined


def test_studies_that_are_complete_stay_apart(patient):
    """Two visits that were registered to each other, and a planning CT that uses a PET/CT with contours."""
    one, two = patient("a"), patient("bb")
    for image in two.all:
        image.PatientID = one.ct[0].PatientID
    frames = [made.ct[0].FrameOfReferenceUID for made in (one, two)]
    joins = registration(one.ct[0], frames[0], (frames[1], "RIGID", rigid()))
    whole = ["CT 10", "PT 9", "REG 1", "RTSTRUCT 1"]
    assert grouped(*one.all, *two.all, joins) == [whole, whole]
    one.pet = []
    apart = [["CT 10", "PT 9", "RTSTRUCT 1"], ["CT 10", "RTSTRUCT 1"]]
    assert grouped(*one.all, *two.all) == apart
    assert grouped(*one.all, *two.all, joins) == [whole, ["CT 20", "PT 9", "REG 1", "RTSTRUCT 1"]]
