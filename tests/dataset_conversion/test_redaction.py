"""Names and ids do not survive in free text, however they are spelled there."""

import pytest
from pydicom import Dataset

from nnunet_igtv.dataset_conversion.redaction import redacted
from nnunet_igtv.dicom.identity import redact, secrets_of, without_secrets
from nnunet_igtv.errors import IGTVError

SECRETS = frozenset({"QP-77-4411", "Querelle^Philomena^Xanthe"})


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("IGTV_Querelle-QP774411", "IGTV_<patient>-<patient>"),
        ("qp 77 4411", "<patient>"),
        ("drawn for PHILOMENA", "drawn for <patient>"),
        ("plan 4411", "plan <patient>"),
        ("Querelle Philomena Xanthe", "<patient>"),
        ("IGTV 3D, 0.4411 ml, 144112", "IGTV 3D, 0.<patient> ml, 144112"),
        ("GTV primary", "GTV primary"),
    ],
)
def test_every_spelling_is_found(text, clean):
    assert redact(text, SECRETS) == clean


def test_words_of_an_id_are_no_secrets():
    assert redact("GTV of the lung", frozenset({"LUNG-GTV-0042"})) == "GTV of the lung"
    assert redact("lung_gtv_0042", frozenset({"LUNG-GTV-0042"})) == "<patient>"


def test_short_and_empty_secrets_leave_text_alone():
    assert redact("IGTV 12 in slice 3", frozenset({"", "^", "12", "A^B", "-"})) == "IGTV 12 in slice 3"


def test_records_and_errors_are_cleaned_at_any_depth():
    provenance = {"structure": ["GTV Xanthe"], "left_out": [{"why": "QP-77-4411"}], "volume_ml": 4411.0}
    assert without_secrets(provenance, SECRETS) == {
        "structure": ["GTV <patient>"],
        "left_out": [{"why": "<patient>"}],
        "volume_ml": 4411.0,
    }
    error = redacted(IGTVError("no PET of Xanthe", file="a/QP774411/x.dcm", remedy="add it"), SECRETS)
    assert str(error) == "no PET of <patient> [a/<patient>/x.dcm]. Remedy: add it"


def test_the_date_of_birth_is_a_secret_in_its_usual_orders():
    header = Dataset()
    header.PatientBirthDate, header.OtherPatientIDs = "19510302", ["QZ-9911", "X"]
    secrets = secrets_of(header)
    assert redact("born 1951-03-02, 02.03.1951 or 03/02/1951", secrets) == (
        "born <patient>, <patient> or <patient>"
    )
    assert redact("qz 9911 of 2019-03-02, 519510302 X", secrets) == "<patient> of 2019-03-02, 519510302 X"
    header.PatientBirthDate = ""
    assert redact("1951", secrets_of(header)) == "1951"
