"""Who DICOM studies are about: ids that may be of one patient, and a weight that is given for several."""

import pytest

from nnunet_igtv import IGTVError, convert


@pytest.fixture
def cohort(tmp_path, patient):
    """cohort((id, name, birth), …): a study of each."""

    def write(*people):
        for number, (own, name, birth) in enumerate(people):
            study = patient("x" * (number + 1))
            for dataset in study.all:
                dataset.PatientID, dataset.PatientName = own, name
                dataset.PatientBirthDate = birth
            study.write(tmp_path / "in" / str(number))
        return tmp_path / "in"

    return write


ERIKA = ("Muster^Erika", "19500101")


@pytest.mark.parametrize(
    ("people", "why"),
    [
        ([("P-01", *ERIKA), ("p-01", *ERIKA), ("P01", *ERIKA)], "spelling"),
        ([("4711", *ERIKA), ("0815", "muster^erika", "19500101")], "date of birth"),
        ([("Q-01", "", ""), ("q1", "", "")], "spelling"),
    ],
)
def test_ids_that_may_be_of_one_patient_are_pointed_out_by_case(people, why, cohort, raw):
    (warning,) = convert("lucid", cohort(*people), 5, jobs=1).warnings
    assert "may be of one patient" in warning
    assert why in warning
    cases = {f"LUCID_000{number + 1}" for number in range(len(people))}
    assert {word.strip(":,") for word in warning.split()} >= cases
    for secret in ("Muster", "Erika", "1950", "4711", "0815", "P-01", "p-01", "P01", "Q-01"):
        assert secret not in warning


@pytest.mark.parametrize(
    "people",
    [
        [("P1", *ERIKA), ("P2", "Muster^Max", "19500101")],
        [("P1", *ERIKA), ("P2", "Muster^Erika", "19600202")],  # of one name
        [("P01", *ERIKA), ("P-1", "Muster^Max", "19600202")],  # of two people
        [("1-11", "", ""), ("11-1", "", "")],
        [(f"K{k}", "ANON", "19000101") for k in range(7)],  # an anonymiser's name and day
        [("P1", "ANON", ""), ("P2", "ANON", "")],
    ],
)
def test_people_who_are_told_apart_are_no_matter_of_warnings(people, cohort, raw):
    assert convert("lucid", cohort(*people), 5, jobs=1).warnings == ()


# ------------------------------------------------------------------------------------------- a given weight


def without_weight(tmp_path, patient, *people):
    for number, (own, name, birth) in enumerate(people):
        study = patient("x" * (number + 1))
        for dataset in study.all:
            dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = own, name, birth
        for dataset in study.pet:
            del dataset.PatientWeight
        study.write(tmp_path / "in" / str(number))
    return tmp_path / "in"


def test_a_weight_for_several_studies_of_one_id_is_warned_of(tmp_path, raw, patient):
    folder = without_weight(tmp_path, patient, ("ANON", "ANON", ""), ("ANON", "ANON", ""))
    done = convert("lucid", folder, 5, jobs=1, weight_kg=80)
    assert len(done.converted) == 2
    for case in done.converted:
        (warning,) = [w for w in done.warnings if w.startswith(f"{case}: ") and "weight" in w]
        assert "80 kg" in warning
        assert "2 studies" in warning
        assert "ANON" not in warning


@pytest.mark.parametrize("other", [("ANON", "Muster^Max", "19500101"), ("ANON", "Muster^Erika", "19600202")])
def test_a_weight_for_people_of_one_id_is_refused(other, tmp_path, raw, patient):
    folder = without_weight(tmp_path, patient, ("ANON", *ERIKA), other)
    with pytest.raises(IGTVError, match="one body weight was given for 2 patients"):
        convert("lucid", folder, 5, jobs=1, weight_kg=80)


def test_a_weight_for_one_study_is_no_matter_of_warnings(tmp_path, raw, patient):
    folder = without_weight(tmp_path, patient, ("ANON", *ERIKA))
    assert convert("lucid", folder, 5, jobs=1, weight_kg=80).warnings == ()
