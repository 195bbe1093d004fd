"""Only the modules of patient and study hold identity, and with an anonymous ID nothing does."""

import re

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from nnunet_igtv.commands.main import main
from nnunet_igtv.dicom.series import find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export import anonymised, write_rtstruct, write_seg

pytest.importorskip("highdicom")
OWNER = {"PatientName": "Müller^Philomena", "PatientID": "QP-77-4411", "PatientBirthDate": "19510302"}
STUDY = {"StudyID": "ST-5512", "AccessionNumber": "AC-90817", "StudyDate": "20191231", "StudyTime": "101112"}
# each with a word that occurs nowhere else
ELSEWHERE = {
    "StudyDescription": "Thorax Querelle",
    "SeriesDescription": "Querelle PET/CT",
    "InstitutionName": "Hartigan",
    "InstitutionAddress": "1 Hartigan Road",
    "InstitutionalDepartmentName": "Hartigan Ward",
    "StationName": "HARTIGAN7",
    "DeviceSerialNumber": "SERIAL-8123",
    "DeviceUID": "1.2.3.81238123",
    "Manufacturer": "Zanussi Scanners",
    "ManufacturerModelName": "Zanussi 9",
    "SoftwareVersions": "zanussi-3",
    "ReferringPhysicianName": "Überreuter^R",
    "PhysiciansOfRecord": "Überreuter^S",
    "PerformingPhysicianName": "Überreuter^T",
    "NameOfPhysiciansReadingStudy": "Überreuter^U",
    "OperatorsName": "Oskarsson^O",
    "RequestingPhysician": "Überreuter^V",
    "ImageComments": "Philomena's lung",
    "PatientComments": "Philomena again",
    "AdditionalPatientHistory": "Quarryman",
    "Occupation": "Quarryman",
    "EthnicGroup": "Quarryman",
    "OtherPatientNames": "Xanthippe^P",
    "PatientMotherBirthName": "Xanthippe",
    "PatientAddress": "2 Xanthippe Street",
    "PatientTelephoneNumbers": "0123-987654",
    "ProtocolName": "Xanthippe protocol",
    "RequestedProcedureDescription": "Xanthippe",
    "ClinicalTrialSponsorName": "Sponsorious",
    "ClinicalTrialSubjectID": "SUBJ-3321",
    "PatientAge": "068Y",
}
WORDS = (
    *("Querelle", "Hartigan", "SERIAL-8123", "81238123", "Zanussi", "Überreuter", "Oskarsson", "Philomena's"),
    *(
        "Philomena again",
        "Quarryman",
        "Xanthippe",
        "0123-987654",
        "Sponsorious",
        "SUBJ-3321",
        "068Y",
        "Privatius",
    ),
)


def plant(image):
    image.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in (OWNER | STUDY | ELSEWHERE).items():
        setattr(image, keyword, value)
    image.private_block(0x0099, "PRIVATIUS", create=True).add_new(1, "LO", "Privatius QP-77-4411")
    item = Dataset()
    item.ScheduledProcedureStepDescription = "Xanthippe"
    image.RequestAttributesSequence = Sequence([item])
    item = Dataset()
    item.Manufacturer, item.InstitutionName = "Zanussi", "Hartigan"
    image.ContributingEquipmentSequence = Sequence([item])


def found_in(content, words):
    """The words that bytes hold, in any encoding of their letters, in upper or lower case."""
    encodings = ("latin-1", "utf-8", "utf-16-le", "utf-16-be", "cp1252")
    spellings = {w: {s.encode(e) for s in (w, w.lower(), w.upper()) for e in encodings} for w in words}
    return [word for word, variants in spellings.items() if any(v in content for v in variants)]


@pytest.fixture
def marked(write_ct, upright, tmp_path):
    return write_ct(tmp_path / "ct", upright, change=plant)


def test_the_search_finds_what_is_planted(marked):
    content = next(marked.iterdir()).read_bytes()
    assert set(found_in(content, WORDS)) == set(WORDS)


@pytest.mark.parametrize("write", [write_rtstruct, write_seg])
def test_nothing_but_patient_and_study_is_copied(write, marked, ring, upright, tmp_path):
    file = write(upright.image(ring), marked, tmp_path / "out.dcm", "IGTV µ")
    assert not found_in(file.read_bytes(), WORDS)
    dataset = dcmread(file)
    for keyword, value in (OWNER | STUDY).items():
        assert str(dataset[keyword].value) == value
    for element in dataset.iterall():
        if element.keyword not in OWNER | STUDY and element.VR not in ("SQ", "OB", "UI"):
            assert not re.search("4411|Philomena|Müller|5512|90817", str(element.value)), element.keyword
    assert not [element for element in dataset.iterall() if element.tag.is_private]


@pytest.mark.parametrize("write", [write_rtstruct, write_seg])
def test_anonymous(write, marked, ring, upright, tmp_path):
    original = dcmread(next(marked.iterdir()))
    file = write(upright.image(ring), marked, tmp_path / "out.dcm", anonymous="A 17")
    content, dataset = file.read_bytes(), dcmread(file)
    assert not found_in(content, [*WORDS, *OWNER.values(), *STUDY.values(), "Müller", "Philomena"])
    assert (dataset.PatientID, str(dataset.PatientName)) == ("A 17", "A 17")
    for path in marked.iterdir():
        image = dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            assert image[keyword].value.encode() not in content
    assert dataset.StudyInstanceUID != original.StudyInstanceUID


def test_anonymous_objects_of_one_series_belong_together(marked, ring, upright, read_independently, tmp_path):
    (series,) = find_series(marked, "CT")
    public = anonymised(series, "A17")
    rs = dcmread(write_rtstruct(upright.image(ring), public, tmp_path / "rs.dcm"))
    seg = dcmread(write_seg(upright.image(ring), public, tmp_path / "seg.dcm"))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert rs[keyword].value == seg[keyword].value
    study = rs.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    (referenced,) = study.RTReferencedSeriesSequence
    images = {image.ReferencedSOPInstanceUID for image in referenced.ContourImageSequence}
    assert len(images) == upright.size[2]
    assert {image.ReferencedSOPInstanceUID for image in seg.SourceImageSequence} == images
    assert anonymised(series, "A17").study_uid != rs.StudyInstanceUID
    points = np.concatenate([c.ContourData for c in rs.ROIContourSequence[0].ContourSequence])
    plain = dcmread(write_rtstruct(upright.image(ring), marked, tmp_path / "plain.dcm"))
    same = np.concatenate([c.ContourData for c in plain.ROIContourSequence[0].ContourSequence])
    assert (points == same).all()


def test_anonymous_and_extended_contradict_each_other(marked, ring, upright, tmp_path):
    old = write_rtstruct(upright.image(ring), marked, tmp_path / "old.dcm", "GTV")
    with pytest.raises(IGTVError, match="anonymously"):
        write_rtstruct(upright.image(ring), marked, tmp_path / "x.dcm", extend=old, anonymous="A17")
    with pytest.raises(IGTVError, match="backslash") as error:
        write_rtstruct(upright.image(ring), marked, tmp_path / "x.dcm", anonymous="A\\17")
    assert error.value.settings == ("anonymous",)


def test_commands_print_and_write_nothing_of_it(marked, ring, upright, tmp_path, capfd):
    import SimpleITK as sitk

    mask = tmp_path / "mask.nii.gz"
    sitk.WriteImage(upright.image(ring), str(mask))
    for kind in ("rtstruct", "seg"):
        for name, options in (("plain", []), ("public", ["--anonymous", "A17"])):
            output = tmp_path / f"{kind}_{name}.dcm"
            command = ["export", kind, str(mask), "--ct", str(marked), "-o", str(output), *options]
            assert main(command) == 0
            assert not found_in(output.read_bytes(), WORDS)
    assert main(["export", "rtstruct", str(mask), "--ct", str(marked), "-o", str(output)]) == 1
    printed = "".join(capfd.readouterr())
    assert not found_in(printed.encode(), [*WORDS, *OWNER.values(), *STUDY.values(), "Müller", "Philomena"])
