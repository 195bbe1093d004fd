"""Names and ids do not survive in free text, however they are spelled there."""

from time import perf_counter

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from nnunet_igtv.dicom.dates import dates_of
from nnunet_igtv.dicom.identity import redact, secrets_of, without_secrets
from nnunet_igtv.dicom.redaction import redacted
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


def names(value):
    """What is secret of a header with this name."""
    header = Dataset()
    header.SpecificCharacterSet, header.PatientName = "ISO_IR 192", value
    return secrets_of(header)


@pytest.mark.parametrize("declared", [None, "ISO_IR 100", "ISO_IR 144"])
@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("Müller^Jürgen", "utf-8"),
        ("Müller^Jürgen", "cp1252"),
        ("Łukasz^Kowal", "cp1250"),
        ("Иванов^Пётр", "cp1251"),
        ("김철수^", "euc-kr"),
        ("王小明^", "gb18030"),
    ],
)
def test_a_name_in_letters_that_its_file_does_not_declare(name, encoding, declared):
    header = Dataset()
    if declared:
        header.SpecificCharacterSet = declared
    raw = name.encode(encoding)
    header[0x00100010] = RawDataElement(Tag(0x00100010), "PN", len(raw), raw, 0, False, True)
    assert redact(f"[{name.strip('^').replace('^', '_')}/CT]", secrets_of(header)) == "[<patient>/CT]"


@pytest.mark.parametrize("name", ["AccessionNumber", "ClinicalTrialSubjectID"])
def test_numbers_of_examinations_and_trials_count_as_ids(name):
    header = Dataset()
    setattr(header, name, "ACC-20481516")
    assert redact("IGTV acc20481516", secrets_of(header)) == "IGTV <patient>"


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("name", "text", "clean"),
    [
        ("王伟", "GTV 王伟", "GTV <patient>"),
        ("王伟", "studies/王伟/CT", "studies/<patient>/CT"),
        ("王^伟", "GTV伟王", "GTV<patient>"),
        ("王^伟", "GTV王, 王子", "GTV<patient>, 王子"),
        ("Wang^Wei=王^伟", "王伟/wang_wei", "<patient>/<patient>"),
        (JAPANESE, "studies/山田太郎/CT", "studies/<patient>/CT"),
        (JAPANESE, "GTV山田", "GTV<patient>"),
        (JAPANESE, "やまだ, YAMADA_1", "<patient>, <patient>_1"),
        ("김^민준", "GTV김민준, 민준", "GTV<patient>, <patient>"),
        ("Müller^Jörg", "GTV Mu\u0308ller", "GTV <patient>"),  # as macOS writes file names
        # short words, beside each other
        ("Li^Na", "na_li/CT", "<patient>/CT"),
        ("Li^Na", "GTV_NaLi", "GTV_<patient>"),
        ("Li^Na", "GTV Li", "GTV <patient>"),
        ("Li^Xiaoming", "GTVXiaomingLi", "GTV<patient>"),
        ("Do^An", "an_do/CT", "<patient>/CT"),
        ("Hu^Yi", "yi-hu2", "<patient>2"),
        ("Muster^E", "E. Muster, phase e", "<patient>, phase e"),
    ],
)
def test_a_name_is_found_in_each_of_its_scripts_and_where_its_words_are_short(name, text, clean):
    assert redact(text, names(name)) == clean


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Li^Na", "a line in a signal, PET is NA"),
        ("Do^An", "an error: what to do is in an image"),
        ("Hu^Yi", "the CT is not in HU"),
        ("CT^PET", "PET/CT, CT of the PET"),
        ("GTV", "IGTV and GTV"),
        ("A^B", "IGTV a b, 12 ab"),
    ],
)
def test_ordinary_words_stay(name, text):
    assert redact(text, names(name)) == text


def test_a_name_made_to_be_searched_for_ever_is_searched_quickly():
    began = perf_counter()
    redact("a" * 64 + "1", names("A^AA"))
    redact("GTV " + "a b " * 16 + "ab", names("A^B^AB^BA^AAA"))
    assert perf_counter() - began < 5


def test_every_id_of_a_patient_is_a_secret():
    header, item = Dataset(), Dataset()
    item.PatientID, item.TypeOfPatientID = "QX771234", "TEXT"
    header.PatientID, header.OtherPatientIDsSequence = "P-0001", Sequence([item, Dataset()])
    assert redact("GTV qx-771234, p0001", secrets_of(header)) == "GTV <patient>, <patient>"


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


def test_the_date_of_birth_is_a_secret_in_its_usual_forms():
    header = Dataset()
    header.PatientBirthDate, header.OtherPatientIDs = "19510302", ["QZ-9911", "X"]
    secrets = secrets_of(header)
    assert redact("born 1951-03-02, 02.03.1951, 3/2/51 or 2. March 1951", secrets) == (
        "born <date>, <date>, <date> or <date>"
    )
    assert redact("qz 9911 of 2019-03-02, 519510302 X", secrets) == "<patient> of 2019-03-02, 519510302 X"
    header.PatientBirthDate = ""
    assert redact("1951", secrets_of(header)) == "1951"


@pytest.fixture
def dates():
    """Of a study on 31 January, with a structure set of 1 February and an injection long before."""
    header, injection = Dataset(), Dataset()
    header.StudyDate, header.AcquisitionDateTime = "20260131", "20260131101500.000+0100"
    header.StructureSetDate, header.PatientBirthDate = "20260201", "19510302"
    injection.RadiopharmaceuticalStartDateTime = "20251224"
    header.RadiopharmaceuticalInformationSequence = Sequence([injection])
    return dates_of(header)


@pytest.mark.parametrize(
    "written",
    [
        *("20260131", "2026-01-31", "2026_01_31", "2026.1.31", "2026 0131", "31.01.2026", "31. 1. 2026"),
        *("1/31/2026", "31-1-26", "31.1.26", "310126", "260131", "26-01-31", "013126", "20260131101500"),
        *("31Jan2026", "31 January 2026", "Jan 31, 2026", "31st_jan_26", "2026JAN31"),
        *("1.2.26", "1/2/2026", "01022026", "2026-2-1", "2/1/26", "260201", "1. Februar 2026", "24DEZ25"),
    ],
)
def test_a_date_of_the_headers_is_found_in_every_usual_form(dates, written):
    assert redact(f"GTV_{written}", dates) == "GTV_<date>"
    assert redact(f"{written} GTV 50%, T10", dates) == "<date> GTV 50%, T10"
    assert redact(f"GTV{written}a", dates | SECRETS) == "GTV<date>a"


@pytest.mark.parametrize(
    "text",
    [
        *("GTV_50", "T10", "GTV_2026", "GTV_31", "GTV 01", "PTV 60/30", "GTV_1_2", "120260131", "2026013"),
        *("31.01.2025", "2026-01-30", "19510302", "GTV_3.1.2.26", "1.2.26.840.1", "1.2 ml in 26 slices"),
        *("phase 10 %", "IGTV_1", "31 Gy in 20 fractions", "0.31012", "Jan", "1 may"),
    ],
)
def test_numbers_that_are_no_known_date_stay(dates, text):
    assert redact(text, dates) == text


def test_a_damaged_date_of_a_header_is_none():
    header = Dataset()
    header.StudyDate = ""
    header.add_new("SeriesDate", "DA", None)
    header[0x00080022] = RawDataElement(Tag(0x00080022), "DA", 4, b"\xff00x", 0, True, True)
    assert dates_of(header) == frozenset()
