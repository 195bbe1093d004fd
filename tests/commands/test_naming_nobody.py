"""What is refused is said without the patient's name and id, by every command and function that reads
DICOM: names stand in structures, descriptions and folders."""

import traceback

import pytest
import SimpleITK as sitk
from pydicom import dcmread

from nnunet_igtv import read_ct, read_pet, read_structure, write_rtstruct
from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.phantom.cohort import write_cohort

NAME, ID = "Mustermann^Li", "QX771234"
UNREADABLE = b"\0" * 128 + b"DICM and no more"
PLANTED = ("mustermann", "qx771234", "qx-771234", "li_")


def named_after(folder, dataset):
    """A study of Li Mustermann whose structures are named after her."""
    dataset.PatientName, dataset.PatientID = NAME, ID
    for roi in dataset.get("StructureSetROISequence", []):
        roi.ROIName = f"{roi.ROIName} Mustermann {ID}"
    dataset.save_as(folder)


@pytest.fixture
def study(patient, tmp_path):
    folder = patient().write(tmp_path / "li_Mustermann" / "QX-771234")
    for file in folder.rglob("*.dcm"):
        named_after(file, dcmread(file))
    return folder


def nobody_is_named(said):
    return not any(word in said.lower() for word in PLANTED)


def said_by(capsys, *arguments):
    assert main(list(map(str, arguments))) == 1
    said = capsys.readouterr().err
    assert nobody_is_named(said)
    return said


def refused(function, *arguments, **more):
    with pytest.raises(IGTVError) as error:
        function(*arguments, **more)
    assert nobody_is_named("".join(traceback.format_exception(error.value)))
    return str(error.value)


def test_motion(tmp_path, capsys):
    (folder,) = write_cohort("4dct", 1, 4, 32, 8, tmp_path / "Mustermann")
    for file in folder.rglob("*.dcm"):
        named_after(file, dcmread(file))
    folder = folder.rename(folder.with_name(ID))
    said = said_by(capsys, "motion", folder, "--structure", "PTV_{phase}")
    assert "there are: 'GTV_00 <patient> <patient>'" in said
    assert "<patient>/<patient>]" in said
    assert main(["motion", str(folder), "--structure", "GTV_{phase}.*"]) == 0
    printed = capsys.readouterr()
    assert nobody_is_named(printed.out + printed.err)
    next((folder / "AVERAGE").iterdir()).write_bytes(UNREADABLE)
    assert "unreadable" in said_by(capsys, "motion", folder, "--structure", "GTV.*")


def test_inspect_of_a_structure_set_whose_header_names_nobody(study, capsys):
    (drawn,) = (study / "RT").iterdir()
    structures = dcmread(drawn)
    structures.PatientName = structures.PatientID = ""
    structures.save_as(drawn)
    assert main(["inspect", str(study)]) == 0
    printed = capsys.readouterr().out
    assert "IGTV <patient> <patient>" in printed
    assert nobody_is_named(printed)


def test_inspect_and_convert(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert main(["inspect", str(study.parent)]) == 0
    printed = capsys.readouterr()
    assert nobody_is_named(printed.out + printed.err)
    cohort = study.parent.parent
    assert "'IGTV <patient>" in said_by(capsys, "convert", "lucid", cohort, "-d", "1", "-j", "1")


def test_predict_and_export(study, tmp_path, capsys):
    mask = read_ct(study) > 0
    mask.SetOrigin((1, 0, 0))
    sitk.WriteImage(mask, str(tmp_path / "mask.nii.gz"))
    for kind in ("rtstruct", "seg"):
        command = ["export", kind, tmp_path / "mask.nii.gz", "--ct", study / "CT", "-o", tmp_path / "a.dcm"]
        assert "/<patient>/<patient>/CT]" in said_by(capsys, *command)
    (study / "CT" / "Mustermann.dcm").write_bytes(UNREADABLE)
    said = said_by(capsys, "predict-dicom", study, "-d", "1", "-o", tmp_path / "out")
    assert "unreadable DICOM file" in said
    assert "CT/<patient>.dcm" in said


def test_functions(study, tmp_path, recwarn):
    ct = read_ct(study)
    (drawn,) = (study / "RT").iterdir()
    assert "there are: 'IGTV <patient> <patient>'" in refused(read_structure, drawn, "PTV", ct)
    assert "/<patient>/<patient>/CT]" in refused(read_pet, study / "CT")
    assert "/<patient>/<patient>/PET]" in refused(read_ct, study / "PET")
    mask = read_structure(drawn, "IGTV.*", ct)
    for colour in ((256, 0, 0), (1, 2), (0.5, 0, 0)):
        said = refused(write_rtstruct, mask, study / "CT", tmp_path / "a.dcm", colour=colour)
        assert "from 0 to 255" in said
    assert not list(tmp_path.glob("*.dcm"))


def test_what_is_remarked_on_contours(study):
    (drawn,) = (study / "RT").iterdir()
    structures = dcmread(drawn)
    for contour in structures.ROIContourSequence[0].ContourSequence[1:3]:
        contour.ContourData = contour.ContourData[:6]  # two points
    structures.save_as(drawn)
    with pytest.warns(UserWarning, match="<patient>") as remarks:
        read_structure(drawn, "IGTV.*", read_ct(study))
    assert all(nobody_is_named(str(remark.message)) for remark in remarks)
