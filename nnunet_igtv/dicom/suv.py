"""Standardised uptake value by body weight (SUVbw, g/ml) from the headers of a PET series.

    SUVbw = stored value · rescale slope · factor,    factor = body weight [g] / activity at the reference
    time [Bq]

The reference time is the moment to which the scanner corrected the decay. Which attribute holds it differs
between vendors and is the usual cause of wrong SUVs; the order in `_reference_times` satisfies the digital
reference objects of the IBSI SUV manual and real series of three vendors. What cannot be known is refused by
name, never guessed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, is_absent, values_of
from nnunet_igtv.errors import IGTVError

DAY = timedelta(days=1)
NUCLIDE_HALF_LIFE_S = (60.0, 400_000.0)  # from rubidium-82 (76 s) to iodine-124 (4.2 days)


@dataclass(frozen=True)
class SUVResult:
    """What turns rescaled PET values into SUVbw.

    `factors` (slices) multiply the rescaled values of each slice; `rule` names how they were found;
    `warnings` say what in the headers was mended or contradicts itself. No part of it identifies the patient.
    """

    factors: np.ndarray
    rule: str
    warnings: tuple[str, ...] = ()

    @property
    def factor(self) -> float:
        """The factor of the series; the median where the slices differ."""
        return float(np.median(self.factors))


def suv_factors(headers: Sequence[Dataset], weight_kg: float | None = None) -> SUVResult:
    """The SUVbw factors of a PET series from its headers, one per slice.

    Args:
        headers: the headers of all slices of one series.
        weight_kg: body weight that replaces the one in the headers.

    Raises IGTVError, naming the attribute, where the headers do not determine the factor.
    """
    warnings: list[str] = []
    first = headers[0]
    units = _same(headers, "Units").upper()
    decay = _same(headers, "DecayCorrection").upper()
    _check_corrections(first, decay)
    for header in headers:
        if _number(header, "RescaleIntercept", 0.0) != 0:
            raise _refuse("the rescale intercept (0028,1052) of a PET slice is not 0")
        if _number(header, "RescaleSlope", 1.0) <= 0:
            raise _refuse("the rescale slope (0028,1053) of a PET slice is not positive")

    ones = np.ones(len(headers))
    if units == "GML":
        return _body_weight_suv(first, weight_kg, warnings, ones)
    if units == "CM2ML":
        weight, height = _weight_kg(first, weight_kg, warnings), _height_cm(first)
        return SUVResult(
            ones * 1000 * weight / _body_surface_cm2(weight, height), "units CM2ML (SUVbsa)", tuple(warnings)
        )
    scale, name = ones, f"units {units}"
    if units == "CNTS":
        to_suv = np.array([_private(h, (0x7053, 0x1000)) for h in headers])
        if (to_suv > 0).all():
            return SUVResult(to_suv, "units CNTS, Philips SUV factor (7053,1000)")
        scale, name = (
            np.array([_private(h, (0x7053, 0x1009)) for h in headers]),
            "units CNTS, Philips activity (7053,1009)",
        )
        if not (scale > 0).all():
            raise _refuse(
                "units are counts (CNTS) and neither Philips factor (7053,1000) or (7053,1009) is given"
            )
    elif units != "BQML":
        raise _refuse(
            f"units {units or 'missing'} (0054,1001): only BQML, CNTS with a Philips factor, GML and CM2ML"
        )

    information = _radiopharmaceutical(first)
    weight, dose = _weight_kg(first, weight_kg, warnings), _dose_bq(information, warnings)
    if decay == "ADMIN":
        return SUVResult(
            scale * weight * 1000 / dose, f"{name}, decay corrected to injection (ADMIN)", tuple(warnings)
        )
    constant = np.log(2) / _half_life_s(information)
    if decay == "START":
        references, source = _reference_times(headers, constant, warnings)
    elif decay == "NONE":
        references = [
            _acquired(h) + timedelta(seconds=_average_decay_time(_duration_s(h), constant)) for h in headers
        ]
        source = "not decay corrected (NONE), acquisition time per slice"
        if min(_duration_s(h) for h in headers) <= 0:
            raise _refuse("decay correction NONE without Actual Frame Duration (0018,1242)")
    else:
        raise _refuse(f"decay correction {decay or 'missing'} (0054,1102): only START, ADMIN and NONE")
    injected = _injected(first, information, min(references), warnings)
    elapsed = np.array([(t - injected).total_seconds() for t in references])
    return SUVResult(
        scale * weight * 1000 / (dose * np.exp(-constant * elapsed)), f"{name}, {source}", tuple(warnings)
    )


# --------------------------------------------------------------------------------------------- reference time


def _reference_times(
    headers: Sequence[Dataset], constant: float, warnings: list[str]
) -> tuple[list[datetime], str]:
    """The moment to which the decay of each slice was corrected, and which attributes said so."""
    stated = _datetime(headers[0], "DecayCorrectionDateTime")
    if stated:  # enhanced PET says it outright
        return [stated] * len(headers), "decay correction time (0018,9701)"
    acquired = [_acquired(h) for h in headers]
    earliest = min(acquired)
    series = _date_and_time(headers[0], "SeriesDate", "SeriesTime")
    if series and series <= earliest:
        if earliest - series < DAY / 2:
            return [series] * len(headers), "series time"
        warnings.append("series time is over half a day before the acquisition: not used")
    scan = _parse_datetime(_text(attribute(headers[0], (0x0009, 0x100D))), headers[0])
    if scan and abs(earliest - scan) < DAY / 2:
        return [scan] * len(headers), "GE scan time (0009,100D)"
    offsets = [_number(h, "FrameReferenceTime", 0.0) / 1000 for h in headers]
    durations = [_duration_s(h) for h in headers]
    if min(offsets) > 0 and min(durations) > 0:
        times = [
            t + timedelta(seconds=_average_decay_time(length, constant) - offset)
            for t, length, offset in zip(acquired, durations, offsets, strict=True)
        ]
        return times, "acquisition time and frame reference time per slice"
    return [earliest] * len(headers), "earliest acquisition time"


def _average_decay_time(duration: float, constant: float) -> float:
    """When, in a frame of `duration` s, the activity equals its mean over the frame (DICOM C.8.9.4.1.5)."""
    x = constant * duration
    return float(np.log(x / -np.expm1(-x)) / constant) if x > 0 else 0.0


def _injected(header: Dataset, information: Dataset, scan: datetime, warnings: list[str]) -> datetime:
    """Time of injection: the full date and time if it lies in the day before the scan, else the time of
    day.
    """
    full = _datetime(information, "RadiopharmaceuticalStartDateTime", header)
    clock = _time(attribute(information, "RadiopharmaceuticalStartTime"))
    if full and timedelta(0) <= scan - full <= DAY:
        if clock and abs((full - datetime.combine(full, datetime.min.time()) - clock).total_seconds()) > 60:
            warnings.append(
                "injection time (0018,1072) contradicts injection date and time (0018,1078): the latter used"
            )
        return full
    if full:
        warnings.append("injection date is not the day of the scan (shifted dates): its time of day used")
        clock = clock or full - datetime.combine(full, datetime.min.time())
    if clock is None:
        raise _refuse("no injection time (0018,1078) or (0018,1072)")
    injected = datetime.combine(scan, datetime.min.time()) + clock
    if injected > scan:
        warnings.append("injection time of day is after the scan: taken as the day before (across midnight)")
        injected -= DAY
    return injected


def _acquired(header: Dataset) -> datetime:
    """When the frame of a slice began; across midnight also where only the series has a date."""
    acquired = _date_and_time(header, "AcquisitionDate", "AcquisitionTime") or _datetime(
        header, "AcquisitionDateTime"
    )
    if acquired is None:
        raise _refuse("no acquisition time (0008,0032)")
    series = _date_and_time(header, "SeriesDate", "SeriesTime")
    if series and not _text(attribute(header, "AcquisitionDate")) and series - acquired > DAY / 2:
        acquired += DAY
    return acquired


# ------------------------------------------------------------------------------------------ body and activity


def _check_corrections(header: Dataset, decay: str) -> None:
    corrections = {str(v).strip().upper() for v in values_of(header, "CorrectedImage")}
    if not corrections:
        raise _refuse("Corrected Image (0028,0051) is missing: attenuation correction is unknown")
    if "ATTN" not in corrections:
        raise _refuse("the PET is not attenuation corrected (no ATTN in (0028,0051))")
    if "DECY" not in corrections and decay != "NONE":
        raise _refuse(f"decay correction is {decay or 'missing'} but (0028,0051) does not list DECY")


def _body_weight_suv(
    header: Dataset, weight_kg: float | None, warnings: list[str], ones: np.ndarray
) -> SUVResult:
    """Units GML: the values are SUVs, of body weight unless SUV Type (0054,1006) says otherwise."""
    kind = _text(attribute(header, "SUVType")).upper()
    if kind in ("", "BW"):
        return SUVResult(ones, "units GML (SUVbw)", tuple(warnings))
    if kind not in ("LBMJANMA", "LBMJAMES128"):
        raise _refuse(f"units GML with SUV type {kind} (0054,1006), which cannot be turned into SUVbw")
    weight, height = _weight_kg(header, weight_kg, warnings), _height_cm(header)
    sex = _text(attribute(header, "PatientSex")).upper()
    if sex not in ("M", "F"):
        raise _refuse("lean body mass needs the patient's sex (0010,0040)")
    if kind == "LBMJANMA":  # Janmahasatian et al. 2005
        index = weight / (height / 100) ** 2
        lean = 9270 * weight / (6680 + 216 * index if sex == "M" else 8780 + 244 * index)
    else:  # James 1976, with 128 for men
        lean = (
            1.10 * weight - 128 * (weight / height) ** 2
            if sex == "M"
            else 1.07 * weight - 148 * (weight / height) ** 2
        )
    return SUVResult(ones * weight / lean, f"units GML ({kind})", tuple(warnings))


def _body_surface_cm2(weight_kg: float, height_cm: float) -> float:
    return 71.84 * weight_kg**0.425 * height_cm**0.725  # Du Bois and Du Bois 1916


def _weight_kg(header: Dataset, given: float | None, warnings: list[str]) -> float:
    weight = _number(header, "PatientWeight", 0.0) if given is None else given
    if weight == 0:
        raise _refuse("patient weight (0010,1030) is missing or 0", "give it in kg", ["weight_kg"])
    if weight > 1000:
        warnings.append("patient weight over 1000: taken as grams")
        weight /= 1000
    if not 1 <= weight <= 500:
        raise _refuse(
            "patient weight (0010,1030) is not that of a patient in kg", "give it in kg", ["weight_kg"]
        )
    return weight


def _height_cm(header: Dataset) -> float:
    height = _number(header, "PatientSize", 0.0)
    if not 0.3 <= height <= 2.6:
        raise _refuse("patient size (0010,1020) is missing or not a height in m")
    return height * 100


def _radiopharmaceutical(header: Dataset) -> Dataset:
    items = attribute(header, "RadiopharmaceuticalInformationSequence")
    if not items:
        raise _refuse("no Radiopharmaceutical Information Sequence (0054,0016)")
    if len(items) > 1:
        raise _refuse("more than one radiopharmaceutical (0054,0016)")
    return items[0]


def _dose_bq(information: Dataset, warnings: list[str]) -> float:
    dose = _number(information, "RadionuclideTotalDose", 0.0)
    if dose == 0:
        raise _refuse("injected activity (0018,1074) is missing or 0")
    if 0 < dose < 1e5:
        warnings.append("injected activity below 100 000: taken as MBq")
        dose *= 1e6
    if not 1e6 <= dose <= 1e11:
        raise _refuse("injected activity (0018,1074) is not plausible in Bq or MBq")
    return dose


def _half_life_s(information: Dataset) -> float:
    half_life = _number(information, "RadionuclideHalfLife", 0.0)
    if half_life == 0:
        raise _refuse("radionuclide half-life (0018,1075) is missing or 0")
    if not NUCLIDE_HALF_LIFE_S[0] <= half_life <= NUCLIDE_HALF_LIFE_S[1]:
        raise _refuse(f"a half-life of {half_life:g} s is not that of a PET nuclide (a SPECT stored as PET?)")
    return half_life


# ----------------------------------------------------------------------------------------------- attributes


def _refuse(
    what: str, remedy: str = "correct the header, or leave this study out", settings: Sequence[str] = ()
) -> IGTVError:
    return IGTVError(f"SUV: {what}", remedy=remedy, settings=settings)


def _text(value: object) -> str:
    value = getattr(value, "value", value)
    return (
        ""
        if value is None
        else (value.decode("ascii", "ignore") if isinstance(value, bytes) else str(value)).strip("\0 ")
    )


def _same(headers: Sequence[Dataset], name: str) -> str:
    values = {_text(attribute(h, name)) for h in headers}
    if len(values) > 1:
        raise _refuse(f"{name} differs between the slices")
    return values.pop()


def _number(header: Dataset, name: str, default: float) -> float:
    text = _text(attribute(header, name))
    if not text and is_absent(header, name):
        return default
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise _refuse(f"{name} is not a finite number")
    return value


def _private(header: Dataset, tag: tuple[int, int]) -> float:
    """A private number; 0 if absent. Implicit VR leaves it as bytes."""
    try:
        value = float(_text(attribute(header, tag)))
    except ValueError:
        return 0.0
    return value if np.isfinite(value) else 0.0


def _duration_s(header: Dataset) -> float:
    return _number(header, "ActualFrameDuration", 0.0) / 1000


def _time(value: object) -> timedelta | None:
    """DICOM TM, also shortened (HH, HHMM) or with colons, as the time since midnight."""
    match = re.fullmatch(r"(\d\d):?(\d\d)?:?(\d\d)?(\.\d+)?", _text(value))
    if not match:
        return None
    hours, minutes, seconds = (int(g or 0) for g in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds + float(match[4] or 0))


def _date(value: object) -> datetime | None:
    match = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", _text(value))
    try:
        return datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]
    except ValueError:
        return None


def _date_and_time(header: Dataset, date: str, time: str) -> datetime | None:
    """A date and a time attribute together; a removed date is taken from its neighbours in the header."""
    clock = _time(attribute(header, time))
    if clock is None:
        return None
    for name in (date, "AcquisitionDate", "SeriesDate", "StudyDate"):
        day = _date(attribute(header, name))
        if day:
            return day + clock
    return datetime(2000, 1, 1) + clock


def _datetime(header: Dataset, name: str, zone: Dataset | None = None) -> datetime | None:
    return _parse_datetime(_text(attribute(header, name)), header if zone is None else zone)


def _parse_datetime(text: str, header: Dataset) -> datetime | None:
    """DICOM DT. An offset from UTC in it is followed if the header states its own (0008,0201), else
    ignored.
    """
    match = re.fullmatch(r"(\d{8})(\d{2,6}(?:\.\d+)?)([+-]\d{4})?", text)
    if not match:
        return None
    day, clock = _date(match[1]), _time(match[2])
    if day is None or clock is None:
        return None
    here = _offset(_text(attribute(header, "TimezoneOffsetFromUTC")))
    there = _offset(match[3] or "")
    return day + clock + (here - there if here is not None and there is not None else timedelta(0))


def _offset(text: str) -> timedelta | None:
    match = re.fullmatch(r"([+-])(\d\d)(\d\d)", text)
    if not match:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return offset if match[1] == "+" else -offset
