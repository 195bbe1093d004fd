"""Names and character sets: text reads back as it was given, or is refused."""

import pytest
from pydicom import dcmread

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export import write_rtstruct, write_seg

UTF_8 = "ISO_IR 192"
YAMADA = "Yamada^Tarou=山田^太郎=やまだ^たろう"
JIS = ["", "ISO 2022 IR 87"]
KATAKANA = ["ISO 2022 IR 13", "ISO 2022 IR 87"]
KOREAN = ["", "ISO 2022 IR 149"]


def named(file):
    dataset = dcmread(file)
    if dataset.Modality == "SEG":
        return dataset, dataset.SegmentSequence[0].SegmentLabel
    return dataset, dataset.StructureSetROISequence[0].ROIName


@pytest.fixture(params=[write_rtstruct, write_seg])
def write(request, ring, upright, tmp_path):
    """write(ct, name): export the ring with one of the two writers."""
    if request.param is write_seg:
        pytest.importorskip("highdicom")
    return lambda ct, name: request.param(upright.image(ring), ct, tmp_path / "out.dcm", name)


@pytest.mark.parametrize(
    ("declared", "patient", "name", "written"),
    [
        (None, "Doe^Jane", "IGTV", None),
        (None, "Doe^Jane", "IGTV µ", UTF_8),
        ("ISO_IR 100", "Müller^Jörg", "IGTV 1", "ISO_IR 100"),
        ("ISO_IR 100", "Müller^Jörg", "Größe µ", "ISO_IR 100"),
        ("ISO_IR 100", "Müller^Jörg", "IGTV 肺", UTF_8),
        ("ISO_IR 144", "Петров^Пётр", "лёгкое", "ISO_IR 144"),
        ("ISO_IR 144", "Петров^Пётр", "Größe", UTF_8),
        (UTF_8, "Müller^肺", "IGTV 🫁", UTF_8),
        ("GB18030", "Wang^XiaoDong=王^小东", "肺部", "GB18030"),
        (JIS, YAMADA, "IGTV", JIS),
        (JIS, YAMADA, "IGTV 肺 left", JIS),
        (JIS, YAMADA, "Größe", UTF_8),
        (KOREAN, "Hong^Gildong=洪^吉洞=홍^길동", "폐", KOREAN),
        (KATAKANA, "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", "GTV", KATAKANA),
    ],
)
def test_names_and_patients_read_back(declared, patient, name, written, write, write_ct, upright, tmp_path):
    """In the CT's own character set where that covers the name, else in UTF-8."""
    ct = write_ct(tmp_path / "ct", upright, SpecificCharacterSet=declared, PatientName=patient)
    dataset, found = named(write(ct, name))
    assert found == name
    assert str(dataset.PatientName) == patient
    assert dataset.get("SpecificCharacterSet") == written


@pytest.mark.parametrize("name", ["x" * 64, "ü" * 64, "GTV_1 (left); 50%?*", " padded "])
def test_unusual_names_that_dicom_allows(name, write, write_ct, upright, tmp_path):
    _, found = named(write(write_ct(tmp_path / "ct", upright), name))
    assert found == name.strip()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("GTV\\lung", "backslash"),
        ("x" * 65, "65 characters"),
        ("", "is empty"),
        ("  \t", "is empty"),
        ("IGTV\x1b]0;title\x07", "control characters"),
        ("two\nlines", "control characters"),
        ("not UTF-8 \udcff", "no text"),
    ],
)
def test_names_that_dicom_does_not_allow(name, reason, write, write_ct, upright, tmp_path):
    with pytest.raises(IGTVError, match=reason) as error:
        write(write_ct(tmp_path / "ct", upright), name)
    assert str(error.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]


@pytest.mark.parametrize("declared", [None, "ISO_IR 999", "ISO_IR_100"])
def test_undeclared_characters_keep_their_bytes(declared, write, write_ct, upright, tmp_path):
    """Nobody knows for sure what they mean, so they are never re-encoded beside other characters."""
    ct = write_ct(tmp_path / "ct", upright, SpecificCharacterSet=declared, PatientName="Müller^Jörg")
    for path in ct.iterdir():
        assert "Müller^Jörg".encode("latin-1") in path.read_bytes()
    with pytest.raises(IGTVError, match="outside the character set"):
        write(ct, "IGTV 肺")
    file = write(ct, "IGTV")
    assert "Müller^Jörg".encode("latin-1") in file.read_bytes()
    assert dcmread(file).get("SpecificCharacterSet") == declared


def test_bytes_that_their_character_set_does_not_allow_are_refused(write, write_ct, upright, tmp_path):
    ct = write_ct(tmp_path / "ct", upright, SpecificCharacterSet="ISO_IR 100", PatientID="Nr ü")
    for path in ct.iterdir():
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 192"))
    with pytest.raises(IGTVError, match="outside the character set"):
        write(ct, "IGTV")
