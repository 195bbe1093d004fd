"""Dates, times and time zones of DICOM (PS3.5 6.2: DA, TM, DT), as naive datetimes of the scanner's clock."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.suv.headers import refuse

DAY = timedelta(days=1)
NO_DATE = datetime(2000, 1, 1)  # stands for the day of a scan whose dates were all removed
QUARTER_HOUR_S = 900  # time zones differ by multiples of it


@dataclass(frozen=True)
class Stamp:
    """A DT value: its day, its time since midnight (None for a date only), its offset from UTC if stated."""

    day: datetime
    clock: timedelta | None
    offset: timedelta | None

    @property
    def moment(self) -> datetime:
        return self.day + (self.clock or timedelta(0))


def clock_of(value: str) -> timedelta | None:
    """TM, also shortened (HH, HHMM) or with colons, as the time since midnight."""
    match = re.fullmatch(r"(\d\d):?(\d\d)?:?(\d\d)?(\.\d+)?", value)
    if not match:
        return None
    hours, minutes, seconds = (int(g or 0) for g in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds + float(match[4] or 0))


def day_of(value: str) -> datetime | None:
    """DA, also in the old form with points."""
    match = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", value)
    try:
        return datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]
    except ValueError:
        return None


def stamp_of(value: str) -> Stamp | None:
    """DT."""
    match = re.fullmatch(r"(\d{8})(\d{2,6}(?:\.\d+)?)?([+-]\d{4})?", value)
    if not match:
        return None
    day, clock = day_of(match[1]), clock_of(match[2] or "")
    if day is None or (clock is None and match[2]):
        return None
    return Stamp(day, clock, offset_of(match[3] or ""))


def offset_of(value: str) -> timedelta | None:
    match = re.fullmatch(r"([+-])(\d\d)(\d\d)", value)
    if not match:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return offset if match[1] == "+" else -offset


def split(moment: datetime) -> tuple[datetime, timedelta]:
    """Day, and time since midnight."""
    day = datetime.combine(moment, datetime.min.time())
    return day, moment - day


def shown(moment: datetime) -> str:
    """The time of day; messages hold no dates."""
    return moment.strftime("%H:%M:%S")


def scan_day(header: Dataset, date: str) -> datetime | None:
    """The day that a date attribute names; a removed one is taken from its neighbours in the header."""
    for name in (date, "AcquisitionDate", "SeriesDate", "StudyDate"):
        day = day_of(text(header, name))
        if day:
            return day
    return None


def scan_moment(header: Dataset, date: str, time: str) -> datetime | None:
    """A date and a time attribute of the scan together; None without a time."""
    clock = clock_of(text(header, time))
    return None if clock is None else (scan_day(header, date) or NO_DATE) + clock


def zone(header: Dataset) -> timedelta | None:
    """The offset of the scanner's clock from UTC, None if the header does not say.

    By Timezone Offset From UTC (0008,0201); else by Acquisition DateTime, if it has an offset, and the
    Acquisition Time that belongs to it.
    """
    stated = offset_of(text(header, "TimezoneOffsetFromUTC"))
    if stated is not None:
        return stated
    acquired, local = stamp_of(text(header, "AcquisitionDateTime")), clock_of(text(header, "AcquisitionTime"))
    if acquired is None or acquired.offset is None or acquired.clock is None:
        return None
    if local is None:
        return acquired.offset
    difference = zone_difference(local - acquired.clock)
    return None if difference is None else acquired.offset + difference


def zone_difference(difference: timedelta) -> timedelta | None:
    """The difference of two time zones that explains that of two clocks; None if none does."""
    quarters = round(difference.total_seconds() / QUARTER_HOUR_S)
    if abs(difference.total_seconds() - quarters * QUARTER_HOUR_S) > 60:
        return None
    day = round(DAY.total_seconds() / QUARTER_HOUR_S)
    return timedelta(seconds=((quarters + day // 2) % day - day // 2) * QUARTER_HOUR_S)


def local(stamp: Stamp, header: Dataset, name: str) -> datetime:
    """A DT by the scanner's clock. Raises IGTVError if it has an offset and the scanner's is not known."""
    if stamp.offset is None:
        return stamp.moment
    here = zone(header)
    if here is None:
        raise refuse(
            f"{name} has an offset from UTC, and the time zone of the scan is not stated (0008,0201)",
            "add Timezone Offset From UTC, or leave this study out",
        )
    return stamp.moment + here - stamp.offset
