"""A PET/CT of another examination, brought to the planning CT by its registration object."""

import json

import numpy as np
import pytest
from registered import moved_examination, registration, rigid

from nnunet_igtv.commands.main import main
from nnunet_igtv.dataset_conversion.convert import convert as convert_from_python
from nnunet_igtv.dataset_conversion.pet_channel import pet_channel
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.phantom.cohort import simulate_4d, write_cohort
from nnunet_igtv.prediction import choose_series, write_input
from nnunet_igtv.studies.images import ct_volume
from nnunet_igtv.studies.known import ReadingOptions

NAMES = ("LUCID_0001_0000", "LUCID_0001_0001")


def convert(*arguments):
    return main(["convert", "lucid", *map(str, arguments), "-j", "1"])


@pytest.fixture
def planned(patient, tmp_path):
    """planned(name, matrix=…): a folder with a planning CT, a PET/CT moved away, and what brings it back."""

    def write(name, key="a", matrix=None, kind="RIGID"):
        made = patient(key)
        folder = tmp_path / name
        if matrix is not None:
            there = moved_examination(made, rigid())
            made.rt.append(
                registration(
                    made.ct[0],
                    made.ct[0].FrameOfReferenceUID,
                    (made.pet[0].FrameOfReferenceUID, kind, matrix),
                )
            )
            made.ct += there
        made.write(folder)
        return folder

    return write


@pytest.mark.parametrize("grid", ["ct", "pet"])
def test_the_registered_pet_is_where_it_was(planned, raw, read, grid):
    """Moved away with its geometry and brought back by the object, voxel for voxel; half a voxel is 1 mm."""
    assert convert(planned("together"), "-d", 1, "-n", "A", "--grid", grid) == 0
    assert convert(planned("apart", matrix=rigid()), "-d", 2, "-n", "B", "--grid", grid) == 0
    folders = [raw / "Dataset001_A", raw / "Dataset002_B"]
    for channel in ("0000", "0001"):
        one, other = (
            read(raw / f"Dataset00{k}_{n}/imagesTr/{n}_0001_{channel}.nii.gz")
            for k, n in ((1, "A"), (2, "B"))
        )
        assert np.abs(one - other).max() < 2e-3 * np.abs(one).max()
    labels = [read(f / "labelsTr" / f"{f.name[-1]}_0001.nii.gz") for f in folders]
    if grid == "ct":
        assert np.array_equal(*labels)
    else:  # the mask of the CT by nearest neighbour; contours on the PET elsewhere
        assert abs(int(labels[0].sum()) - int(labels[1].sum())) <= 0.2 * labels[0].sum()
    record = json.loads((raw / "Dataset002_B/conversion.json").read_text())["cases"]["B_0001"]
    assert record["registration"]["type"] == "RIGID"
    assert np.abs(np.array(record["registration"]["pet_to_ct"]) - rigid()).max() < 1e-4
    assert (
        "registration"
        not in json.loads((raw / "Dataset001_A/conversion.json").read_text())["cases"]["A_0001"]
    )


def test_a_matrix_that_is_not_rigid_fails_alone(planned, raw, capsys):
    planned("in/bad", "a", matrix=rigid() @ np.diag([1.1, 1, 1, 1]))
    planned("in/far", "bb", matrix=rigid(900))
    folder = planned("in/good", "ccc", matrix=rigid()).parent
    assert convert(folder, "-d", 1) == 1
    said = capsys.readouterr()
    assert "its matrix is called RIGID and scales by 1.000 to 1.100" in said.err
    assert "PET and CT do not overlap" in said.err
    assert "1 converted, 0 already there, 2 failed" in said.out


def test_prediction_reads_the_same(planned, raw, read, tmp_path):
    folder = planned("apart", matrix=rigid())
    convert(folder, "-d", 1)
    ct, pet = choose_series(folder)
    write_input(ct_volume(ct.series), pet_channel(pet), tmp_path / "input", ".nii.gz")
    for channel, name in enumerate(NAMES):
        converted = read(raw / f"Dataset001_LUCID/imagesTr/{name}.nii.gz")
        assert np.array_equal(read(tmp_path / f"input/STUDY_000{channel}.nii.gz"), converted)


def test_the_phantoms_pet_ct_is_brought_to_its_4d_ct(raw, tmp_path):
    """By the phantom's own object, to its known placement; half a voxel is 4 mm."""
    list(write_cohort("4dct", 1, 4, 32, 12, tmp_path / "in"))
    raw.mkdir()
    done = convert_from_python("4dct", tmp_path / "in", 3, structure="GTV_{phase}", jobs=1)
    assert not done.failures
    record = json.loads((done.dataset / "conversion.json").read_text())["cases"]["IGTV_0001"]
    off = np.array(record["registration"]["pet_to_ct"]) - simulate_4d(4, 0, 32, 12)[2].placed
    assert np.linalg.norm(off @ (250, 250, 250, 1)) < 1e-3


@pytest.fixture(scope="module")
def without_object(tmp_path_factory):
    """The phantom's 4D-CT and PET/CT, and nothing that joins them."""
    folder = tmp_path_factory.mktemp("unregistered")
    (study,) = write_cohort("4dct", 1, 4, 48, 20, folder)
    (study / "REG" / "REG.dcm").unlink()
    return study


def test_a_computed_registration_is_within_a_millimetre_and_half_a_degree(raw, without_object):
    raw.mkdir()
    options = {"structure": "GTV_{phase}", "jobs": 1}
    refused = convert_from_python("4dct", without_object, 4, **options)  # never by default
    assert "no frame of reference in common" in refused.failures[0].what
    done = convert_from_python("4dct", without_object, 4, register=True, **options)
    assert not done.failures
    record = json.loads((done.dataset / "conversion.json").read_text())["cases"]["IGTV_0001"]
    registration = record["registration"]
    scan = simulate_4d(4, 0, 48, 20)[2]
    off = np.array(registration["pet_to_ct"]) @ np.linalg.inv(scan.placed)
    tumour = [axis.ravel().mean() for axis in (scan.grid.x, scan.grid.y, scan.grid.z)]
    assert np.linalg.norm((off @ [*tumour, 1])[:3] - tumour) < 1
    assert np.degrees(np.arccos(min(1, (np.trace(off[:3, :3]) - 1) / 2))) < 0.5
    assert registration["metric"] > 1
    assert "registered to the CT by computation" in " ".join(record["warnings"])
    picture = (done.dataset / "registration" / "IGTV_0001.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_what_would_be_registered_and_what_cannot_be(patient, tmp_path):
    made = patient("a")
    own = moved_examination(made, rigid())
    folder = made.write(tmp_path / "study")
    with pytest.raises(IGTVError, match="no frame of reference in common"):
        choose_series(folder, ReadingOptions(ct="date:2020-01-02"))
    with pytest.raises(IGTVError, match="it has no CT in its own frame of reference"):
        choose_series(folder, ReadingOptions(register=True))
    made.ct += own
    made.write(folder)
    ct, pet = choose_series(folder, ReadingOptions(register=True))
    assert ct.series.headers[0].StudyDate == "20200102"  # not the PET/CT's own
    assert pet.register_by.headers[0].StudyDate == "20200120"
    assert "to be registered to the CT by its own CT" in pet.why
    ct, pet = choose_series(folder, ReadingOptions(register=True, ct="date:2020-01-20"))
    assert pet.register_by is None  # they share a frame of reference
    joins = registration(
        made.ct[0], made.ct[0].FrameOfReferenceUID, (own[0].FrameOfReferenceUID, "RIGID", rigid())
    )
    made.rt.append(joins)
    made.write(folder)
    _, pet = choose_series(folder, ReadingOptions(register=True))
    assert pet.register_by is None  # the object comes first
    assert pet.joined.type == "RIGID"
