"""What cannot be written is refused in a sentence, before a prediction; what is known need not be stated."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from nnunet_igtv.commands.main import main
from nnunet_igtv.dicom.series import find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export import check_export, write_rtstruct, write_seg

pytest.importorskip("highdicom")
WRITERS = (write_rtstruct, write_seg)
TAKEN_AWAY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "SliceThickness", "SeriesNumber", "InstanceNumber"),
)


@pytest.mark.parametrize(
    "attributes",
    [
        *({keyword: None} for keyword in TAKEN_AWAY),
        dict.fromkeys(TAKEN_AWAY),
        dict.fromkeys(TAKEN_AWAY, ""),
        {"PatientSex": "U", "PatientBirthDate": "1950", "StudyDate": "2020-01-01", "StudyTime": "10 h"},
        {"PatientName": "Doe\\Jane", "PatientID": "x" * 70, "StudyID": "y" * 20},
        {"StudyInstanceUID": "1.2.PSEUDO", "SeriesInstanceUID": "1." + "2" * 70},
        {"SliceThickness": -3},
        {"LossyImageCompression": "01"},
        {"Manufacturer": ""},
    ],
    ids=lambda attributes: "+".join(attributes)[:40],
)
def test_pseudonymised_ct(attributes, ring, upright, write_ct, read_independently, tmp_path):
    """Attributes that may be empty are; the slices are as thick as they are apart."""
    ct = write_ct(tmp_path / "ct", upright, **attributes)
    (series,) = find_series(ct, "CT")
    check_export(series, "IGTV", seg=True)
    rs = write_rtstruct(upright.image(ring), ct, tmp_path / "rs.dcm")
    assert (read_independently(rs, "IGTV", upright, ct) == ring).all()
    seg = dcmread(write_seg(upright.image(ring), ct, tmp_path / "seg.dcm"))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (3.0, 3.0)
    for dataset in (seg, dcmread(rs)):
        assert dataset.get("PatientSex") in ("", "F", None)
        assert dataset.get("PatientBirthDate") in ("", "19500101", None)
        assert dataset.PatientID == (attributes.get("PatientID", "P1") or "")


@pytest.mark.parametrize(
    ("keyword", "named", "value"),
    [
        ("FrameOfReferenceUID", "no frame of reference", None),
        ("StudyInstanceUID", "no Study Instance UID", None),
        ("SeriesInstanceUID", "no Series Instance UID", None),
        ("SeriesInstanceUID", "no Series Instance UID", ["1.2", "1.3"]),
        ("SOPInstanceUID", "no SOP Instance UID", None),
    ],
)
def test_ct_that_nothing_can_refer_to(keyword, named, value, ring, upright, write_ct, tmp_path):
    ct = write_ct(tmp_path / "ct", upright)
    for path in ct.iterdir():
        image = dcmread(path)
        setattr(image, keyword, value)
        image.save_as(path)
    (series,) = find_series(ct, "CT")
    for write in WRITERS:
        with pytest.raises(IGTVError, match=named):
            write(upright.image(ring), ct, tmp_path / "out.dcm")
    for seg in (False, True):
        with pytest.raises(IGTVError, match=named):
            check_export(series, "IGTV", seg=seg)
    assert not (tmp_path / "out.dcm").exists()


def refused_by_file(match, ring, upright, ct, tmp_path):
    """The refusal of all writers, of the checks before a prediction too, for one file of the CT."""
    (series,) = find_series(ct, "CT")
    for write in WRITERS:
        with pytest.raises(IGTVError, match=match) as error:
            write(upright.image(ring), ct, tmp_path / "out.dcm")
        assert Path(error.value.file).parent == ct
        with pytest.raises(IGTVError, match=match):
            write(upright.image(ring), ct, tmp_path / "out.dcm", anonymous="A1")
    for seg in (False, True):
        with pytest.raises(IGTVError, match=match):
            check_export(series, "IGTV", seg=seg)
    assert not (tmp_path / "out.dcm").exists()
    return str(error.value)


def test_images_that_share_an_identifier(ring, upright, write_ct, tmp_path):
    def share(image):
        if image.InstanceNumber in (3, 6):
            image.SOPInstanceUID = "1.2.3.4"

    ct = write_ct(tmp_path / "ct", upright, change=share)
    said = refused_by_file("has the SOP Instance UID", ring, upright, ct, tmp_path)
    assert "005.dcm" in said
    assert "002.dcm" in said


@pytest.mark.parametrize("other", ["QP774411", ""])
def test_images_of_two_patients_in_one_series(other, ring, upright, write_ct, tmp_path):
    def swap(image):
        if image.InstanceNumber > 4:
            image.PatientID, image.PatientName = other, "Querelle^Philomena"

    ct = write_ct(tmp_path / "ct", upright, change=swap)
    said = refused_by_file("do not have one patient's ID", ring, upright, ct, tmp_path)
    assert "003.dcm" in said
    assert not {"QP774411", "Querelle", "P1", "Doe"} & set(said.replace("^", " ").split())


def not_masks(ring):
    rng = np.random.default_rng(0)
    hu = np.where(ring, 40, -700).astype(np.int16)
    suv = np.where(ring, 7.25, rng.random(ring.shape)).astype(np.float32)
    yield pytest.param(hu, "negative values", id="CT in HU")
    yield pytest.param(suv, "between whole numbers", id="PET in SUV")
    yield pytest.param(np.clip(suv, 0, 1) * 0.9, "between whole numbers", id="probabilities")
    yield pytest.param(rng.integers(0, 30000, ring.shape), "different values", id="PET in Bq/ml")
    yield pytest.param(np.where(ring, np.nan, 0), "not finite", id="NaN")


@pytest.mark.parametrize(("voxels", "reason"), not_masks(np.eye(11, 14, dtype=bool)[None].repeat(7, 0)))
def test_images_that_are_no_masks(voxels, reason, upright, write_ct, tmp_path, capsys):
    ct = write_ct(tmp_path / "ct", upright)
    for write in WRITERS:
        with pytest.raises(IGTVError, match=reason):
            write(upright.image(voxels), ct, tmp_path / "out.dcm")
    sitk.WriteImage(upright.image(voxels), str(tmp_path / "image.nrrd"))
    command = ["export", "rtstruct", str(tmp_path / "image.nrrd"), "--ct", str(ct)]
    assert main([*command, "-o", str(tmp_path / "out.dcm")]) == 1
    assert "image.nrrd" in capsys.readouterr().err
    assert not (tmp_path / "out.dcm").exists()


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0, 1, 2, 3), (0, 117)])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_masks_of_other_values_and_types(values, kind, ring, upright, write_ct, read_independently, tmp_path):
    labels = np.array(values)[ring * (1 + np.indices(ring.shape).sum(0) % (len(values) - 1))].astype(kind)
    ct = write_ct(tmp_path / "ct", upright)
    rs = write_rtstruct(upright.image(labels), ct, tmp_path / "rs.dcm")
    assert (read_independently(rs, "IGTV", upright, ct) == ring).all()


@pytest.fixture
def predict_dicom(monkeypatch, patient, tmp_path):
    """predict_dicom(*options): runs the command on a small study; its prediction must not be reached."""
    model = SimpleNamespace(structure="IGTV")
    monkeypatch.setattr("nnunet_igtv.prediction.Model.find", lambda *a, **k: model)

    def never(*_, **__):
        raise AssertionError("predicted before the output was checked")

    monkeypatch.setattr("nnunet_igtv.prediction.predict_series", never)
    study = patient()

    def run(*options):
        folder = study.write(tmp_path / "study")
        return main(["predict-dicom", str(folder), "-d", "1", "-o", str(tmp_path / "out"), *options])

    run.study = study
    return run


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--name", "a\\b"], "--name"),
        (["--name", "x" * 65], "--name"),
        (["--name", ""], "--name"),
        (["--extend", "absent.dcm"], "absent.dcm"),
        (["--anonymous", "a\\b"], "--anonymous"),
    ],
)
def test_options_are_checked_before_the_prediction(options, reason, predict_dicom, tmp_path, capsys):
    assert predict_dicom(*options) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_structure_set_to_extend_is_checked_before_the_prediction(predict_dicom, tmp_path, capsys):
    rt = predict_dicom.study.rt[0]
    existing = str(tmp_path / "study" / "RT" / "000.dcm")
    assert predict_dicom("--extend", existing) == 1
    assert "holds a structure 'IGTV' already" in capsys.readouterr().err
    rt.PatientID = "P-2"
    assert predict_dicom("--extend", existing, "--name", "new") == 1
    assert "another patient" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict_dicom("--extend", existing, "--anonymous", "A1")


def test_missing_identifiers_are_found_before_the_prediction(predict_dicom, capsys):
    for image in predict_dicom.study.ct:
        image.SeriesInstanceUID = ""
    assert predict_dicom() == 1
    assert "no Series Instance UID" in capsys.readouterr().err
