"""Headers that do not determine the SUV: each is refused with the values that contradict, or warned of."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from pet_scan import C11, CU64, F18, GA68, GE, PHILIPS, RB82, ZR89, Scan, clock, coded, day, put

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.suv import suv_factors

BEGAN = datetime(2024, 3, 5, 10, 0)


def at(minutes):
    return clock(BEGAN + timedelta(minutes=minutes))


def ge_time(minutes):
    moment = BEGAN + timedelta(minutes=minutes)
    return {(0x0009, 0x100D): ("DT", day(moment) + clock(moment)[:9])}


def siemens_time(minutes):
    moment = BEGAN + timedelta(minutes=minutes)
    return {(0x0071, 0x1022): ("DT", day(moment) + clock(moment))}


ONE_BED = {"beds_s": (0.0,)}
ZIRCONIUM = {"half_life": ZR89, "dose": 37e6, "uptake_min": 4 * 1440.0}
REFUSED = {
    # the time to which the decay was corrected
    "series time before the acquisition, Siemens": (
        {},
        {"SeriesTime": at(-20)},
        "series time 09:40:00, acqui",
    ),
    "series time before the acquisition, Philips": (
        {"vendor": PHILIPS},
        {"SeriesTime": at(-15)},
        "frame reference time counts from 10:00:00",
    ),
    "series time before the acquisition, GE without private elements": (
        {"vendor": GE},
        {"SeriesTime": at(-30), "FrameReferenceTime": 0},
        "series time 09:30:00",
    ),
    "series time before the acquisition, C-11": (
        {"half_life": C11, "uptake_min": 30},
        {"SeriesTime": at(-3)},
        "contradict",
    ),
    "GE's scan time that nothing else supports": ({"vendor": GE}, ge_time(-40), "GE scan time.* 09:20:00"),
    "Siemens' scan time that nothing else supports": ({}, siemens_time(25), "Siemens scan time.* 10:25:00"),
    "GE's scan time and series time, both stored again": (
        {"vendor": GE},
        {"SeriesTime": at(90), **ge_time(90)},
        "series time 11:30:00, acquisition time 10:00:00",
    ),
    "one bed, stored again, frame reference time elsewhere": (
        ONE_BED,
        {"SeriesTime": at(120), "FrameReferenceTime": 1_290_000},
        "acquisition time 10:00:00, frame reference time counts from 09:39:59",
    ),
    "decay corrected to before the injection": (
        {},
        {"DecayCorrectionDateTime": "20240305083000"},
        "-30 min after the injection, by the decay correction time",
    ),
    "decay corrected to another day": (
        {},
        {"DecayCorrectionDateTime": "20240308100000"},
        "after the injection, by the decay correction time",
    ),
    "no acquisition time": ({}, {"AcquisitionTime": None}, "no acquisition time"),
    "acquisition time 00:00:00, series time at ten": ({}, {"AcquisitionTime": "000000"}, "00:00:00"),
    "not corrected, the same acquisition time on all beds": (
        {"decay": "NONE", "beds_s": (0.0, 300.0, 600.0)},
        {"AcquisitionTime": at(0)},
        "the same on all beds",
    ),
    "not corrected, without duration": (
        {"decay": "NONE"},
        {"ActualFrameDuration": None},
        "Actual Frame Dura",
    ),
    # the injection
    "two injection times": ({}, {"RadiopharmaceuticalStartTime": at(-30)}, "09:30:00 and 09:00:00"),
    "two injection times an hour apart": ({}, {"RadiopharmaceuticalStartTime": at(-120)}, "contradict"),
    "the injection after the scan, same day": (
        {},
        {"RadiopharmaceuticalStartDateTime": "20240305101500", "RadiopharmaceuticalStartTime": at(15)},
        "0.25 h after the scan",
    ),
    "the injection after the scan, time of day only": (
        {},
        {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": at(10)},
        "after the scan",
    ),
    "over ten half-lives, same day": (
        {"half_life": RB82, "uptake_min": 20, "dose": 1500e6},
        {},
        "over 10 half-l",
    ),
    "over ten half-lives, the date does not explain it": (
        {},
        {"RadiopharmaceuticalStartDateTime": "20240304120000", "RadiopharmaceuticalStartTime": None},
        "22 h before the scan",
    ),
    "no injection time": (
        {},
        {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": None},
        "no injection time",
    ),
    "injection time 00:00:00 for none": (
        {},
        {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "000000"},
        "00:00:00",
    ),
    "all times 00:00:00": (
        {},
        {
            "RadiopharmaceuticalStartDateTime": None,
            "RadiopharmaceuticalStartTime": "000000",
            "SeriesTime": "000000",
            "AcquisitionTime": "000000",
        },
        "00:00:00",
    ),
    "injection in UTC, nothing says where the scanner is": (
        {},
        {"RadiopharmaceuticalStartDateTime": "20240305080000+0000", "RadiopharmaceuticalStartTime": None},
        "offset from UTC.*0008,0201",
    ),
    "injection in UTC, and a time that no time zone explains": (
        {},
        {
            "RadiopharmaceuticalStartDateTime": "20240305080000+0000",
            "RadiopharmaceuticalStartTime": "092400",
        },
        "contradict",
    ),
    "Zr-89, no date of the injection": (
        ZIRCONIUM,
        {"RadiopharmaceuticalStartDateTime": None},
        "the day of the injection is not known",
    ),
    "Zr-89, the date of the injection replaced": (
        ZIRCONIUM,
        {"RadiopharmaceuticalStartDateTime": "19000101080000", "RadiopharmaceuticalStartTime": at(-120)},
        "over 10 half-lives of Zr-89",
    ),
    "Zr-89, injection after the scan": (
        ZIRCONIUM,
        {"RadiopharmaceuticalStartDateTime": "20240307080000", "RadiopharmaceuticalStartTime": at(-120)},
        "46 h after the scan",
    ),
    "Cu-64, time of day only": (
        {"half_life": CU64, "dose": 200e6},
        {"RadiopharmaceuticalStartDateTime": None},
        "the day of the injection is not known",
    ),
    # dose, half-life, weight
    "a dose in MBq or mCi": ({}, {"RadionuclideTotalDose": 25}, r"MBq \(25 MBq\)|mCi \(925 MBq\)"),
    "a dose in MBq or mCi, for Zr-89": (ZIRCONIUM, {"RadionuclideTotalDose": 9}, r"MBq \(9 MBq\)|mCi"),
    "a dose in no unit": ({}, {"RadionuclideTotalDose": 2e6}, "not plausible"),
    "a dose 100 times too high": ({}, {"RadionuclideTotalDose": 35e9}, "not plausible"),
    "a negative dose": ({}, {"RadionuclideTotalDose": -350e6}, "is negative"),
    "no dose": ({}, {"RadionuclideTotalDose": None}, "0018,1074"),
    "no half-life": ({}, {"RadionuclideHalfLife": None}, "0018,1075"),
    "a half-life of no nuclide": ({}, {"RadionuclideHalfLife": 7000}, "not that of a PET nuclide"),
    "a SPECT": ({}, {"RadionuclideHalfLife": 21_624}, "SPECT"),
    "the half-life of F-18 and the code of Ga-68": (
        {},
        {"RadionuclideCodeSequence": coded("35337001", "^68^Gallium")},
        "not that of the nuclide named, Ga-68",
    ),
    "the half-life of Ga-68 and FDG": ({"half_life": GA68, "words": "FDG"}, {}, "nuclide named, F-18"),
    "a weight of no patient": ({}, {"PatientWeight": 700}, "0010,1030"),
    "no weight": ({}, {"PatientWeight": None}, "0010,1030"),
    # what DICOM requires
    "no units": ({}, {"Units": None}, "0054,1001"),
    "counts without a factor": ({}, {"Units": "CNTS"}, "neither Philips factor"),
    "counts proportional to something": ({}, {"Units": "PROPCNTS"}, "PROPCNTS"),
    "no decay correction": ({}, {"DecayCorrection": None}, "decay correction missing"),
    "an unknown decay correction": ({}, {"DecayCorrection": "SOME"}, "SOME"),
    "corrections not stated": ({}, {"CorrectedImage": None}, "0028,0051"),
    "not corrected for attenuation": ({}, {"CorrectedImage": ["DECY", "SCAT"]}, "attenuation"),
    "START without the correction": ({}, {"CorrectedImage": ["ATTN"]}, "DECY"),
    "a time beyond any calendar": ({}, {"FrameReferenceTime": "1e30"}, "no scan can have"),
    "an intercept": ({}, {"RescaleIntercept": 5}, "intercept"),
    "a negative slope": ({}, {"RescaleSlope": -2}, "negative"),
    "two radiopharmaceuticals": (
        {},
        {"RadiopharmaceuticalInformationSequence": [coded("1", "a")[0], coded("2", "b")[0]]},
        "more than one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    scan, changes, says = REFUSED[name]
    with pytest.raises(IGTVError, match=says):
        suv_factors(Scan(**scan, changes=changes).headers())


@pytest.mark.parametrize(("minutes", "is_warned"), [(0, False), (-5, False), (-40, True), (40, True)])
def test_a_decay_correction_time_that_all_other_sources_contradict(minutes, is_warned):
    """It is used all the same: who settles a contradiction writes it."""
    scan, moment = Scan(), BEGAN + timedelta(minutes=minutes)
    stated = replace(scan, changes={"DecayCorrectionDateTime": day(moment) + clock(moment)})
    result = suv_factors(stated.headers())
    assert result.factors == pytest.approx(scan.factors * np.exp(scan.constant * 60 * minutes), rel=2e-4)
    assert ["all other sources contradict it" in w for w in result.warnings] == [True] * is_warned


def test_decay_correction_times_that_differ_between_the_slices():
    headers = Scan(changes={"DecayCorrectionDateTime": "20240305100000"}).headers()
    put(headers[1], "DecayCorrectionDateTime", "20240305104000")
    with pytest.raises(IGTVError, match="DecayCorrectionDateTime differs between the slices"):
        suv_factors(headers)


def test_what_contradicts_is_settled_as_the_remedy_says():
    scan = Scan(vendor=GE, changes={"SeriesTime": at(-20)})
    with pytest.raises(IGTVError, match="contradict") as error:
        suv_factors(scan.headers())
    assert "Decay Correction DateTime (0018,9701)" in error.value.remedy
    stated = Scan(vendor=GE, changes=scan.changes | {"DecayCorrectionDateTime": day(BEGAN) + clock(BEGAN)})
    assert suv_factors(stated.headers()).factors == pytest.approx(scan.factors, rel=2e-4)


def test_slices_of_two_injections_are_refused():
    headers = Scan().headers()
    put(headers[1], "RadionuclideTotalDose", 200e6)
    with pytest.raises(IGTVError, match="RadionuclideTotalDose differs"):
        suv_factors(headers)


WARNED = {
    "GE's scan time against a series time": (
        {"vendor": GE},
        {"SeriesTime": at(-20), **ge_time(0)},
        "series time contradicts GE scan time",
    ),
    "Siemens' scan time against a series time": (
        {},
        {"SeriesTime": at(-20), **siemens_time(0)},
        "series time contradicts Siemens scan time",
    ),
    "series time four minutes before the acquisition": (
        {},
        {"SeriesTime": at(-4)},
        "acquisition time and frame reference time agree, series time not quite",
    ),
    "series time four minutes before the acquisition, no frame reference time": (
        {},
        {"SeriesTime": at(-4), "FrameReferenceTime": None},
        "series time and acquisition time do not quite agree",
    ),
    "series time four minutes before what the frames of a part of the scan say": (
        {"beds_s": (3000.0,), "frame_s": 1200.0},
        {"SeriesTime": at(-4)},
        "series time and frame reference time do not quite agree",
    ),
    "frame reference time against two that agree": (
        ONE_BED,
        {"FrameReferenceTime": 1_290_000},
        "frame reference time contradicts",
    ),
    "beds whose frame reference times do not run": (
        {"beds_s": (0.0, 300.0, 600.0)},
        {"SeriesTime": at(120), "FrameReferenceTime": 89_000},
        "the first acquisition used",
    ),
    "two injection times three minutes apart": ({}, {"RadiopharmaceuticalStartTime": at(-57)}, "contradict"),
    "not corrected, and the list of corrections has decay": (
        {"decay": "NONE"},
        {"CorrectedImage": ["ATTN", "DECY"]},
        "taken as not corrected",
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_warned_and_within_the_tolerance(name):
    """What is used is never further from the truth than a contradiction that is not refused may be."""
    scan, changes, says = WARNED[name]
    truth = Scan(**scan)
    result = suv_factors(Scan(**scan, changes=changes).headers())
    assert any(says in warning for warning in result.warnings)
    assert np.abs(result.factors / truth.factors - 1).max() < 0.05


def test_no_message_holds_a_date():
    for scan, changes, _ in (*REFUSED.values(), *WARNED.values()):
        try:
            said = " ".join(suv_factors(Scan(**scan, changes=changes).headers()).warnings)
        except IGTVError as error:
            said = str(error)
        assert not any(date in said for date in ("2024", "0305", "03-05", "1900"))


def test_another_vendors_private_block_is_not_read():
    headers = Scan(vendor=GE).headers()
    for header in headers:
        put(header, (0x0009, 0x0010), ("LO", "SOMEBODY ELSE"))
        put(header, (0x0009, 0x100D), ("DT", "20240305080000"))
    assert suv_factors(headers).factors == pytest.approx(Scan().factors, rel=1e-4)


def test_a_private_block_elsewhere_is_found():
    headers = Scan(vendor=GE, changes={"SeriesTime": at(-20)}).headers()
    for header in headers:
        put(header, (0x0009, 0x0010), ("LO", "SOMEBODY ELSE"))
        put(header, (0x0009, 0x0011), ("LO", "GEMS_PETD_01"))
        put(header, (0x0009, 0x110D), ("DT", "20240305100000"))
    assert suv_factors(headers).factors == pytest.approx(Scan().factors, rel=1e-4)


@pytest.mark.parametrize(("seconds", "refused"), [(480, False), (500, True)])
def test_the_tolerance_is_five_per_cent_of_the_suv(seconds, refused):
    """ln(1.05) half-lives / ln 2: 464 s of F-18; sources that differ by more are refused."""
    limit = np.log(1.05) * F18 / np.log(2)
    early = clock(BEGAN - timedelta(seconds=limit + (20 if refused else -20)))
    headers = Scan(changes={"SeriesTime": early}).headers()
    if refused:
        with pytest.raises(IGTVError, match="contradict"):
            suv_factors(headers)
    else:
        assert suv_factors(headers).warnings
