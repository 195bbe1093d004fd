"""Studies without a PET: taken where the user says so, and said in dataset.json."""

import json

import pytest

from nnunet_igtv.channels import cases_without_pet, channels_of
from nnunet_igtv.commands.main import main
from nnunet_igtv.phantom.cohort import write_cohort


def convert(*arguments):
    return main(["convert", *map(str, arguments), "-j", "1"])


@pytest.fixture
def cohort(patient, tmp_path):
    """Two studies, of which the second has no PET."""
    for key in ("a", "bb"):
        made = patient(key)
        made.pet = made.pet if key == "a" else []
        made.write(tmp_path / "in" / key)
    return tmp_path / "in"


def described(raw, number=1):
    folder = raw / f"Dataset00{number}_LUCID"
    dataset = json.loads((folder / "dataset.json").read_text())
    record = json.loads((folder / "conversion.json").read_text())["cases"]
    channels_of(dataset)  # understood
    return cases_without_pet(dataset), sorted(str(case.get("pet")) for case in record.values())


@pytest.mark.parametrize(("said", "absent"), [("missing", ["None", "absent"]), ("all", ["absent", "absent"])])
def test_a_pet_may_be_absent_where_the_user_says_so(cohort, raw, read, said, absent):
    assert convert("lucid", cohort, "-d", 1, "--no-pet", said) == 0
    assert described(raw) == (absent.count("absent"), absent)
    images = sorted((raw / "Dataset001_LUCID/imagesTr").glob("*_0001.nii.gz"))
    assert sorted(bool(read(image).any()) for image in images) == [what == "None" for what in absent[::-1]]
    assert all(read(label).any() for label in (raw / "Dataset001_LUCID/labelsTr").iterdir())


def test_otherwise_it_is_refused_and_the_grid_of_none_too(cohort, raw, capsys):
    assert convert("lucid", cohort, "-d", 1) == 1
    said = capsys.readouterr()
    assert "no PET series in the study" in said.err
    assert "accept studies without a PET (--no-pet)" in said.err
    assert described(raw) == (0, ["None"])
    assert convert("lucid", cohort, "-d", 2, "--no-pet", "missing", "--grid", "pet") == 1
    assert "the grid of the PET was asked for, and there is no PET" in capsys.readouterr().err


def test_a_4d_ct_beside_a_pet_ct_that_nothing_joins_to_it(raw, read, tmp_path, capsys):
    """One case, whose error says what can be done; where the PET may be absent, it is left out."""
    (study,) = write_cohort("4dct", 1, 4, 32, 12, tmp_path / "in")
    raw.mkdir()
    for file in (study / "REG").iterdir():
        file.unlink()
    assert convert("4dct", study, "-d", 3, "--structure", "GTV_{phase}") == 1
    said = capsys.readouterr()
    assert said.err.count("Remedy") == 1
    assert "add the registration object (REG)" in said.err
    assert "(--register, --trust-frames, --no-pet)" in said.err
    assert convert("4dct", study, "-d", 3, "--structure", "GTV_{phase}", "--no-pet", "missing") == 0
    assert "the PET of another examination is left out: nothing joins it to the CT" in capsys.readouterr().err
    folder = raw / "Dataset003_IGTV"
    assert not read(folder / "imagesTr/IGTV_0001_0001.nii.gz").any()
    assert read(folder / "labelsTr/IGTV_0001.nii.gz").any()
    assert cases_without_pet(json.loads((folder / "dataset.json").read_text())) == 1
