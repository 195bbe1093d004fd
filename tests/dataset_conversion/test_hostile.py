"""Mutated studies: each ends in one clear error or the correct result; the other patient is unharmed."""

import shutil
from copy import deepcopy
from dataclasses import dataclass

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from nnunet_igtv.commands.main import main

MUTATIONS = {}


@dataclass(frozen=True)
class Mutation:
    apply: object
    error: str | None
    on_disk: bool


def mutation(error=None, on_disk=False):
    """Register a mutation of patient a; `error` is part of the message, None where the result is right."""

    def register(function):
        assert function.__name__ not in MUTATIONS
        MUTATIONS[function.__name__] = Mutation(function, error, on_disk)
        return function

    return register


def each(datasets, **values):
    for dataset in datasets:
        for name, value in values.items():
            setattr(dataset, name, value)


def without(datasets, name):
    for dataset in datasets:
        delattr(dataset, name)


# ------------------------------------------------------------------------ files: names, order, foreign bodies


@mutation(on_disk=True)
def shuffled_file_names(folder, a, dicom):
    """One folder for CT, PET and structure set, the files in an order that says nothing."""
    files = sorted(folder.rglob("*.dcm"))
    for k, number in enumerate(np.random.default_rng(0).permutation(len(files))):
        files[number].rename(folder / f"{k:02d}")


@mutation()
def reversed_instance_numbers(a, dicom):
    for k, dataset in enumerate(a.ct):
        dataset.InstanceNumber, dataset.SliceLocation = 100 - k, -k


@mutation(on_disk=True)
def other_files_among_them(folder, a, dicom):
    (folder / "CT" / "notes.txt").write_text("not DICOM")
    (folder / "CT" / "zero").write_bytes(b"")
    (folder / "PET" / "thumb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "empty").mkdir()
    (folder / "loop").symlink_to(folder)


@mutation(on_disk=True)
def series_in_a_linked_folder(folder, a, dicom):
    (folder / "CT").rename(folder / "archive")
    (folder / "CT").symlink_to("archive")


@mutation(on_disk=True)
def what_macos_adds(folder, a, dicom):
    (folder / "CT" / "._000.dcm").write_bytes(b"")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "000.dcm").write_bytes(b"")


@mutation(on_disk=True, error="has the SOP Instance UID (0008,0018) of 000.dcm")
def corrected_structure_set_beside_the_one_before(folder, a, dicom):
    (folder / "corrected").mkdir()
    a.contours[0].ContourData[0] = "14.0000"
    a.rt[0].save_as(folder / "corrected" / "set.dcm", enforce_file_format=True)


@mutation(on_disk=True)
def series_copied_twice(folder, a, dicom):
    shutil.copytree(folder / "CT", folder / "backup" / "CT")
    shutil.copytree(folder / "RT", folder / "backup" / "RT")


@mutation(on_disk=True)
def no_preamble(folder, a, dicom):
    for file in (folder / "CT").iterdir():
        dataset = pydicom.dcmread(file)
        del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(file, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)


@mutation(on_disk=True)
def big_endian(folder, a, dicom):
    for file in (folder / "CT").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset["PixelData"].VR = "OW"
        pydicom.dcmwrite(file, dataset, implicit_vr=False, little_endian=False, enforce_file_format=False)


@mutation()
def implicit_vr(a, dicom):
    for dataset in a.all:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


@mutation()
def compressed_rle(a, dicom):
    for dataset in a.ct + a.pet:
        dataset.compress(RLELossless, generate_instance_uid=False)


@mutation()
def compressed_jpeg_ls(a, dicom):
    for dataset in a.ct + a.pet:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        dataset.PixelData = encapsulate([imagecodecs.jpegls_encode(pixels)])
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        dataset["PixelData"].VR = "OB"


@mutation()
def compressed_jpeg_lossless(a, dicom):
    """What most archives store, and pydicom cannot decode alone."""
    for dataset in a.ct + a.pet:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        dataset.PixelData = encapsulate([imagecodecs.ljpeg_encode(pixels, bitspersample=16)])
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        dataset["PixelData"].VR = "OB"


@mutation()
def compressed_jpeg_2000(a, dicom):
    for dataset in a.ct + a.pet:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        code = imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0)
        dataset.PixelData = encapsulate([code])
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset["PixelData"].VR = "OB"


@mutation(error="unreadable DICOM file", on_disk=True)
def empty_file(folder, a, dicom):
    (folder / "CT" / "004.dcm").write_bytes(b"")


@mutation(error="unreadable DICOM file", on_disk=True)
def garbage_after_preamble(folder, a, dicom):
    (folder / "CT" / "004.dcm").write_bytes(bytes(128) + b"DICM" + bytes(range(256)) * 20)


@mutation(error="missing between slices", on_disk=True)
def garbage_without_preamble(folder, a, dicom):
    (folder / "CT" / "004.dcm").write_bytes(bytes(reversed(range(256))) * 20)


@mutation(error="pixel data cannot be read", on_disk=True)
def truncated_in_pixels(folder, a, dicom):
    file = folder / "PET" / "003.dcm"
    file.write_bytes(file.read_bytes()[:-50])


@mutation(error="unreadable DICOM file", on_disk=True)
def truncated_in_header(folder, a, dicom):
    file = folder / "CT" / "005.dcm"
    file.write_bytes(file.read_bytes()[:700])


@mutation(error="unreadable DICOM file", on_disk=True)
def truncated_in_preamble(folder, a, dicom):
    file = folder / "CT" / "005.dcm"
    file.write_bytes(file.read_bytes()[:140])


@mutation(error="no structure", on_disk=True)
def rtstruct_is_a_text_file(folder, a, dicom):
    (folder / "RT" / "000.dcm").write_text("RTSTRUCT")


# -------------------------------------------------------------------------------------------- missing parts


@mutation(error="no PET series")
def pet_missing(a, dicom):
    a.pet.clear()


@mutation(error="no CT series")
def ct_missing(a, dicom):
    a.ct.clear()


@mutation(error="no structure set")
def rtstruct_missing(a, dicom):
    a.rt.clear()


@mutation(error="no PET series")
def pet_says_ct(a, dicom):
    each(a.pet, Modality="CT")


@mutation(error="1 slice(s) missing")
def ct_slice_missing(a, dicom):
    del a.ct[4]


@mutation(error="2 slice(s) missing")
def pet_slices_missing(a, dicom):
    del a.pet[4:6]


# ------------------------------------------------------------------------------------------------- geometry


@mutation()
def localizer_in_the_series(a, dicom):
    scout = dicom.image("CT", "a", 99, np.zeros((20, 24)), (2, 2, 3), (0, 0, 0))
    scout.ImageType, scout.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], [1, 0, 0, 0, 0, -1]
    a.ct.append(scout)


@mutation()
def unlabelled_scout_in_the_series(a, dicom):
    scout = dicom.image("CT", "a", 99, np.zeros((20, 24)), (2, 2, 3), (0, 0, 0))
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    a.ct.append(scout)


@mutation()
def slice_saved_twice_under_another_uid(a, dicom):
    twin = deepcopy(a.ct[3])
    twin.SOPInstanceUID = generate_uid()
    a.ct.append(twin)


@mutation(error="different pixels at one slice position")
def two_phases_in_one_series(a, dicom):
    for k in range(10):
        a.ct.append(dicom.image("CT", "a", k, np.full((20, 24), 7), (2, 2, 3), (0, 0, 0)))
        a.ct[-1].SOPInstanceUID = generate_uid()


@mutation(error="gantry tilt")
def gantry_tilt(a, dicom):
    for k, dataset in enumerate(a.ct):
        dataset.ImagePositionPatient = [0, 0.6 * k, 3 * k]


@mutation(error="stacks of different orientation")
def two_stacks_in_one_series(a, dicom):
    each(a.ct[5:], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])


@mutation(error="ImagePositionPatient")
def position_missing(a, dicom):
    without(a.ct[2:3], "ImagePositionPatient")


@mutation(error="ImagePositionPatient")
def position_with_two_values(a, dicom):
    a.ct[2].ImagePositionPatient = [0, 0]


@mutation(error="ImagePositionPatient")
def position_is_text(a, dicom):
    a.ct[2].add_new("ImagePositionPatient", "LO", ["left", "of", "centre"])


@mutation(error="ImagePositionPatient")
def position_not_finite(a, dicom):
    a.ct[2].add_new("ImagePositionPatient", "LO", ["0", "0", "inf"])


@mutation(error="perpendicular unit vectors")
def orientation_not_orthogonal(a, dicom):
    each(a.ct, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])


@mutation(error="PixelSpacing")
def spacing_missing(a, dicom):
    without(a.ct, "PixelSpacing")


@mutation(error="not positive")
def spacing_zero(a, dicom):
    each(a.pet, PixelSpacing=[0, 0])


@mutation(error="Rows")
def zero_rows(a, dicom):
    each(a.ct, Rows=0)


@mutation(error="pixel data cannot be read")
def rows_beyond_the_pixels(a, dicom):
    each(a.ct, Rows=60000)


@mutation(error="pixel data cannot be read")
def bits_allocated_missing(a, dicom):
    a.ct[1]["PixelData"].VR = "OW"
    without(a.ct[1:2], "BitsAllocated")


@mutation(error="colour image")
def colour_slices(a, dicom):
    for dataset in a.ct:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelData = 7, bytes(20 * 24 * 3)


@mutation(error="no frame of reference in common")
def pet_in_another_frame(a, dicom):
    each(a.pet, FrameOfReferenceUID=generate_uid())


@mutation(error="no frame of reference in common")
def frames_of_reference_empty(a, dicom):
    each(a.pet, FrameOfReferenceUID="")


@mutation(error="different frames of reference")
def structure_in_another_frame(a, dicom):
    a.rois[0].ReferencedFrameOfReferenceUID = generate_uid()


@mutation(error="do not overlap")
def pet_elsewhere(a, dicom):
    for k, dataset in enumerate(a.pet):
        dataset.ImagePositionPatient = [-2, -2, 5000 + 4 * k]


@mutation(error="of the structure lies outside of the PET")
def pet_ends_above_the_structure(a, dicom):
    for k, dataset in enumerate(a.pet):
        dataset.ImagePositionPatient = [-2, -2, 14 + 4 * k]


# --------------------------------------------------------------------------------------- several of a kind


@mutation()
def second_ct_with_more_slices(a, dicom):
    uid = generate_uid()
    for k in range(14):
        a.ct.append(dicom.image("CT", "a", 50 + k, np.zeros((20, 24)), (2, 2, 3), (0, 0, -200)))
        a.ct[-1].SeriesInstanceUID = uid


@mutation()
def second_pet_without_attenuation_correction(a, dicom):
    uid = generate_uid()
    for k in range(12):
        twin = deepcopy(a.pet[min(k, 8)])
        twin.SOPInstanceUID, twin.SeriesInstanceUID = generate_uid(), uid
        twin.ImagePositionPatient, twin.CorrectedImage = [-2, -2, 4 * k - 2], ["DECY"]
        a.pet.append(twin)


@mutation(error="2 structures in 2 structure set(s)")
def second_structure_set(a, dicom):
    twin = deepcopy(a.rt[0])
    twin.SOPInstanceUID = generate_uid()
    contour = twin.ROIContourSequence[0].ContourSequence[0]  # the same point by point would count once
    contour.ContourData[0] = float(contour.ContourData[0]) + 1
    a.rt.append(twin)


@mutation(error="objects of 2 patients")
def study_shared_with_another_patient(a, dicom):
    each(a.pet, PatientID="SOMEBODY")


@mutation()
def rtstruct_without_the_patients_id(a, dicom):
    a.rt[0].PatientID = ""


@mutation()
def image_without_the_patients_id_and_name(a, dicom):
    a.pet[3].PatientID = a.pet[3].PatientName = ""


@mutation(error="objects of 2 patients")
def series_of_somebody_without_an_id(a, dicom):
    each(a.pet, PatientID="", PatientName="Anders^Otto")


@mutation()
def rtstruct_under_another_study(a, dicom):
    a.rt[0].StudyInstanceUID = generate_uid()


# ---------------------------------------------------------------------------------------------- structures


@mutation(error="no structure matches 'IGTV'; there are: 'GTV'")
def no_structure_of_that_name(a, dicom):
    a.rois[0].ROIName = "GTV"


@mutation(error="no structure matches 'IGTV'; there are: 'ITV', 'PTV_IGTV'")
def itv_is_not_igtv(a, dicom):
    a.rois[0].ROIName = "ITV"
    dicom.add_roi(a.rt[0], "PTV_IGTV", list(a.contours))


@mutation()
def structure_named_after_the_patient(a, dicom):
    dicom.add_roi(a.rt[0], "Mustera", [])
    a.rois[0].ROIName = "IGTV"


@mutation(error="2 structures")
def two_structures_of_that_name(a, dicom):
    dicom.add_roi(a.rt[0], "igtv", list(a.contours))


@mutation()
def name_in_other_letters(a, dicom):
    a.rois[0].ROIName = " i-Gtv_ "


@mutation()
def neighbours_with_similar_names(a, dicom):
    for name in ("ITV", "IGTV-PTV", "GTV", "IGTV_old", "xIGTV"):
        dicom.add_roi(a.rt[0], name, [dicom.contour(dicom.square(0, 0, 10, 10, 9))])


@mutation()
def structure_listed_without_contours(a, dicom):
    dicom.add_roi(a.rt[0], "IGTV", [])
    roi = Dataset()
    roi.ROINumber, roi.ROIName = 77, "IGTV"
    a.rois.append(roi)


@mutation(error="no closed contours")
def only_structure_without_contours(a, dicom):
    del a.rt[0].ROIContourSequence


@mutation(error="no closed contours")
def points_instead_of_contours(a, dicom):
    each(a.contours, ContourGeometricType="POINT")


@mutation()
def no_contour_image_sequence(a, dicom):
    without(a.contours, "ContourImageSequence")


@mutation()
def references_to_absent_images(a, dicom):
    for item in a.contours:
        item.ContourImageSequence[0].ReferencedSOPInstanceUID = generate_uid()
    frame = a.rt[0].ReferencedFrameOfReferenceSequence[0]
    frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()


@mutation()
def contours_repeated(a, dicom):
    a.contours.append(dicom.contour(dicom.square(15, 13, 27, 23, 9)))


@mutation(error="no closed contours")
def contour_refers_to_no_number(a, dicom):
    without(a.rt[0].ROIContourSequence, "ReferencedROINumber")


@mutation(error="triples of numbers")
def contour_of_two_and_a_half_points(a, dicom):
    a.contours[1].ContourData = list(a.contours[1].ContourData)[:-1]


@mutation(error="does not lie in a slice")
def contour_across_slices(a, dicom):
    a.contours[1] = dicom.contour([15, 13, 0, 27, 13, 12, 27, 23, 12, 15, 23, 0])


@mutation(error="covers no voxel")
def structure_beyond_the_image(a, dicom):
    for k in range(4):
        a.contours[k] = dicom.contour(dicom.square(15, 13, 27, 23, 900 + 3 * k))


@mutation(error="covers no voxel")
def structure_between_voxel_centres(a, dicom):
    for k in range(4):
        a.contours[k] = dicom.contour(dicom.square(14.5, 12.5, 15.5, 13.5, 9 + 3 * k))


# -------------------------------------------------------------------------------------------------- values


@mutation(error="RescaleSlope")
def ct_slope_not_a_number(a, dicom):
    a.ct[3].add_new("RescaleSlope", "LO", "nan")


@mutation(error="not finite")
def nan_pixels(a, dicom):
    pixels = np.zeros((20, 24), "<f4")
    pixels[3, 4] = np.nan
    dataset = a.ct[3]
    del dataset.PixelData
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
    dataset.FloatPixelData = pixels.tobytes()


@mutation(error="Rescale Slope (0028,1053) is 0, and the slice is not empty")
def pet_slope_zero(a, dicom):
    a.pet[2].RescaleSlope = 0


@mutation(error="rescale intercept")
def pet_with_an_intercept(a, dicom):
    each(a.pet, RescaleIntercept=-5)


@mutation()
def pet_slopes_differ(a, dicom):
    for k, dataset in enumerate(a.pet):
        values = np.frombuffer(dataset.PixelData, "<u2") // (1 + k % 2) * (1 + k % 2)
        a.pet[k].PixelData = (values // (1 + k % 2)).astype("<u2").tobytes()
        dataset.RescaleSlope = 1 + k % 2


@mutation(error="weight (0010,1030) is missing or 0")
def weight_missing(a, dicom):
    without(a.pet, "PatientWeight")


@mutation(error="weight (0010,1030) is missing or 0")
def weight_zero(a, dicom):
    each(a.pet, PatientWeight=0)


@mutation()
def weight_in_grams(a, dicom):
    each(a.pet, PatientWeight=70000)


@mutation(error="injected activity (0018,1074) is missing or 0")
def dose_zero(a, dicom):
    each(a.injection, RadionuclideTotalDose=0)


@mutation()
def dose_in_mbq(a, dicom):
    each(a.injection, RadionuclideTotalDose=370)


@mutation(error="half-life")
def half_life_missing(a, dicom):
    without(a.injection, "RadionuclideHalfLife")


@mutation(error="SPECT")
def lutetium_spect_as_pet(a, dicom):
    each(a.injection, RadionuclideHalfLife=574300)


@mutation(error="Radiopharmaceutical Information Sequence")
def no_radiopharmaceutical(a, dicom):
    without(a.pet, "RadiopharmaceuticalInformationSequence")


@mutation(error="units CPS")
def counts_per_second(a, dicom):
    each(a.pet, Units="CPS")


@mutation(error="neither Philips factor")
def counts_without_a_factor(a, dicom):
    each(a.pet, Units="CNTS")


@mutation(error="decay correction missing")
def decay_correction_missing(a, dicom):
    without(a.pet, "DecayCorrection")


@mutation(error="not attenuation corrected")
def no_attenuation_correction(a, dicom):
    each(a.pet, CorrectedImage=["DECY", "SCAT"])


@mutation(error="no injection time")
def injection_time_missing(a, dicom):
    for item in a.injection:
        item.RadiopharmaceuticalStartTime = item.RadiopharmaceuticalStartDateTime = None


@mutation()
def injection_date_shifted(a, dicom):
    each(a.injection, RadiopharmaceuticalStartDateTime="20200103100000")


@mutation()
def dates_removed(a, dicom):
    each(a.all, SeriesDate="", StudyDate="", AcquisitionDate="")
    without(a.injection, "RadiopharmaceuticalStartDateTime")


@mutation(error="no acquisition time")
def acquisition_time_missing(a, dicom):
    without(a.pet, "AcquisitionTime")


@mutation()
def path_traversal_in_names(a, dicom):
    each(a.all, PatientID="../../../escape", PatientName="../../x^y", StudyDescription="/etc/passwd")
    each(a.all, SeriesDescription="../../../../tmp/escape", StudyID="../..")


@mutation()
def bogus_character_set(a, dicom):
    each(a.all, SpecificCharacterSet="ISO_IR 9999")


# -------------------------------------------------------------------------------------------------- the test


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_input(name, tmp_path, raw, read, patient, dicom, capfd):
    mutation = MUTATIONS[name]
    a, b = patient("a"), patient("bb")
    clean = {key: p.ct[0].PixelData for key, p in (("a", a), ("bb", b))}
    hu = np.stack([np.frombuffer(d.PixelData, "<u2").reshape(20, 24) for d in a.ct]).astype(float) - 1024
    activity = np.frombuffer(a.pet[4].PixelData, "<u2").reshape(12, 14).astype(float)
    if not mutation.on_disk:
        mutation.apply(a, dicom)
    source = tmp_path / "cohort"
    a.write(source / "one")
    b.write(source / "two")
    if mutation.on_disk:
        mutation.apply(source / "one", a, dicom)
    before = {p for p in tmp_path.rglob("*") if raw not in p.parents}

    status = main(["convert", "lucid", str(source), "-d", "900", "-j", "1"])
    printed = capfd.readouterr()
    folder = raw / "Dataset900_LUCID"
    labels = sorted((folder / "labelsTr").iterdir())
    rows = (raw / "Dataset900_LUCID_manifest.csv").read_text()
    sound = next(row.split(",")[0] for row in rows.splitlines() if "Musterbb" not in row and "MRNbb77" in row)

    # nothing outside of the dataset, nothing half-written, no identity anywhere but in the manifest
    assert {p for p in tmp_path.rglob("*") if raw not in p.parents} - {raw} == before
    assert {p.name for p in folder.iterdir()} == {"imagesTr", "labelsTr", "dataset.json", "conversion.json"}
    for text in (
        printed.out,
        printed.err,
        (folder / "conversion.json").read_text(),
        (folder / "dataset.json").read_text(),
    ):
        assert not any(secret in text for secret in ("MRN", "Muster", "Erika", "20200102", "escape"))

    # the other patient
    label = read(folder / "labelsTr" / f"{sound}.nii.gz")
    assert label.sum() == 4 * 6 * 5
    assert clean["bb"] != clean["a"]
    if mutation.error is not None:
        assert status == 1
        assert len(labels) == 1
        assert len(list((folder / "imagesTr").iterdir())) == 2
        assert mutation.error in printed.err
        assert "Traceback" not in printed.err
        assert "unexpected" not in printed.err
        assert printed.err.count("LUCID_000") == 1
        return
    assert status == 0, printed.err
    assert len(labels) == 2
    (case,) = {p.name.removesuffix(".nii.gz") for p in labels} - {sound}
    label = read(folder / "labelsTr" / f"{case}.nii.gz")
    truth = np.zeros((10, 20, 24))
    truth[3:7, 7:12, 8:14] = 1
    assert np.array_equal(label, truth)
    assert np.array_equal(read(folder / "imagesTr" / f"{case}_0000.nii.gz"), hu)
    pet = read(folder / "imagesTr" / f"{case}_0001.nii.gz")
    factor = 70000 / (370e6 * 0.5 ** (3600 / 6586.2))
    # CT voxel (1, 1) of slice 5 lies at (2, 2, 15): PET index (1, 1, 4.25) of slices 14 and 18 mm
    upper = np.frombuffer(patient("a").pet[5].PixelData, "<u2").reshape(12, 14).astype(float)
    tolerance = 2 if name == "pet_slopes_differ" else 1e-3
    wanted = 0.75 * activity[1, 1] + 0.25 * upper[1, 1]
    assert pet[5, 1, 1] / factor == pytest.approx(wanted, abs=max(tolerance, 1e-6 * wanted))


@pytest.mark.parametrize("seed", [43, 70, 103, 7, 8, 9])
def test_random_damage_never_harms_the_other_patient(seed, tmp_path, raw, patient, capfd):
    """A few bytes of three headers overwritten: refused by name, or converted all the same."""
    rng = np.random.default_rng(seed)
    patient("a").write(tmp_path / "cohort" / "one")
    patient("bb").write(tmp_path / "cohort" / "two")
    files = sorted((tmp_path / "cohort" / "one").rglob("*.dcm"))
    for file in rng.choice(len(files), 3, replace=False):
        content = bytearray(files[file].read_bytes())
        for position in rng.integers(132, min(len(content), 1800), 4):
            content[position] = rng.integers(256)
        files[file].write_bytes(content)
    status = main(["convert", "lucid", str(tmp_path / "cohort"), "-d", "900", "-j", "1"])
    printed = capfd.readouterr().err
    converted = len(list((raw / "Dataset900_LUCID" / "labelsTr").iterdir()))
    assert converted == (2 if status == 0 else 1)
    assert "unexpected" not in printed


def test_unknown_value_representation(tmp_path, raw, patient, capfd):
    patient("a").write(tmp_path / "cohort")
    file = tmp_path / "cohort" / "CT" / "003.dcm"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00Uq"))
    assert content != file.read_bytes()
    assert main(["convert", "lucid", str(tmp_path / "cohort"), "-d", "900", "-j", "1"]) == 1
    assert "Rows is missing or is not 1 finite number" in capfd.readouterr().err
