"""The source `4dct` on the phantom's 4D-CT: channel, label and motion are those of the truth."""

import json
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from nnunet_igtv.commands.main import main
from nnunet_igtv.dataset_conversion.convert import convert
from nnunet_igtv.dataset_conversion.motion import motion_report, position
from nnunet_igtv.dataset_conversion.pet_channel import pet_channel
from nnunet_igtv.export.rtstruct import write_rtstruct
from nnunet_igtv.grids import Grid
from nnunet_igtv.phantom.cohort import simulate_4d, write_cohort
from nnunet_igtv.phantom.four_d import SHIFT
from nnunet_igtv.prediction import choose_series, write_input
from nnunet_igtv.structures.rasterise import read_structure
from nnunet_igtv.studies.images import ct_volume, read_ct
from nnunet_igtv.studies.known import ReadingOptions

SEED, MATRIX, SLICES = 4, 32, 8


@pytest.fixture(scope="module")
def scan():
    return simulate_4d(SEED, 0, MATRIX, SLICES)[2]


def write(output, one_series=False):
    """The phantom with its PET moved into the 4D-CT's study, day and frame: no registration is needed."""
    (folder,) = write_cohort("4dct", 1, SEED, MATRIX, SLICES, output, one_series)
    target = pydicom.dcmread(next((folder / "AVERAGE").iterdir()))
    for file in (folder / "PETCT" / "PET").iterdir():
        image = pydicom.dcmread(file)
        for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
            setattr(image, name, target[name].value)
        for element in image.iterall():
            if element.VR in ("DA", "DT"):
                element.value = target.StudyDate + str(element.value)[8:]
        image.ImagePositionPatient = [v - s for v, s in zip(image.ImagePositionPatient, SHIFT, strict=True)]
        image.save_as(file)
    shutil.rmtree(folder / "PETCT" / "CT")
    return output


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("4dct"))


@pytest.fixture
def study(written, tmp_path):
    """A copy that a test may alter."""
    return shutil.copytree(written, tmp_path / "studies") / f"4DCT-{SEED}-000"


def converted(folder, raw, number=701, source="4dct", **options):
    raw.mkdir(exist_ok=True)
    done = convert(source, folder, number, name=f"D{number}", jobs=1, **options)
    assert not done.failures, [str(f) for f in done.failures]
    (case,) = done.converted
    files = ("imagesTr", f"{case}_0000"), ("imagesTr", f"{case}_0001"), ("labelsTr", case)
    arrays = [sitk.GetArrayFromImage(sitk.ReadImage(str(done.dataset / f / f"{n}.nii.gz"))) for f, n in files]
    record = json.loads((done.dataset / "conversion.json").read_text())
    return *arrays, record["cases"][case]


def refused(folder, raw, **options):
    raw.mkdir(exist_ok=True)
    done = convert("4dct", folder, 702, jobs=1, **options)
    assert not done.converted
    (failure,) = done.failures
    return str(failure)


def test_union_average_and_motion_are_the_truth(written, raw, scan):
    """The label equals the phantom's truth voxel for voxel."""
    ct, pet, label, record = converted(written, raw, structure="GTV_{phase}")
    assert (label == scan.structure).all()
    assert (ct == scan.average).all()
    assert pet.max() > 1
    assert record["ct_channel"] == "average of the phases"
    assert len(record["phases"]) == 10
    assert record["motion"]["igtv_ml"] == record["volume_ml"]
    assert record["motion"]["flags"] == []
    as_drawn = converted(written, raw, 704, structure="IGTV")
    assert (as_drawn[2] == scan.structure).all()
    assert "motion" not in as_drawn[3]


def test_all_phases_in_one_series_and_structures_by_reference(tmp_path, raw, scan):
    by_reference = converted(write(tmp_path / "s", True), raw, structure="GTV.*", union=True)
    assert (by_reference[2] == scan.structure).all()
    assert by_reference[3]["phases_told_by"] == "Image Comments"


def test_computed_average_maximum_and_a_phase(study, raw, scan):
    shutil.rmtree(study / "AVERAGE")
    (study / "RTSTRUCT" / "IGTV.dcm").unlink()
    ct, _, label, record = converted(study, raw, structure="GTV_{phase}")
    assert (ct == scan.average).all()
    assert (label == scan.structure).all()
    assert record["chosen"]["ct"] == "computed from the phases"
    ct, _, label, _ = converted(study, raw, 705, structure="GTV_{phase}", channel="maximum")
    assert (ct == np.max([phase.ct for phase in scan.phases], axis=0)).all()
    ct, _, label, record = converted(study, raw, 706, structure="GTV_{phase}", channel="30")
    assert (ct == scan.phases[3].ct).all()
    assert (label == scan.structure).all()  # of all phases, not of this one
    assert record["ct_channel"] == "phase 30 %"
    assert "no phase '35'" in refused(study, raw, structure="GTV_{phase}", channel="35")


def test_a_missing_phase_is_named_and_may_be_allowed(study, raw, scan):
    for file in (study / "4DCT" / "20").iterdir():
        file.unlink()
    why = refused(study, raw, structure="GTV_{phase}")
    assert "phase 20 % has no CT series" in why
    *_, label, record = converted(study, raw, structure="GTV_{phase}", min_phases=9)
    others = [phase.structure for phase in scan.phases if phase.percent != 20]
    assert (label == np.logical_or.reduce(others)).all()
    assert any("phase 20 % has no CT series" in w for w in record["warnings"])


def test_lucid_takes_the_average_for_an_igtv_drawn_on_a_phase(study, raw, scan):
    """One drawn on the average is as it was."""
    ct, _, label, record = converted(study, raw, source="lucid")
    assert (ct == scan.average).all()
    assert "ct_channel" not in record
    file = study / "RTSTRUCT" / "IGTV.dcm"
    drawn = pydicom.dcmread(file)
    phase = pydicom.dcmread(next((study / "4DCT" / "20").iterdir()))
    reference = drawn.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    reference.RTReferencedSeriesSequence[0].SeriesInstanceUID = phase.SeriesInstanceUID
    for contour in drawn.ROIContourSequence[0].ContourSequence:
        del contour.ContourImageSequence
    drawn.save_as(file)
    ct, _, label, record = converted(study, raw, 705, source="lucid")
    assert (ct == scan.average).all()
    assert (label == scan.structure).all()
    assert any("was drawn on phase 20 %" in warning for warning in record["warnings"])


def test_a_foreign_average_is_noticed(study, raw):
    for file in (study / "AVERAGE").iterdir():
        image = pydicom.dcmread(file)
        image.PixelData = (image.pixel_array + 100).astype("<u2").tobytes()
        image.save_as(file)
    *_, record = converted(study, raw, structure="GTV_{phase}")
    assert any("differs from the average of the phases by 100 HU" in w for w in record["warnings"])


def as_4d_lung(study, week):
    """The 4D-CT of a week as TCIA's 4D-Lung has it: no PET, no average, and contours of the type ORGAN with
    the phase in their names. All weeks have one frame of reference here."""

    def weekly(uid):
        return generate_uid(entropy_srcs=[uid, str(week)])

    for name in ("PETCT", "REG", "AVERAGE"):
        shutil.rmtree(study / name)
    (study / "RTSTRUCT" / "IGTV.dcm").unlink()
    for file in study.rglob("*.dcm"):
        image = pydicom.dcmread(file)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            image[name].value = weekly(image[name].value)
        if image.Modality == "RTSTRUCT":
            roi, observed = image.StructureSetROISequence[0], image.RTROIObservationsSequence[0]
            roi.ROIName = roi.ROIName.replace("GTV_", "Tumor_c")
            observed.RTROIInterpretedType = "ORGAN"
            for frame in image.ReferencedFrameOfReferenceSequence:
                series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
                series.SeriesInstanceUID = weekly(series.SeriesInstanceUID)
            for contour in image.ROIContourSequence[0].ContourSequence:
                del contour.ContourImageSequence
        image.save_as(file)


def test_headers_like_those_of_4d_lung(study, raw, scan):
    """Two weeks of one patient are two cases; without a PET only where that was said."""
    as_4d_lung(shutil.copytree(study, study.with_name("week 1")), 1)
    as_4d_lung(study, 0)
    raw.mkdir(exist_ok=True)
    options = {"structure": "Tumor_c{phase}", "jobs": 1}
    done = convert("4dct", study.parent, 707, name="L", **options)
    assert [f.what for f in done.failures] == ["no PET series in the study"] * 2
    done = convert("4dct", study.parent, 707, name="L", no_pet="missing", **options)
    assert (len(done.converted), done.failures) == (2, ())
    for case in done.converted:
        ct, label = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(done.dataset / name)))
            for name in (f"imagesTr/{case}_0000.nii.gz", f"labelsTr/{case}.nii.gz")
        )
        assert (ct == scan.average).all()
        assert (label == scan.structure).all()


def test_a_union_is_never_put_on_one_phase_by_chance(study, raw):
    """Of ten phases one is there, and the structures of all: `dicom-rt` would have united them on it."""
    shutil.rmtree(study / "AVERAGE")
    for folder in (study / "4DCT").iterdir():
        if folder.name != "30":
            shutil.rmtree(folder)
    raw.mkdir(exist_ok=True)
    done = convert("dicom-rt", study, 708, structure="GTV.*", union=True, jobs=1)
    assert "drawn on 10 CT series would be united on one of them, phase 30 %" in done.failures[0].what
    named = converted(study, raw, 709, "dicom-rt", structure="GTV.*", union=True, ct="phase:30")
    assert named[2].any()


def alter(folder, **values):
    for file in folder.iterdir():
        image = pydicom.dcmread(file)
        for name, value in values.items():
            setattr(image, name, value)
        image.save_as(file)


def other_spacing(study):
    alter(study / "4DCT" / "40", PixelSpacing=[10, 10])


def no_phase(study):
    for folder in (study / "4DCT").iterdir():
        alter(folder, SeriesDescription="thorax")


def a_phase_twice(study):
    alter(study / "4DCT" / "40", SeriesDescription="Gated, 30.0%B")


def contours_on_an_absent_phase(study):
    shutil.rmtree(study / "4DCT" / "90")
    for folder in (study / "4DCT").iterdir():  # not in equal steps: nothing is known to be missing
        if int(folder.name) % 20:
            shutil.rmtree(folder)


def contours_missing(study):
    (study / "RTSTRUCT" / "GTV_40.dcm").unlink()


def contours_twice(study):
    image = pydicom.dcmread(study / "RTSTRUCT" / "GTV_40.dcm")
    image.SOPInstanceUID = "1.2.3"
    image.StructureSetROISequence[0].ROIName = "GTV_040"
    contour = image.ROIContourSequence[0].ContourSequence[0]  # the same point by point would count once
    contour.ContourData[0] = float(contour.ContourData[0]) + 1
    image.save_as(study / "RTSTRUCT" / "again.dcm")


def lines_for_contours(study):
    file = study / "RTSTRUCT" / "GTV_40.dcm"
    image = pydicom.dcmread(file)
    for contour in image.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = "OPEN_PLANAR"
        points = max(3, contour.NumberOfContourPoints * 2 // 3)
        contour.NumberOfContourPoints, contour.ContourData = points, contour.ContourData[: 3 * points]
    image.save_as(file)


def a_slice_missing(study):
    sorted((study / "4DCT" / "40").iterdir())[3].unlink()


def no_structures(study):
    shutil.rmtree(study / "RTSTRUCT")


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (other_spacing, "phase 40 % has spacing (10, 10, 13.5) instead of (12, 12, 13.5)"),
        (no_phase, "no phases of the breath can be recognised"),
        (a_phase_twice, "phase 30 % has 2 CT series"),
        (contours_on_an_absent_phase, "structure 'GTV_90' is of no phase that is there"),
        (contours_missing, "phase 40 % has no structure"),
        (lines_for_contours, "phase 40 %: structure 'GTV_40': contours of the geometric type OPEN_PLANAR"),
        (contours_twice, "phase 40 % has 2 structures ('GTV_40', 'GTV_040')"),
        (a_slice_missing, "phase 40 %: 1 slice(s) missing"),
        (no_structures, "no structure set"),
    ],
)
def test_bad_input_is_refused_by_name(study, raw, fault, what):
    fault(study)
    why = refused(study, raw, structure="GTV_{phase}")
    assert what in why
    assert "4DCT-" not in why  # the patient's id


# -------------------------------------------------------------------------------------------- prediction


@pytest.mark.parametrize("made", [True, False], ids=["AveIP", "computed"])
def test_a_prediction_reads_the_average_and_its_contours_refer_to_it(study, tmp_path, scan, made):
    if not made:
        shutil.rmtree(study / "AVERAGE")
    options = ReadingOptions(ct="average")
    ct, pet = choose_series(study, options)
    write_input(ct_volume(ct.series), pet_channel(pet), tmp_path / "input", ".nii.gz")
    image = sitk.ReadImage(str(tmp_path / "input" / "STUDY_0000.nii.gz"))
    assert (sitk.GetArrayFromImage(image) == scan.average).all()
    mask = sitk.GetImageFromArray(scan.structure.astype(np.uint8))
    mask.CopyInformation(image)
    drawn = write_rtstruct(mask, ct.series, tmp_path / "igtv.dcm")
    again = read_structure(drawn, "IGTV", read_ct(study, ct="average"))
    assert (sitk.GetArrayFromImage(again) == scan.structure).all()
    again = read_structure(drawn, "IGTV", read_ct(study, ct="phase:70"))  # of the same frame of reference
    assert (sitk.GetArrayFromImage(again) == scan.structure).all()


# ------------------------------------------------------------------------------------------------ motion


def test_the_report_is_written_with_the_case_and_by_its_command(written, raw, tmp_path, capsys):
    *_, record = converted(written, raw, structure="GTV_{phase}")
    folder = raw / "Dataset701_D701" / "motion"
    assert sorted(file.name for file in folder.iterdir()) == ["D701_0001.json", "D701_0001.png"]
    report = json.loads((folder / "D701_0001.json").read_text())
    assert report == record["motion"]
    assert "4DCT" not in (folder / "D701_0001.json").read_text()  # the patient's id
    study = written / f"4DCT-{SEED}-000"
    assert main(["motion", str(study), "--structure", "GTV.*", "-o", str(tmp_path / "m")]) == 0
    assert "farthest phases" in capsys.readouterr().out
    assert json.loads((tmp_path / "m" / "motion.json").read_text()) == report
    picture = sitk.ReadImage(str(tmp_path / "m" / "motion.png"))
    assert picture.GetWidth() > 800
    (tmp_path / "m" / "motion.json").unlink()  # one of two is enough to be asked
    again = ["motion", str(study), "--structure", "GTV.*", "-o", str(tmp_path / "m")]
    assert main(again) == 1
    assert "motion.png" in (said := capsys.readouterr().err)
    assert "--overwrite" in said
    assert main([*again, "--overwrite"]) == 0
    assert main(["motion", str(study), "--structure", "PTV_{phase}"]) == 1
    assert "--structure" in capsys.readouterr().err


def test_inspect_shows_the_phases_in_a_table(written, capsys):
    assert main(["inspect", str(written)]) == 0
    printed = capsys.readouterr().out
    assert "phases told by Series Description" in printed
    row = next(line for line in printed.splitlines() if line.split()[:2] == ["40", "%"])
    assert row.split()[3:] == ["8", "12", "x", "12", "x", "13.5", "GTV_40"]


GRID = Grid((40, 40, 80), (1.0, 1.0, 1.0), (-20.0, 0.0, 5.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def ball(centre, radius=8):
    z, y, x = np.mgrid[:80, :40, :40]
    return (x - 20 - centre[0]) ** 2 + (y - 20 - centre[1]) ** 2 + (z - 40 - centre[2]) ** 2 <= radius**2


def report(centres, radii=None):
    masks = [ball(c, r) for c, r in zip(centres, radii or [8] * len(centres), strict=True)]
    positions = [position(f"{10 * k} %", mask, GRID) for k, mask in enumerate(masks)]
    return motion_report(positions, float(np.logical_or.reduce(masks).sum()) / 1000)


def breath(amplitude=20.0):
    """End-inhale at 0 %."""
    down = amplitude * np.sin(np.pi * (np.arange(10) / 10 + 0.5)) ** 6
    return [(0.0, -0.2 * d, -d) for d in down]


def test_displacements_along_the_axes_of_the_patient():
    found = report(breath())
    assert found["reference_phase"] == "50 %"
    first = found["phases"][0]
    assert first["displacement_mm"] == pytest.approx({"R-L": 0, "A-P": -4, "S-I": -20}, abs=0.2)
    assert first["volume_ml"] == pytest.approx(4 / 3 * np.pi * 8**3 / 1000, rel=0.02)
    assert found["peak_to_peak_mm"] == pytest.approx({"R-L": 0, "A-P": 4, "S-I": 20, "3D": 20.4}, abs=0.2)
    largest = max(phase["volume_ml"] for phase in found["phases"])
    assert found["igtv_over_largest_gtv"] == pytest.approx(found["igtv_ml"] / largest, abs=1e-3)
    assert found["flags"] == []


def test_the_phantoms_motion_is_found_to_half_a_millimetre():
    """On pixels of 2 mm and slices of 3 mm, for ten phases of five patients."""
    from nnunet_igtv.phantom.anatomy import Patient
    from nnunet_igtv.phantom.shapes import Centres

    for seed in range(5):
        patient = Patient.random(np.random.default_rng(seed))
        low = np.array(patient.tumour.centre) - patient.tumour.reach - (1, 8, 27)
        x, y, z = (
            start + np.arange(n) * step for start, n, step in zip(low, (60, 60, 40), (2, 2, 3), strict=True)
        )
        grid = Grid((60, 60, 40), (2.0, 2.0, 3.0), tuple(low), GRID.direction)
        points = Centres(x[None, None], y[None, :, None], z[:, None, None])
        shifts = [patient.breathing.tumour_shift((k / 10 + 0.5) % 1) for k in range(10)]
        masks = [patient.tumour.distance(points, shift) <= 0 for shift in shifts]
        found = motion_report([position(f"{10 * k} %", m, grid) for k, m in enumerate(masks)], 1.0)
        for phase, shift in zip(found["phases"], shifts, strict=True):
            assert list(phase["displacement_mm"].values()) == pytest.approx(shift - shifts[5], abs=0.5)
        assert found["flags"] == []


def test_a_large_smooth_motion_is_no_jump_and_one_bad_contour_is():
    assert report(breath(28.0))["flags"] == []
    centres = breath()
    centres[6] = (0.0, 0.0, 16.0)
    (flag,) = report(centres)["flags"]
    assert flag.startswith("the centroid jumps at phase 60 %")


def test_volumes_that_differ_by_a_factor_are_named():
    assert report(breath(), [8] * 9 + [9])["flags"] == []
    (flag,) = report(breath(), [8] * 9 + [11])["flags"]
    assert "phase 90 % has" in flag
