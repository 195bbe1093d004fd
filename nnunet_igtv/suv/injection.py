"""When the activity was injected: Start DateTime (0018,1078) and Start Time (0018,1072), compared.

Dates of injections are often shifted or removed in de-identification, times of day are not. For nuclides of
minutes and hours the time of day is enough, as long as it gives a usual uptake time; for those of days the
date is needed.
"""

from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.suv.headers import refuse
from nnunet_igtv.suv.moments import (
    DAY,
    NO_DATE,
    Stamp,
    clock_of,
    local,
    shown,
    split,
    stamp_of,
    zone,
    zone_difference,
)
from nnunet_igtv.suv.nuclides import MOST_HALF_LIVES, Nuclide
from nnunet_igtv.suv.sources import CONTRADICT, change

BOTH = "injection time (0018,1072) and injection date and time (0018,1078)"
WARNED_S = 60.0  # two injection times that differ by more are named
MIDNIGHT = timedelta(0)


def injected(
    header: Dataset,
    information: Dataset,
    scan: datetime,
    nuclide: Nuclide,
    constant: float,
    warnings: list[str],
) -> datetime:
    """The injection by the scanner's clock and on the days of the scan.

    Args:
        header, information: of a slice, and the item of its radiopharmaceutical sequence.
        scan: begin of the scan.
        constant: decay constant, 1/s.

    Raises IGTVError if there is no injection time, if its sources contradict each other, if its time zone is
    unknown, or if its day is needed and not known.
    """
    clock = clock_of(text(information, "RadiopharmaceuticalStartTime"))
    stamp = stamp_of(text(information, "RadiopharmaceuticalStartDateTime"))
    if stamp and stamp.clock == MIDNIGHT and clock:  # a date, written as a full DT
        stamp = Stamp(stamp.day, None, None)
    if stamp and stamp.clock and clock == MIDNIGHT:  # a removed time
        clock = None
    dated = _full(stamp, clock, header, constant, warnings) if stamp else None
    if dated:
        return _with_date(dated, scan, nuclide, warnings)
    if clock is None:
        raise refuse("no injection time (0018,1078) or (0018,1072)")
    return _without_date(clock, scan, nuclide, warnings)


def _full(
    stamp: Stamp, clock: timedelta | None, header: Dataset, constant: float, warnings: list[str]
) -> datetime | None:
    """Date and time by the scanner's clock, compared with the time alone; None without any time."""
    if stamp.clock is None:
        return None if clock is None else stamp.day + clock
    if clock is None:
        return local(stamp, header, "injection date and time (0018,1078)")
    if stamp.offset is not None and zone(header) is None:
        difference = zone_difference(clock - stamp.clock)
        moment = stamp.moment + (difference or timedelta(0))
    else:
        moment = local(stamp, header, "injection date and time (0018,1078)")
    apart = _nearest_day(split(moment)[0] + clock, moment) - moment
    if abs(apart.total_seconds()) > WARNED_S:
        values = f"{shown(NO_DATE + clock)} and {shown(moment)}"
        if change(moment + apart, moment, constant) > CONTRADICT:
            raise refuse(f"{BOTH} contradict each other: {values}")
        warnings.append(f"{BOTH} contradict each other: {values}; the latter used")
    return moment


def _with_date(moment: datetime, scan: datetime, nuclide: Nuclide, warnings: list[str]) -> datetime:
    elapsed = (scan - moment).total_seconds()
    if 0 <= elapsed <= MOST_HALF_LIVES * nuclide.half_life_s:
        return _measured(moment, scan, nuclide)
    time_of_day = _nearest_day(moment, scan - DAY / 2)  # the last one before the scan
    if nuclide.long_lived or not nuclide.usual_uptake((scan - time_of_day).total_seconds()):
        if elapsed < 0:
            raise refuse(f"the injection (0018,1078) is {-elapsed / 3600:.3g} h after the scan")
        raise refuse(
            f"the injection (0018,1078) is {elapsed / 3600:.3g} h before the scan, over {MOST_HALF_LIVES} "
            f"half-lives of {nuclide.name}"
        )
    warnings.append("injection date is not that of the scan (shifted dates): its time of day used")
    return time_of_day


def _without_date(clock: timedelta, scan: datetime, nuclide: Nuclide, warnings: list[str]) -> datetime:
    if nuclide.long_lived:
        raise refuse(
            f"the day of the injection is not known (0018,1078), and {nuclide.name} is scanned on later days "
            "too"
        )
    moment = split(scan)[0] + clock
    if moment > scan:
        elapsed = (scan + DAY - moment).total_seconds()
        if not nuclide.usual_uptake(elapsed):
            raise refuse(
                f"the injection at {shown(moment)} (0018,1072) is after the scan at {shown(scan)}, and "
                f"{elapsed / 60:.0f} min before it if it was on the day before"
            )
        warnings.append("injection time of day is after the scan: taken as the day before (across midnight)")
        moment -= DAY
    return _measured(moment, scan, nuclide)


def _measured(moment: datetime, scan: datetime, nuclide: Nuclide) -> datetime:
    """Refuse a time of 00:00:00, which mostly stands for a removed one, unless the uptake time is usual."""
    if not nuclide.usual_uptake((scan - moment).total_seconds()):
        for what, when in (("injection", moment), ("scan", scan)):
            if split(when)[1] == MIDNIGHT:
                raise refuse(f"the time of the {what} is 00:00:00, which stands for a removed one")
    return moment


def _nearest_day(moment: datetime, other: datetime) -> datetime:
    """The moment, moved by whole days to where it is nearest to another."""
    return moment + round((other - moment) / DAY) * DAY
