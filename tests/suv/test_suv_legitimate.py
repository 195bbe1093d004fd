"""Legitimate configurations of scanners, protocols and archives: each must give the right SUV.

One row each, in the words of a physicist. `says` is what a warning must say; None: no reason for one.
"""

from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from pet_scan import C11, CU64, GA68, GE, I124, O15, PHILIPS, RB82, ZR89, Scan, clock, coded, day, put

from nnunet_igtv.suv import suv_factors

BEGAN = datetime(2024, 3, 5, 10, 0)
LATER = BEGAN + timedelta(hours=2)
MIDNIGHT = datetime(2024, 3, 6, 0, 30)


def changed(scan=None, alter=None, **changes):
    """Headers of a scan, with attributes changed, and then whatever `alter` does to each."""
    scan = scan or Scan()
    headers = replace(scan, changes=changes).headers()
    for header in headers:
        if alter:
            alter(header)
    return scan, headers


def private(header, group, creator, element, vr, value):
    put(header, (group, 0x10), ("LO", creator))
    put(header, (group, 0x1000 | element), (vr, value))


def ge_time(moment):
    return lambda h: private(h, 0x0009, "GEMS_PETD_01", 0x0D, "DT", day(moment) + clock(moment)[:9])


def siemens_time(moment):
    return lambda h: private(h, 0x0071, "SIEMENS MED PT", 0x22, "DT", day(moment) + clock(moment))


def first_slice_times(header):
    """GE: the start of the whole scan as acquisition time of every bed."""
    header.AcquisitionTime = clock(BEGAN)


def shifted(days):
    """All dates moved together, as de-identification does."""

    def alter(header):
        for name in ("StudyDate", "SeriesDate", "AcquisitionDate"):
            setattr(header, name, day(datetime.strptime(getattr(header, name), "%Y%m%d") + timedelta(days)))
        item = header.RadiopharmaceuticalInformationSequence[0]
        text = item.RadiopharmaceuticalStartDateTime
        moved = datetime.strptime(text[:8], "%Y%m%d") + timedelta(days)
        item.RadiopharmaceuticalStartDateTime = day(moved) + text[8:]

    return alter


def without_dates(header):
    for name in ("StudyDate", "SeriesDate", "AcquisitionDate"):
        setattr(header, name, "")
    del header.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime


def in_utc(header):
    """A DT in UTC, of a scanner whose clock is 5 h behind it and says so."""
    put(header, "TimezoneOffsetFromUTC", "-0500")
    utc = Scan().injected + timedelta(hours=5)
    put(header, "RadiopharmaceuticalStartDateTime", day(utc) + clock(utc) + "+0000")


def long(half_life, days, **changes):
    return Scan(uptake_min=days * 1440, half_life=half_life, **changes)


ROWS = {
    # vendors, and what they write
    "Siemens, three beds": (changed(), None),
    "Philips, three beds": (changed(Scan(vendor=PHILIPS)), None),
    "GE, frame reference time to the start of the frame": (changed(Scan(vendor=GE)), None),
    "GE, the same acquisition time on every bed": (changed(Scan(vendor=GE), first_slice_times), None),
    "GE, with its scan time": (changed(Scan(vendor=GE), ge_time(BEGAN)), None),
    "Siemens, with its scan time": (changed(alter=siemens_time(BEGAN)), None),
    "GE, stored again two hours later": (
        changed(Scan(vendor=GE), ge_time(BEGAN), SeriesTime=clock(LATER)),
        None,
    ),
    "Siemens, stored again two hours later": (
        changed(alter=siemens_time(BEGAN), SeriesTime=clock(LATER)),
        None,
    ),
    "stored again two hours later, without private elements": (changed(SeriesTime=clock(LATER)), None),
    "GE, stored again, without private elements": (
        changed(Scan(vendor=GE), SeriesTime=clock(LATER)),
        None,
    ),
    "GE, stored again, without private elements and without the first beds": (
        changed(Scan(vendor=GE, beds_s=(600.0, 780.0)), SeriesTime=clock(LATER)),
        None,
    ),
    "stored again two days later": (
        changed(SeriesDate=day(BEGAN + timedelta(days=2)), SeriesTime="093000"),
        None,
    ),
    "without series time": (changed(SeriesTime=None), None),
    "series time 00:00:00": (changed(SeriesTime="000000"), "series time is 00:00:00"),
    "one bed of a long scan: the last 20 of 70 minutes": (
        changed(Scan(beds_s=(3000.0,), frame_s=1200.0)),
        None,
    ),
    "frame reference time 0, as GE writes it for one bed": (
        changed(Scan(vendor=GE, beds_s=(0.0,)), FrameReferenceTime=0),
        None,
    ),
    "acquisition date and time only as one": (
        changed(
            Scan(beds_s=(0.0,)),
            AcquisitionDate=None,
            AcquisitionTime=None,
            AcquisitionDateTime=day(BEGAN) + clock(BEGAN),
        ),
        None,
    ),
    # decay corrections
    "corrected to the injection": (changed(Scan(decay="ADMIN")), None),
    "corrected to the injection, times removed": (
        changed(Scan(decay="ADMIN"), SeriesTime=None, RadiopharmaceuticalStartTime=None),
        None,
    ),
    "corrected to the injection, as enhanced PET says it": (
        (
            Scan(decay="ADMIN"),
            Scan(changes={"DecayCorrectionDateTime": "20240305090000"}).headers(),
        ),
        None,
    ),
    "Zr-89, corrected to the injection four days before, as enhanced PET says it": (
        (
            long(ZR89, 4, dose=37e6, decay="ADMIN"),
            long(ZR89, 4, dose=37e6, changes={"DecayCorrectionDateTime": "20240301100000"}).headers(),
        ),
        None,
    ),
    "not corrected": (changed(Scan(decay="NONE")), None),
    "not corrected, Rb-82": (
        changed(Scan(decay="NONE", half_life=RB82, uptake_min=2, dose=1500e6, beds_s=(0.0,))),
        None,
    ),
    # protocols
    "FDG, 3 h": (changed(Scan(uptake_min=180, words="FDG")), None),
    "FDG, late at 5 h": (changed(Scan(uptake_min=300)), "uptake time of 300 min"),
    "FDG, early at 12 min": (changed(Scan(uptake_min=12)), "uptake time of 12 min"),
    "FDG, dynamic, scanned from the injection on": (changed(Scan(uptake_min=0)), "uptake time of 0 min"),
    "F-18 PSMA, 2 h": (changed(Scan(uptake_min=120, words="18F-PSMA-1007")), None),
    "F-18 fluoride, 45 min": (changed(Scan(uptake_min=45, words="Sodium fluoride F^18^")), None),
    "Ga-68 DOTATATE": (changed(Scan(half_life=GA68, dose=150e6, words="Ga-68 DOTATATE")), None),
    "Ga-68 PSMA-11": (changed(Scan(half_life=GA68, dose=150e6, words="[68Ga]Ga-PSMA-11")), None),
    "C-11 choline, 5 min": (
        changed(Scan(half_life=C11, dose=600e6, uptake_min=5, words="C-11 choline")),
        None,
    ),
    "Rb-82, 2 min": (changed(Scan(half_life=RB82, dose=1100e6, uptake_min=2, beds_s=(0.0,))), None),
    "O-15 water, at once": (changed(Scan(half_life=O15, dose=700e6, uptake_min=1, beds_s=(0.0,))), None),
    "Cu-64, 1 h": (changed(Scan(half_life=CU64, dose=200e6)), None),
    "Cu-64, the next day": (changed(long(CU64, 1, dose=200e6)), None),
    "Zr-89, 4 days": (changed(long(ZR89, 4, dose=37e6)), None),
    "Zr-89, 7 days, at an earlier time of day": (changed(long(ZR89, 6.9, dose=70e6)), None),
    "I-124, 2 days": (changed(long(I124, 2, dose=60e6)), None),
    "Zr-89, dates shifted together": (changed(long(ZR89, 4, dose=37e6), shifted(-1000)), None),
    "a child of 12 kg": (changed(Scan(weight=12.0, dose=50e6)), None),
    "a patient of 160 kg": (changed(Scan(weight=160.0, dose=740e6)), None),
    "a total-body scanner, a tenth of the usual dose": (changed(Scan(dose=30e6)), "MBq per kg"),
    # dates, midnight, time zones
    "across midnight, with dates": (changed(Scan(began=MIDNIGHT)), None),
    "across midnight, time of day only": (
        changed(Scan(began=MIDNIGHT), RadiopharmaceuticalStartDateTime=None),
        "across midnight",
    ),
    "beds across midnight": (changed(Scan(began=datetime(2024, 3, 5, 23, 58))), None),
    "time of day only": (changed(RadiopharmaceuticalStartDateTime=None), None),
    "date and time only": (changed(RadiopharmaceuticalStartTime=None), None),
    "the date of the injection, and its time": (
        changed(RadiopharmaceuticalStartDateTime=day(BEGAN), RadiopharmaceuticalStartTime="090000"),
        None,
    ),
    "the date of the injection as midnight, and its time": (
        changed(RadiopharmaceuticalStartDateTime=day(BEGAN) + "000000"),
        None,
    ),
    "Zr-89: the date alone, and the time": (
        changed(long(ZR89, 4, dose=37e6), RadiopharmaceuticalStartDateTime="20240301"),
        None,
    ),
    "all dates shifted together": (changed(alter=shifted(4000)), None),
    "all dates removed": (changed(alter=without_dates), None),
    "the date of the injection alone shifted": (
        changed(RadiopharmaceuticalStartDateTime="20240306090000"),
        "shifted dates",
    ),
    "the date of the injection alone made a year of births": (
        changed(RadiopharmaceuticalStartDateTime="19000101090000"),
        "shifted dates",
    ),
    "across midnight, the injection given the date of the scan": (
        changed(Scan(began=MIDNIGHT), RadiopharmaceuticalStartDateTime="20240306233000"),
        "shifted dates",
    ),
    "the acquisition date alone replaced": (changed(AcquisitionDate="19000101"), "shifted dates"),
    "across midnight, the acquisition date alone replaced": (
        changed(Scan(began=MIDNIGHT), AcquisitionDate="19000101"),
        "shifted dates",
    ),
    "GE's scan time keeps its date where the others are shifted": (
        changed(
            Scan(vendor=GE),
            lambda h: (shifted(-700)(h), ge_time(BEGAN)(h)),
            SeriesTime=clock(LATER),
        ),
        "its time of day used",
    ),
    "the injection in UTC, the scanner's offset stated": (changed(alter=in_utc), None),
    "offset of the injection is that of the scanner": (
        changed(TimezoneOffsetFromUTC="+0100", RadiopharmaceuticalStartDateTime="20240305090000+0100"),
        None,
    ),
    "the injection in UTC, and its local time": (
        changed(
            RadiopharmaceuticalStartDateTime="20240305080000+0000", RadiopharmaceuticalStartTime="090000"
        ),
        None,
    ),
    "the injection in UTC, the acquisition with its offset": (
        changed(
            Scan(beds_s=(0.0,)),
            AcquisitionDateTime="20240305100000+0100",
            RadiopharmaceuticalStartDateTime="20240305080000+0000",
            RadiopharmaceuticalStartTime=None,
        ),
        None,
    ),
    "the injection in UTC, the acquisition in UTC and by the clock": (
        changed(
            Scan(beds_s=(0.0,)),
            AcquisitionDateTime="20240305090000+0000",
            RadiopharmaceuticalStartDateTime="20240305080000+0000",
            RadiopharmaceuticalStartTime=None,
        ),
        None,
    ),
    "the injection before midnight in UTC": (
        changed(
            Scan(began=datetime(2024, 3, 5, 1, 30)),
            TimezoneOffsetFromUTC="+0200",
            RadiopharmaceuticalStartDateTime="20240304223000+0000",
            RadiopharmaceuticalStartTime=None,
        ),
        None,
    ),
    # units
    "dose in MBq": (changed(RadionuclideTotalDose=350), "taken as MBq"),
    "dose in kBq": (changed(RadionuclideTotalDose=350_000), "taken as kBq"),
    "dose in GBq": (changed(RadionuclideTotalDose="0.35"), "taken as GBq"),
    "dose in mCi": (changed(Scan(dose=10 * 37e6), RadionuclideTotalDose=10), "taken as mCi"),
    "dose in uCi": (changed(Scan(dose=370e6), RadionuclideTotalDose=10_000), "taken as uCi"),
    "dose in Ci": (changed(Scan(dose=370e6), RadionuclideTotalDose="0.01"), "taken as Ci"),
    "dose in MBq, Zr-89": (
        changed(long(ZR89, 4, dose=37e6), RadionuclideTotalDose=37),
        "taken as MBq",
    ),
    "weight in g": (changed(PatientWeight=70_000), "grams"),
    "half-life in minutes": (changed(Scan(half_life=109.8 * 60), RadionuclideHalfLife="109.8"), "minutes"),
    "half-life in hours": (
        changed(long(ZR89, 4, dose=37e6), RadionuclideHalfLife="78.4"),
        "taken as hours",
    ),
    "half-life rounded": (changed(Scan(half_life=6600), RadionuclideHalfLife=6600), None),
    "the nuclide by its code, and another word": (
        changed(
            Scan(half_life=GA68, dose=150e6, words="FDG"),
            RadionuclideCodeSequence=coded("35337001", "^68^Gallium"),
        ),
        None,
    ),
    "the nuclide by an unknown code and its meaning": (
        changed(RadionuclideCodeSequence=coded("C-111A1X", "18F")),
        None,
    ),
    "Philips counts, both private factors": (
        changed(
            Scan(vendor=PHILIPS),
            lambda h: (
                private(h, 0x7053, "Philips PET Private Group", 0x00, "DS", "0.0005"),
                private(h, 0x7053, "Philips PET Private Group", 0x09, "DS", "2.5"),
            ),
            Units="CNTS",
        ),
        "times the SUV of Philips activity (7053,1009)",
    ),
}


@pytest.mark.parametrize("factors", ["", "with decay factors"])
@pytest.mark.parametrize("name", ROWS)
def test_legitimate(name, factors):
    """Decay factors, which every slice has by the standard, change nothing where all is right."""
    (scan, headers), says = ROWS[name]
    if factors:
        headers = deepcopy(headers)
        for header, factor in zip(headers, scan.decay_factors, strict=True):
            header.DecayFactor = f"{factor:.6g}"
    result = suv_factors(headers)
    right = np.full(len(headers), 0.0005) if headers[0].Units == "CNTS" else scan.factors
    assert result.factors == pytest.approx(right, rel=2e-4)
    if says is None:
        assert not result.warnings
    else:
        assert any(says in warning for warning in result.warnings)
