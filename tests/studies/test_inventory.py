"""What inspect says, and that its JSON stays what it is."""

import json
from copy import deepcopy

import pytest

from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.images import read_pet
from nnunet_igtv.studies.inventory import inspect, orientation

SERIES_KEYS = {
    *(
        "id",
        "study",
        "folder",
        "modality",
        "description",
        "series_number",
        "slices",
        "size",
        "spacing",
        "origin",
    ),
    *("direction", "orientation", "frame_of_reference", "problem", "notes"),
}


def test_json(tmp_path, patient, dicom, capsys):
    study = patient()
    dicom.add_roi(study.rt[0], "Empty", [])
    study.write(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "CT" / "bad.dcm").write_bytes(b"")
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    lists = {"series", "structure_sets", "registrations", "choices", "unreadable"}
    assert set(found) == {"format", "other_files"} | lists
    ct, pet = found["series"]
    assert set(ct) == SERIES_KEYS
    assert ct["size"] == [24, 20, 10]
    assert ct["spacing"] == [2, 2, 3]
    assert ct["orientation"] == "LPS"
    assert set(pet) == SERIES_KEYS | {"suv_factor", "suv_factor_range", "suv_rule", "suv_warnings"}
    assert pet["suv_factor"] == pytest.approx(70000 / (370e6 * 0.5 ** (3600 / 6586.2)), rel=1e-9)
    assert pet["frame_of_reference"] == ct["frame_of_reference"] == 1
    (structures,) = found["structure_sets"]
    assert structures["series"] == [ct["id"]]
    assert structures["structures"] == [
        {"name": "IGTV", "contours": 4, "volume_ml": 1.44, "problem": None, "notes": []},
        {"name": "Empty", "contours": 0, "volume_ml": None, "problem": "no closed contours", "notes": []},
    ]
    why = "the only {} that could serve"
    only = {"ct": {"series": 1, "why": why.format("CT")}, "pet": {"series": 2, "why": why.format("PET")}}
    chosen = {"studies": [1], **only, "warnings": [], "refused": None}
    assert found["choices"] == [{**chosen, "structure_set": drawn} for drawn in ("RT/000.dcm", None)]
    assert found["unreadable"] == [{"file": "CT/bad.dcm", "reason": "unreadable DICOM file (ValueError)"}]
    assert found["other_files"] == 1
    assert not any(secret in json.dumps(found) for secret in ("MRN", "Muster", "2020"))


def test_what_is_refused_is_said(tmp_path, patient, capsys):
    study = patient()
    del study.ct[3]
    for dataset in study.pet:
        dataset.Units = "CPS"
    study.write(tmp_path)
    ct, pet = inspect(tmp_path)["series"]
    assert "1 slice(s) missing" in ct["problem"]
    assert "units CPS" in pet["suv_refused"]
    assert "suv_factor" not in pet
    assert main(["inspect", str(tmp_path)]) == 0
    assert "refused: SUV: units CPS" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "absent")]) == 1


def test_what_would_be_chosen_and_why(tmp_path, patient, capsys):
    """Also what would be refused, with the candidates and the option that settles it."""
    study = patient()
    late = deepcopy(study.pet)
    for k, image in enumerate(late):
        image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.3.456789", f"1.2.3.{k}"
        image.SeriesDescription, image.SeriesNumber = "PET delayed", 7
    study.pet += late
    phase = deepcopy(study.ct)
    for k, image in enumerate(phase):
        image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.4", f"1.2.4.{k}"
    study.ct += phase
    study.write(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (
        "choice in study 1, with a structure of RT/000.dcm:\n    refused: 2 PET series could serve" in printed
    )
    assert "choice in study 1, without a structure:\n    refused: 2 PET series could serve" in printed
    assert "(--pet)" in printed
    assert "PET  7    PET delayed  2020-01-02 11:00         9       4 x 4 x 4   …456789" in printed
    assert main(["inspect", str(tmp_path), "--pet", "delayed"]) == 0
    printed = capsys.readouterr().out
    assert "CT: series 2; the one that the structure set was drawn on (of 2 CT series)" in printed
    assert "PET: series 4; asked for (of 2 PET series)" in printed


def test_a_choice_among_linked_studies_names_both(tmp_path, patient, capsys):
    study = patient()
    for image in study.pet:
        image.StudyInstanceUID = "1.2.5"
    study.write(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    assert "choice in studies 1, 2, with a structure of RT/000.dcm:" in capsys.readouterr().out


@pytest.mark.parametrize("weight", ["0", "nan", "-70", "70000"])
def test_a_weight_that_no_patient_has_is_one_line(weight, tmp_path, patient, capsys):
    patient().write(tmp_path)
    assert main(["inspect", str(tmp_path), "--weight", weight]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no patient has" in line
    assert line.endswith("(--weight)")
    with pytest.raises(IGTVError, match="from 1 to 500"):
        read_pet(tmp_path, float(weight))


def test_orientation():
    assert orientation((1, 0, 0, 0, 1, 0, 0, 0, 1)) == "LPS"
    assert orientation((0, 0, -1, 1, 0, 0, 0, -1, 0)) == "PIR"
    assert orientation((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)) == "LPS oblique"


def test_real_patient(real):
    found = inspect(real / "STS_002")
    names = {roi["name"]: roi["volume_ml"] for s in found["structure_sets"] for roi in s["structures"]}
    assert names["GTV_Mass_CT"] == pytest.approx(53.3, abs=0.05)
    assert {s["modality"]: s.get("suv_rule") for s in found["series"]} == {
        "CT": None,
        "PT": "units GML (SUVbw)",
    }
