"""What tells one series of a study from another: when, which phase, what kind of images, in which plane."""

import re
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text, vector, words_of
from nnunet_igtv.dicom.geometry import axes_of
from nnunet_igtv.dicom.identity import redact, secrets_of
from nnunet_igtv.dicom.phases import Moment, percent
from nnunet_igtv.dicom.series import AVERAGE, MAXIMUM, MINIMUM, Series, no_slice
from nnunet_igtv.errors import IGTVError

SAME_PLACE_MM = 0.01
AXIAL = np.cos(np.radians(45))
REFORMATS = {"REFORMATTED", "MPR", "CPR", "CURVED", "MIP", "MINIP", "AIP", "PROJECTION IMAGE", "VRT", "SSD"}
PARTS = {"GATED", "DYNAMIC"}
ONE_VISIT = timedelta(hours=12)  # a visit may run across midnight
_PROJECTIONS = {  # over the phases of a breath: values of Image Type, and words of the description
    MINIMUM: ({"MINIP", "MINIMUM"}, re.compile(r"(?<![a-z])min[\s-]?ip(?![a-z])", re.IGNORECASE)),
    AVERAGE: (
        {"AVERAGE", "AVG", "AVE", "AIP", "AVEIP", "MEAN"},
        re.compile(r"(?<![a-z])(?:ave(?:rage)?|avg|mean|aip)(?:[\s_-]?ip)?(?![a-z])", re.IGNORECASE),
    ),
    MAXIMUM: (
        {"MIP", "MAXIP", "MAXIMUM"},
        re.compile(r"(?<![a-z])(?:mip|max[\s_-]?ip|maximum)(?![a-z])", re.IGNORECASE),
    ),
}


def patient(series: Series) -> str:
    """The patient's id, or the name where there is no id. Raises IGTVError where two images have two ids."""
    first = ""
    for header, file in zip(series.headers, series.files, strict=True):
        own = text(header, "PatientID")
        if first and own and own != first:
            raise IGTVError(
                f"the images of the {series.modality} series do not have one patient's ID (0010,0020)",
                file=file,
                remedy="take the images of one patient, or export the series again",
            )
        first = first or own
    return first or text(series.headers[0], "PatientName")


def description(series: Series) -> str:
    """Series Description in one line of at most 64 characters, without the patient's name and id."""
    return redact(" ".join(series.description.split()), secrets_of(series.headers[0]))[:64]


def taken(series: Series) -> str:
    """When the series was acquired, as digits: YYYYMMDDHHMMSS, YYYYMMDD without a time, "" without a date.

    Acquisition before series before study; the date of one and the time of another are not combined.
    """
    return next(filter(None, _moments(series)), "")


def acquired(series: Series) -> str:
    """When the series was acquired, as `taken`, by the attributes of its acquisition alone."""
    return _moments(series)[0]


def _moments(series: Series) -> tuple[str, str, str]:
    """When the series was acquired, by the attributes of its acquisition, its series and its study."""
    header = series.headers[0]
    acquired = (
        _joined(header, "AcquisitionDate", "AcquisitionTime"),
        text(header, "AcquisitionDateTime"),
        text(header, "FrameAcquisitionDateTime"),
    )
    return (
        next(filter(None, map(_digits, acquired)), ""),
        _digits(_joined(header, "SeriesDate", "SeriesTime")),
        _digits(_joined(header, "StudyDate", "StudyTime")),
    )


def _digits(moment: str) -> str:
    found = re.match(r"\d{8}(?:\d{6}|\d{4}|\d{2})?", moment)
    return found[0] if found and _date(found[0]) else ""


def _joined(header: Dataset, date: str, time: str) -> str:
    return re.sub(r"[.:]", "", text(header, date)) + re.sub(r":|\..*", "", text(header, time))


def _date(digits: str) -> datetime | None:
    try:
        return datetime.strptime(digits[:14].ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None


def day(series: Series, with_time: bool = False) -> str:
    """When the series was acquired, for people: 2024-03-05, or 2024-03-05 09:58; "" without a date."""
    digits = taken(series)
    date = _with_hyphens(digits)
    return f"{date} {digits[8:10]}:{digits[10:12]}" if with_time and len(digits) >= 12 else date


def study_date(series: Series) -> str:
    """Study Date as digits, else the day when the series was acquired; "" without either."""
    return re.sub(r"\D", "", text(series.headers[0], "StudyDate"))[:8] or taken(series)[:8]


def study_day(series: Series) -> str:
    """`study_date` for people."""
    return _with_hyphens(study_date(series))


def _with_hyphens(digits: str) -> str:
    return "-".join((digits[:4], digits[4:6], digits[6:8])) if digits else ""


def same_day(a: Series, b: Series) -> bool | None:
    """Whether two series were acquired on one date or within half a day; None where that cannot be told: a
    date is missing, or the dates follow each other and a time is missing."""
    return _is_one_day(*_comparable(a, b))


def _comparable(a: Series, b: Series) -> tuple[str, str]:
    """When two series were acquired, by the same attributes where both have them.

    A series that is stored again gets a series date of its own, and keeps that of its acquisition.
    """
    for first, second in zip(_moments(a), _moments(b), strict=True):
        if first and second:
            return first, second
    return taken(a), taken(b)


def _is_one_day(first: str, second: str) -> bool | None:
    one, other = _date(first), _date(second)
    if one is None or other is None:
        return None
    days = abs((one.date() - other.date()).days)
    timed = all(len(digits) >= 10 and digits[8:].strip("0") for digits in (first, second))  # 000000: removed
    if days == 1:
        return abs(one - other) <= ONE_VISIT if timed else None
    return days == 0


def apart(a: Series, b: Series) -> str:
    """How far apart two series were acquired, without naming a date."""
    days = days_apart(a, b)
    return "a date is missing" if days is None else f"{days} days apart"


def days_apart(a: Series, b: Series) -> int | None:
    """The days between two acquisitions; None if a date is missing."""
    first, second = map(_date, _comparable(a, b))
    return None if first is None or second is None else abs((first.date() - second.date()).days)


def one_visit(a: Series, b: Series) -> bool:
    """Whether two series come from one examination: of one study and not known to be acquired on different
    days (pseudonymised studies of a patient may share one UID), or of one day."""
    if a.study_uid == b.study_uid:
        return _is_one_day(acquired(a), acquired(b)) is not False
    return bool(same_day(a, b))


def moment(series: Series) -> Moment | None:
    """The moment of the breath that the series shows, as its headers tell it; None for an average or another
    projection over the breath, and where nothing tells one."""
    if series.moment is not None:
        return series.moment
    return None if projection(series) else percent(series.headers[0])


def projection(series: Series) -> str:
    """`AVERAGE`, `MAXIMUM` or `MINIMUM` for a series made from all phases of a breath; else ""."""
    if series.parts or series.moment is not None:
        return series.how
    types = set(image_type(series)[2:])
    for name, (values, words) in _PROJECTIONS.items():
        if types & values or words.search(series.description):
            return name
    return ""


def image_type(series: Series) -> list[str]:
    """Image Type of the middle image (of its frame, in multi-frame objects)."""
    header = series.headers[len(series.headers) // 2]
    return words_of(header, "FrameType") or words_of(header, "ImageType")


def is_original(series: Series) -> bool:
    return image_type(series)[:1] == ["ORIGINAL"]


def is_primary(series: Series) -> bool:
    return image_type(series)[1:2] == ["PRIMARY"]


def is_reformat(series: Series) -> bool:
    """Whether Image Type calls the images cut or projected from others."""
    return bool(REFORMATS & set(image_type(series)[2:]))


def is_axial(series: Series) -> bool:
    """Whether the slices lie across the patient's long axis, to 45 degrees."""
    try:
        return bool(abs(axes_of(series.headers[0], series.files[0])[2][2]) > AXIAL)
    except IGTVError:
        return False


def is_volume(series: Series) -> bool:
    """Whether most images are parallel slices, at two places or more: no scout, no projections, no bolus
    tracking at one place, no secondary captures."""
    if "REPROJECTION" in words_of(series.headers[0], "SeriesType"):
        return False
    groups: list[tuple[np.ndarray, list[float]]] = []
    for header, file in zip(series.headers, series.files, strict=True):
        if no_slice(header):
            continue
        try:
            normal = axes_of(header, file)[2]
            position = vector(header, "ImagePositionPatient", 3, file)
        except IGTVError:
            continue
        for known, heights in groups:
            if known @ normal > 0.999:
                heights.append(float(position @ known))
                break
        else:
            groups.append((normal, [float(position @ normal)]))
    largest = max((heights for _, heights in groups), key=len, default=[])
    return 2 * len(largest) > len(series.headers) and np.ptp(largest) > SAME_PLACE_MM


def is_attenuation_corrected(series: Series) -> bool:
    return "ATTN" in words_of(series.headers[0], "CorrectedImage")


def is_part_of_a_scan(series: Series) -> bool:
    """Whether a PET shows a part of the breath or of the time: its Series Type (or Image Type, of enhanced
    PET) is gated or dynamic, or the series holds volumes of several moments and this is one of them."""
    said = words_of(series.headers[0], "SeriesType")
    return series.moment is not None or bool(PARTS & {*said, *image_type(series)[2:]})


def reaches(series: Series, points: np.ndarray) -> bool:
    """Whether points (n, 3) in mm lie between the first and the last slice, to half a slice; also where that
    cannot be told."""
    if series.fault or not len(points):
        return True
    grid = series.grid
    heights = (points - grid.origin) @ np.array(grid.direction).reshape(3, 3)[:, 2] / grid.spacing[2]
    return bool(heights.min() >= -1 and heights.max() <= grid.size[2])
