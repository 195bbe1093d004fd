"""SUV factors: every rule against the physics computed here, the reference objects, and real headers."""

import json
from copy import deepcopy

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset

from nnunet_igtv import read_pet
from nnunet_igtv.dicom.series import find_series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.phantom.cohort import write_cohort
from nnunet_igtv.suv import suv_factors

DOSE, HALF_LIFE, WEIGHT = 370e6, 6586.2, 70.0
CONSTANT = np.log(2) / HALF_LIFE


def factor(seconds):
    """Weight over the activity left some seconds after injection."""
    return WEIGHT * 1000 / (DOSE * np.exp(-CONSTANT * seconds))


@pytest.fixture
def headers(patient):
    """headers(**attributes): the PET headers of a study with attributes changed; None removes one."""

    def change(**attributes):
        headers = [deepcopy(d) for d in patient().pet]
        for header in headers:
            information = header.RadiopharmaceuticalInformationSequence[0]
            for name, value in attributes.items():
                target = information if name.startswith("Radi") else header
                target.pop(name, None)
                if value is not None:
                    setattr(target, name, value)
        return headers

    return change


def test_series_time(headers):
    result = suv_factors(headers())
    assert result.factor == pytest.approx(factor(3600), rel=1e-9)
    assert result.rule == "units BQML, series time"
    assert not result.warnings


def test_a_processed_series_whose_frames_count_from_before_the_beds(headers):
    """Created after the scan, so that its time is not the reference; the beds run, and their frames agree."""
    average = np.log(CONSTANT * 180 / (1 - np.exp(-CONSTANT * 180))) / CONSTANT
    processed = headers(SeriesTime="150000")
    for k, header in enumerate(processed):
        header.AcquisitionTime = f"11{3 * k:02d}00"
        header.FrameReferenceTime = f"{(average + 600 + 180 * k) * 1000:.6f}"
    result = suv_factors(processed)
    assert result.rule == "units BQML, acquisition time and frame reference time per slice"
    assert result.factor == pytest.approx(factor(3600 - 600), rel=1e-6)


def test_ge_scan_time(headers):
    processed = headers(SeriesTime="150000")
    for header in processed:
        header.add_new((0x0009, 0x100D), "LO", "20200102105900.00")
    result = suv_factors(processed)
    assert result.rule == "units BQML, GE scan time (0009,100D)"
    assert result.factor == pytest.approx(factor(3540), rel=1e-9)


def test_earliest_acquisition_time_is_the_last_resort(headers):
    processed = headers(SeriesTime="150000", FrameReferenceTime=None)
    processed[4].AcquisitionTime = "105000"
    result = suv_factors(processed)
    assert result.rule == "units BQML, earliest acquisition time"
    assert result.factor == pytest.approx(factor(3000), rel=1e-9)
    (warning,) = result.warnings
    assert "10:50:00, which is right if no bed before it was left out" in warning


def test_admin_is_not_corrected_twice(headers):
    assert suv_factors(headers(DecayCorrection="ADMIN")).factor == pytest.approx(factor(0), rel=1e-12)


def test_uncorrected_slices_decay_each_by_its_own_time(headers):
    uncorrected = headers(DecayCorrection="NONE", CorrectedImage=["ATTN"])
    for k, header in enumerate(uncorrected):
        header.AcquisitionTime = f"11{3 * k:02d}00"
    result = suv_factors(uncorrected)
    # the mean activity over each 180 s frame, by summation
    t = np.linspace(0, 180, 200_001)
    for k, value in enumerate(result.factors):
        mean = np.exp(-CONSTANT * (3600 + 180 * k + t)).mean()
        assert value == pytest.approx(WEIGHT * 1000 / (DOSE * mean), rel=1e-7)


def test_philips_counts(headers):
    counts = headers(Units="CNTS")
    for header in counts:
        header.add_new((0x7053, 0x1009), "DS", "2.5")
    assert suv_factors(counts).factor == pytest.approx(2.5 * factor(3600), rel=1e-9)
    for header in counts:
        header.add_new((0x7053, 0x1000), "UN", b"0.0005 ")  # as implicit VR leaves it
    assert suv_factors(counts).factor == 0.0005
    (warning,) = suv_factors(counts).warnings
    share = 0.0005 / (2.5 * factor(3600))
    assert f"gives {share:.3g} times the SUV of Philips activity (7053,1009)" in warning


def test_philips_factors_that_agree_or_cannot_be_compared(headers):
    counts = headers(Units="CNTS")
    for header in counts:
        header.add_new((0x7053, 0x1009), "DS", "2.5")
        header.add_new((0x7053, 0x1000), "DS", f"{2.5 * factor(3600):.8g}")
    assert not suv_factors(counts).warnings
    for header in counts:
        header.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = None
        header.RadiopharmaceuticalInformationSequence[0].RadionuclideHalfLife = None
    assert not suv_factors(counts).warnings


def test_philips_factors_do_not_count_where_units_are_activity(headers):
    both = headers()
    for header in both:
        header.add_new((0x7053, 0x1000), "DS", "0.0005")
    assert suv_factors(both).factor == pytest.approx(factor(3600), rel=1e-9)


# body measures of 70 kg and 175 cm, by hand: kg, and cm2 for BSA
MASSES = {
    ("IBW", "M"): 72.38,
    ("IBW", "F"): 66.43,
    ("IBW", "O"): 69.405,
    ("LBM", "M"): 57.8,
    ("LBM", "F"): 51.22,
    ("LBMJAMES128", "M"): 56.52,
    ("LBMJAMES128", "F"): 51.22,
    ("LBMJAMES128", "O"): 53.87,
    ("LBMJANMA", "M"): 9270 * 70 / (6680 + 216 * 70 / 1.75**2),
    ("LBMJANMA", "F"): 9270 * 70 / (8780 + 244 * 70 / 1.75**2),
}


@pytest.mark.parametrize(("kind", "sex"), MASSES)
def test_suvs_of_other_masses(kind, sex, headers):
    result = suv_factors(headers(Units="GML", SUVType=kind, PatientSize=1.75, PatientSex=sex))
    assert result.factor == pytest.approx(70 / MASSES[kind, sex], rel=1e-9)
    assert bool(result.warnings) == (sex == "O" or (kind, sex) == ("LBM", "M"))


def test_suvs_of_body_weight_and_surface(headers):
    assert suv_factors(headers(Units="GML")).factor == 1
    assert suv_factors(headers(Units="GML", SUVType="BW", PatientWeight=None)).factor == 1
    surface = 71.84 * 70**0.425 * 175**0.725
    for kind in (None, "BSA"):
        by_surface = headers(Units="CM2ML", SUVType=kind, PatientSize=1.75)
        assert suv_factors(by_surface).factor == pytest.approx(70_000 / surface)
    in_cm = suv_factors(headers(Units="CM2ML", PatientSize=175))
    assert in_cm.factor == pytest.approx(70_000 / surface)
    assert "cm" in in_cm.warnings[0]


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"SUVType": "IBW", "PatientSize": 1.75}, "sex"),
        ({"SUVType": "IBW", "PatientSize": 1.75, "PatientSex": "X"}, "sex"),
        ({"SUVType": "IBW", "PatientSex": "F"}, "size"),
        ({"SUVType": "LBM", "PatientSex": "F", "PatientSize": 1.75, "PatientWeight": None}, "weight"),
        ({"SUVType": "BSA"}, "units GML with SUV type BSA"),
        ({"SUVType": "XYZ"}, "SUV type XYZ"),
        ({"Units": "CM2ML", "SUVType": "BW"}, "units CM2ML with SUV type BW"),
    ],
)
def test_suvs_that_cannot_be_converted(attributes, says, headers):
    with pytest.raises(IGTVError, match=says):
        suv_factors(headers(**({"Units": "GML"} | attributes)))


@pytest.mark.parametrize(
    ("attributes", "warning"),
    [
        ({"RadiopharmaceuticalStartDateTime": None}, None),
        ({"RadiopharmaceuticalStartTime": None}, None),
        ({"RadiopharmaceuticalStartDateTime": "20200103100000"}, "shifted"),
        (
            {"RadiopharmaceuticalStartDateTime": "20190102100000", "RadiopharmaceuticalStartTime": None},
            "shifted",
        ),
        ({"RadionuclideTotalDose": 370}, "MBq"),
        ({"PatientWeight": 70_000}, "grams"),
        ({"RadiopharmaceuticalStartTime": "10:00:00", "RadiopharmaceuticalStartDateTime": None}, None),
    ],
)
def test_same_factor_however_it_is_written(attributes, warning, headers):
    result = suv_factors(headers(**attributes))
    assert result.factor == pytest.approx(factor(3600), rel=1e-9)
    assert (
        [warning] == [w for w in [warning] if any(w in text for text in result.warnings)] if warning else True
    )
    assert bool(result.warnings) == bool(warning)


def test_across_midnight(headers):
    night = {"SeriesTime": "003000", "AcquisitionTime": "003000", "RadiopharmaceuticalStartTime": "233000"}
    for full in (None, "20200101233000"):
        result = suv_factors(headers(**night, RadiopharmaceuticalStartDateTime=full))
        assert result.factor == pytest.approx(factor(3600), rel=1e-9)


def test_scan_across_midnight_without_dates(headers):
    night = headers(SeriesTime="235900", AcquisitionTime="000020", RadiopharmaceuticalStartTime="225900")
    for header in night:
        header.AcquisitionDate = ""
        del header.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime
    assert suv_factors(night).factor == pytest.approx(factor(3600), rel=1e-9)


def test_time_zones(headers):
    moved = headers(TimezoneOffsetFromUTC="+0200", RadiopharmaceuticalStartDateTime="20200102080000+0000")
    assert suv_factors(moved).factor == pytest.approx(factor(3600), rel=1e-9)


def test_weight_from_the_user(headers):
    bare = headers(PatientWeight=None)
    with pytest.raises(IGTVError, match="weight_kg"):
        suv_factors(bare)
    assert suv_factors(bare, weight_kg=WEIGHT).factor == pytest.approx(factor(3600), rel=1e-9)
    assert suv_factors(headers(PatientWeight=0.07), weight_kg=WEIGHT).factor == pytest.approx(factor(3600))


@pytest.mark.parametrize("weight", [0, -70, float("nan"), float("inf"), 0.07, 70_000, "70"])
def test_a_weight_from_the_user_that_no_patient_has(weight, headers):
    """Also where the header has a weight, or the values are SUVs and none is needed."""
    for given in (headers(), headers(PatientWeight=None), headers(Units="GML")):
        with pytest.raises(IGTVError, match="no patient has") as error:
            suv_factors(given, weight_kg=weight)
        assert error.value.settings == ("weight_kg",)


def test_a_weight_in_the_header_counts_more_than_that_of_the_user(headers):
    """One weight may be given for a whole cohort, for those of its patients that have none."""
    result = suv_factors(headers(), weight_kg=50)
    assert result.factor == pytest.approx(factor(3600), rel=1e-9)
    assert "not used" in result.warnings[0]
    assert not suv_factors(headers(), weight_kg=70.01).warnings


def test_contradicting_slices_are_refused(headers):
    mixed = headers()
    mixed[2].Units = "GML"
    with pytest.raises(IGTVError, match="Units differs"):
        suv_factors(mixed)


# ------------------------------------------------------------------------------------------------ references

REAL_FACTORS = {
    "SIEMENS": 0.00042748316187197236,
    "GE_MEDICAL_AND_BQML": 0.0005367387681819742,
    "PHILIPS_CNTS_AND_SUV": 0.000728,
    "RADIOPHARM_DATETIME_UNDEFINED": 0.0003721089202818729,
}


@pytest.mark.parametrize("name", REAL_FACTORS)
def test_headers_of_real_scanners(name, real):
    headers = []
    for record in json.loads((real / "suv_headers" / f"{name}-instances.json").read_text()):
        header, information = Dataset(), Dataset()
        private = record.pop("PhilipsPETPrivateGroup")
        if "SUVScaleFactor" in private:
            header.add_new((0x7053, 0x1000), "DS", private["SUVScaleFactor"])
        for key, value in record.items():
            setattr(information if key.startswith("Radio") else header, key, value)
        header.RadiopharmaceuticalInformationSequence = [information]
        headers.append(header)
    assert suv_factors(headers).factor == pytest.approx(REAL_FACTORS[name], rel=1e-6)


REFERENCE_OBJECTS = ["0_0", "1_0", "2_0", "2_4", "3_0", "3_1", "3_3", "4_2"]


def inside_mask(folder, pet):
    suv = sitk.GetArrayFromImage(pet)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "mask" / "DRO_mask.nii.gz"))) > 0
    inside = suv[mask if mask.shape == suv.shape else mask.transpose(2, 1, 0)]
    return inside.min(), np.median(inside), inside.max()


@pytest.mark.parametrize("name", REFERENCE_OBJECTS)
@pytest.mark.filterwarnings("ignore:(injected|injection|frame reference):UserWarning")
def test_ibsi_reference_objects(name, real):
    folder = real / "IBSI_SUV_DRO" / f"DRO_{name}"
    assert inside_mask(folder, read_pet(folder)) == pytest.approx((0.2, 1, 4), abs=1e-3)


@pytest.mark.parametrize(("kind", "mass"), [("IBW", 69.405), ("LBMJAMES128", 53.87), ("LBM", 54.51)])
def test_a_reference_object_of_another_mass(kind, mass, real, tmp_path):
    """The object of SUVs by body weight (70 kg, 1.75 m, sex O), written as SUVs by another mass."""
    folder = real / "IBSI_SUV_DRO" / "DRO_2_0"
    for file in (folder / "PT").iterdir():
        image = dcmread(file)
        image.SUVType, image.RescaleSlope = kind, f"{float(image.RescaleSlope) * mass / 70:.10g}"
        image.save_as(tmp_path / file.name)
    with pytest.warns(UserWarning, match="sex is O"):
        pet = read_pet(tmp_path)
    assert inside_mask(folder, pet) == pytest.approx((0.2, 1, 4), abs=1e-3)


def test_phantom(tmp_path):
    """The phantom's tumour-free background has the SUV that was put in, to 0.1 %."""
    list(write_cohort("igtv", 1, 3, 48, 12, tmp_path))
    (series,) = find_series(tmp_path, "PT")
    header = series.headers[0]
    information = header.RadiopharmaceuticalInformationSequence[0]
    start, scan = str(information.RadiopharmaceuticalStartDateTime)[8:14], str(header.SeriesTime)[:6]
    seconds = np.dot([3600, 60, 1], [int(scan[i : i + 2]) - int(start[i : i + 2]) for i in (0, 2, 4)])
    left = float(information.RadionuclideTotalDose) * 0.5 ** (
        seconds / float(information.RadionuclideHalfLife)
    )
    assert suv_factors(series.headers).factor == pytest.approx(
        float(header.PatientWeight) * 1000 / left, rel=1e-3
    )
