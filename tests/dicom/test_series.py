"""Slice order and geometry from positions, on stacks of any orientation; multi-frame objects; real files."""

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from pet_scan import Scan
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from nnunet_igtv import read_ct, read_pet
from nnunet_igtv.dicom.series import find_series, read_voxels
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.suv import suv_factors


def rotate(datasets, rotation):
    """Turn a stack of axial slices about the origin."""
    for dataset in datasets:
        for name in ("ImageOrientationPatient", "ImagePositionPatient"):
            vectors = np.array(dataset[name].value, float).reshape(-1, 3)
            setattr(dataset, name, [f"{v:.9f}" for v in (vectors @ rotation.T).ravel()])


@pytest.mark.parametrize("seed", range(4))
def test_any_orientation_and_file_order(seed, tmp_path, patient):
    """Voxel values lie where the positions of their own slice say, for rotations and mirrored stacks."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    study = patient()
    rotate(study.ct, rotation)
    rng.shuffle(study.ct)
    study.write(tmp_path)
    image = read_ct(tmp_path)
    for dataset in study.ct:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(20, 24).astype(int)
        row, column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        point = np.array(dataset.ImagePositionPatient, float) + 2 * 5 * row + 2 * 7 * column
        index = image.TransformPhysicalPointToIndex(point.tolist())
        assert image[index] == pixels[7, 5] - 1024
    assert np.linalg.det(np.array(image.GetDirection()).reshape(3, 3)) == pytest.approx(1)


def test_steps_at_bed_borders_pass_and_missing_slices_do_not(tmp_path, patient):
    study = patient()
    heights = np.cumsum([0, 3.27, 3.19, 3.27, 3.29, 3.27, 3.27, 3.19, 3.27])
    for dataset, z in zip(study.pet, heights, strict=True):
        dataset.ImagePositionPatient = [-2, -2, f"{z:.3f}"]
    study.write(tmp_path / "whole")
    assert read_pet(tmp_path / "whole").GetSpacing()[2] == pytest.approx(heights[-1] / 8)
    del study.pet[3]
    study.write(tmp_path / "gap")
    with pytest.raises(IGTVError, match=r"1 slice\(s\) missing between slices 3 and 4 of 8"):
        read_pet(tmp_path / "gap")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FrameOfReferenceUID", "1.2.3"),
        ("PixelSpacing", [2.1, 2.1]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.999, 0.0447]),
        ("ImageOrientationPatient", [1, 0, 0, 0, -1, 0]),
    ],
)
def test_an_end_of_the_stack_that_differs_is_not_left_out(name, value, count, tmp_path, patient):
    study = patient()
    for dataset in study.ct[-count:]:
        setattr(dataset, name, value)
    study.write(tmp_path)
    with pytest.raises(IGTVError, match=rf"{count} image\(s\) of the series are parallel") as error:
        read_ct(tmp_path)
    assert str(error.value.file).endswith(f"{10 - count:03d}.dcm")


def test_orientation_rounded_differently_from_slice_to_slice(tmp_path, patient):
    study = patient()
    for k, dataset in enumerate(study.ct):
        tiny = 0.0005 + 0.00001 * (-1) ** k
        dataset.ImageOrientationPatient = [1, tiny, 0, -tiny, 1, 0]
    study.write(tmp_path)
    assert read_ct(tmp_path).GetSize() == (24, 20, 10)


def test_single_slice_takes_its_thickness(tmp_path, patient):
    study = patient()
    del study.ct[1:]
    study.write(tmp_path)
    assert read_ct(tmp_path).GetSpacing() == (2, 2, 3)
    del study.ct[0].SliceThickness
    study.write(tmp_path)
    with pytest.raises(IGTVError, match="single slice without a thickness"):
        read_ct(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(IGTVError, match="no CT series"):
        read_ct(tmp_path)
    with pytest.raises(IGTVError, match="no such file or folder"):
        read_ct(tmp_path / "absent")


def enhanced(slices, sop_class):
    """The slices of a series as one multi-frame object (PS3.3 C.7.6.16), frames in shuffled order."""
    first = slices[0]
    whole = Dataset()
    whole.file_meta = first.file_meta
    for name in (
        "Modality",
        "PatientID",
        "PatientName",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "Rows",
        "Columns",
    ):
        setattr(whole, name, first[name].value)
    for name in ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"):
        setattr(whole, name, first[name].value)
    whole.PixelRepresentation = 0
    whole.SOPClassUID, whole.SOPInstanceUID = sop_class, generate_uid()
    whole.SeriesInstanceUID, whole.SeriesDate, whole.SeriesTime = generate_uid(), "20200102", "110000"
    whole.AcquisitionDateTime = "20200102110000"  # of the first frame
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    whole.SharedFunctionalGroupsSequence = [shared]
    frames = []
    order = np.random.default_rng(1).permutation(len(slices))
    for k in order:
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = slices[k].ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept = slices[k].RescaleSlope, slices[k].RescaleIntercept
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [values]
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence, whole.NumberOfFrames = frames, len(frames)
    whole.PixelData = b"".join(slices[k].PixelData for k in order)
    return whole


def test_enhanced_ct_equals_its_slices(tmp_path, patient):
    study = patient()
    study.write(tmp_path / "slices")
    study.ct = [enhanced(study.ct, "1.2.840.10008.5.1.4.1.1.2.1")]
    study.write(tmp_path / "frames")
    slices, frames = read_ct(tmp_path / "slices"), read_ct(tmp_path / "frames")
    assert np.array_equal(sitk.GetArrayFromImage(slices), sitk.GetArrayFromImage(frames))
    assert slices.GetOrigin() == frames.GetOrigin()
    assert slices.GetSpacing() == frames.GetSpacing()


def enhanced_pet(study, corrected="YES", unit="Bq/ml", slope=1.0):
    """The PET of a study as one enhanced object, in the words of PS3.3 A.56."""
    whole = enhanced(study.pet, "1.2.840.10008.5.1.4.1.1.130")
    whole.PatientWeight = study.pet[0].PatientWeight
    whole.AttenuationCorrected, whole.DecayCorrected = "YES", corrected
    if corrected == "YES":
        whole.DecayCorrectionDateTime = "20200102110000"
    whole.RadiopharmaceuticalInformationSequence = study.pet[0].RadiopharmaceuticalInformationSequence
    for frame in whole.PerFrameFunctionalGroupsSequence:
        content, mapping, code = Dataset(), Dataset(), Dataset()
        content.FrameAcquisitionDateTime, content.FrameAcquisitionDuration = "20200102110000", 180000.0
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", "a unit"
        mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 0.0
        mapping.MeasurementUnitsCodeSequence = [code]
        frame.FrameContentSequence, frame.RealWorldValueMappingSequence = [content], [mapping]
    return whole


@pytest.mark.parametrize("corrected", ["YES", "NO"])
def test_enhanced_pet_equals_its_slices(corrected, tmp_path, patient):
    study = patient()
    if corrected == "NO":
        for dataset in study.pet:
            dataset.DecayCorrection, dataset.CorrectedImage = "NONE", ["ATTN"]
    study.write(tmp_path / "slices")
    study.pet = [enhanced_pet(study, corrected)]
    study.write(tmp_path / "frames")
    slices, frames = read_pet(tmp_path / "slices"), read_pet(tmp_path / "frames")
    assert np.allclose(sitk.GetArrayFromImage(slices), sitk.GetArrayFromImage(frames), rtol=1e-6)


@pytest.mark.parametrize("of_the_file", [("AcquisitionDateTime",), ("AcquisitionDate", "AcquisitionTime")])
def test_enhanced_pet_of_two_beds(of_the_file, tmp_path, patient):
    """Each frame keeps the time of its own bed, whatever time the file has."""
    study = patient()
    beds = ["1100", "1120"]
    for k, dataset in enumerate(study.pet):
        dataset.DecayCorrection, dataset.CorrectedImage = "NONE", ["ATTN"]
        dataset.AcquisitionTime = f"{beds[k > 4]}00"
    study.write(tmp_path / "slices")
    whole, fifth = enhanced_pet(study, "NO"), study.pet[4].ImagePositionPatient[2]
    whole.AcquisitionDate, whole.AcquisitionTime = "20200102", "110000"
    for name in {"AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime"}.difference(of_the_file):
        delattr(whole, name)
    for frame in whole.PerFrameFunctionalGroupsSequence:
        bed = beds[frame.PlanePositionSequence[0].ImagePositionPatient[2] > fifth]
        frame.FrameContentSequence[0].FrameAcquisitionDateTime = f"20200102{bed}00"
    study.pet = [whole]
    study.write(tmp_path / "frames")
    slices, frames = read_pet(tmp_path / "slices"), read_pet(tmp_path / "frames")
    assert np.allclose(sitk.GetArrayFromImage(slices), sitk.GetArrayFromImage(frames), rtol=1e-6)


# what a PET needs to be converted, beside what `Scan` writes
OF_THE_CONVERSION = {
    "ImageType": ["ORIGINAL", "PRIMARY"],
    "SeriesType": ["WHOLE BODY", "IMAGE"],
    "StudyTime": "090000",
    "ContentDate": "20240305",
    "ContentTime": "100000",
    "ManufacturerModelName": "a model",
    "BodyPartExamined": "CHEST",
    "PatientPosition": "HFS",
    "PatientSex": "M",
}
MAY_BE_EMPTY = ("StudyID", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "Laterality")


@pytest.mark.parametrize("decay", ["START", "NONE", "ADMIN"])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_legacy_converted_pet_has_the_suv_of_its_slices(direction, decay, patient, tmp_path):
    """Beds scanned upwards or downwards: highdicom puts one Acquisition DateTime at the top of the file."""
    slices = patient().pet
    scan = Scan(decay=decay, beds_s=tuple(180.0 * k for k in range(len(slices)))[::direction])
    for dataset, header in zip(slices, scan.headers(), strict=True):
        dataset.update(header)
        for name, value in (OF_THE_CONVERSION | dict.fromkeys(MAY_BE_EMPTY, "")).items():
            setattr(dataset, name, value)
    whole = highdicom.legacy.LegacyConvertedEnhancedPETImage(slices, generate_uid(), 5, generate_uid(), 1)
    assert "AcquisitionDateTime" in whole
    whole.save_as(tmp_path / "whole.dcm", enforce_file_format=True)
    (series,) = find_series(tmp_path)
    assert suv_factors(series.headers).factors == pytest.approx(scan.factors, rel=2e-4)


def test_enhanced_pet_corrected_to_the_injection(tmp_path, patient):
    study = patient()
    for dataset in study.pet:
        dataset.DecayCorrection = "ADMIN"
    study.write(tmp_path / "slices")
    whole = enhanced_pet(study)
    whole.DecayCorrectionDateTime = "20200102100000"
    study.pet = [whole]
    study.write(tmp_path / "frames")
    slices, frames = read_pet(tmp_path / "slices"), read_pet(tmp_path / "frames")
    assert np.allclose(sitk.GetArrayFromImage(slices), sitk.GetArrayFromImage(frames), rtol=1e-6)


@pytest.mark.parametrize("unit", ["g/ml{SUVbw}", "{SUVbw}g/ml"])
def test_enhanced_pet_in_suv(unit, tmp_path, patient):
    study = patient()
    stored = np.stack([np.frombuffer(d.PixelData, "<u2").reshape(12, 14) for d in study.pet])
    study.pet = [enhanced_pet(study, unit=unit, slope=1e-4)]
    study.write(tmp_path)
    assert np.allclose(sitk.GetArrayFromImage(read_pet(tmp_path)), stored * 1e-4, rtol=1e-6)


@pytest.mark.parametrize("name", ["DecayCorrectionDateTime", "RealWorldValueIntercept"])
def test_enhanced_pet_without_what_dicom_requires(name, tmp_path, patient):
    study = patient()
    whole = enhanced_pet(study)
    whole.pop(name, None)
    for frame in whole.PerFrameFunctionalGroupsSequence:
        frame.RealWorldValueMappingSequence[0].pop(name, None)
    study.pet = [whole]
    study.write(tmp_path)
    with pytest.raises(IGTVError, match="missing"):
        read_pet(tmp_path)


def test_frames_that_are_not_there(tmp_path, patient):
    study = patient()
    study.ct = [enhanced(study.ct, "1.2.840.10008.5.1.4.1.1.2.1")]
    study.ct[0].NumberOfFrames, study.ct[0].PixelData = 4, study.ct[0].PixelData[: 4 * 2 * 20 * 24]
    study.write(tmp_path)
    with pytest.raises(IGTVError, match="number of frames"):
        read_ct(tmp_path)


# ------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize("series", ["IBSI_CT_LUNG", "STS_002/CT", "STS_002/PET"])
def test_real_series_equal_the_shipped_images(series, real):
    (found,) = find_series(real / series / "dicom" / "image")
    image = found.grid.image(read_voxels(found)[0])
    shipped = sitk.ReadImage(str(next((real / series / "nifti" / "image").iterdir())))
    assert image.GetSize() == shipped.GetSize()
    for ours, theirs in (
        (image.GetSpacing(), shipped.GetSpacing()),
        (image.GetOrigin(), shipped.GetOrigin()),
    ):
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert image.GetDirection() == pytest.approx(shipped.GetDirection(), abs=1e-6)
    assert np.allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(shipped), atol=1e-4)


@pytest.mark.parametrize(("folder", "why"), [("gantrytilting", "gantry tilt"), ("sliceincrement", "missing")])
def test_real_stacks_that_must_be_refused(folder, why, real):
    with pytest.raises(IGTVError, match=why):
        read_ct(real / "refuse" / folder)
