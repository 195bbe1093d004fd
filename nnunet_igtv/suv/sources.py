"""What the headers of a PET series say of the moment to which its decay was corrected, source by source.

DICOM says for Decay Correction START that all images of a series are corrected to the start of the
acquisition (PS3.3 C.8.9.1), and has no attribute for that moment in single-frame PET. The sources, and what
can be wrong with each:

- the scan time that GE and Siemens write in private elements: the moment itself, lost in de-identification;
- Series Time: the moment itself for most scanners; later, if a workstation stored the series again;
- Acquisition Time: the start of each bed position; with some vendors that of the whole scan on every bed;
- Frame Reference Time: from the moment to the middle of each frame (GE: to its start);
- Decay Factor: by how much each slice was scaled, from the middle of its frame to the moment; where a vendor
  writes the decay within the frame only, or 1 everywhere, it says nothing of the moment.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.suv.headers import GE, SIEMENS, number, private_text, refuse
from nnunet_igtv.suv.moments import DAY, local, scan_moment, shown, split, stamp_of, zone

# how much two sources may change the SUV: below the first they agree, beyond the second they contradict
AGREE, CONTRADICT = 0.01, 0.05
CLOCK_S = 2.0  # clocks are written in whole seconds


def change(a: datetime, b: datetime, constant: float) -> float:
    """By which share an SUV differs if one moment is taken for the other; 0 for less than clocks resolve."""
    seconds = abs((a - b).total_seconds())
    return 0.0 if seconds <= CLOCK_S else float(np.expm1(min(constant * seconds, 700.0)))


def acquired(header: Dataset) -> datetime | None:
    """When the frame of a slice began; across midnight also where only the series has a date."""
    moment = scan_moment(header, "AcquisitionDate", "AcquisitionTime")
    if moment is None:
        stamp = stamp_of(text(header, "AcquisitionDateTime"))
        if stamp is None or stamp.clock is None:
            return None
        return stamp.moment if zone(header) is None else local(stamp, header, "Acquisition DateTime")
    series = scan_moment(header, "SeriesDate", "SeriesTime")
    if series and not text(header, "AcquisitionDate") and series - moment > DAY / 2:
        moment += DAY
    return moment


def average_decay_time(duration: float, constant: float) -> float:
    """When, in a frame of `duration` s, the activity equals its mean over the frame (DICOM C.8.9.4.1.5)."""
    x = constant * duration
    return float(np.log(x / -np.expm1(-x)) / constant) if x > 0 else 0.0


def duration_s(header: Dataset) -> float:
    return number(header, "ActualFrameDuration") / 1000


class Sources:
    """The moments that the headers of one series give; `series`, `private` and `acquired` may be None."""

    def __init__(self, headers: Sequence[Dataset], constant: float, warnings: list[str]) -> None:
        self.headers, self.constant, self.warnings = headers, constant, warnings
        found = [acquired(h) for h in headers]
        self.acquired = [t for t in found if t is not None] if None not in found else []
        series = {scan_moment(h, "SeriesDate", "SeriesTime") for h in headers}
        if len(series) > 1:
            warnings.append("series time differs between the slices: not used")
        self.series = series.pop() if len(series) == 1 else None
        self._drop_stand_ins()
        self.earliest = min(self.acquired, default=datetime.min)
        if self.series and self.acquired and self.earliest - self.series > DAY / 2:
            warnings.append("series time is over half a day before the acquisition: not used")
            self.series = None
        self.private, self.private_name = self._private()
        self.durations = [duration_s(h) for h in headers]
        self.frames, self.scaled = self._frames(), self._scaled()
        self._doubt_scaled()

    def _drop_stand_ins(self) -> None:
        """Times of 00:00:00 that another source contradicts were removed, not measured."""
        if not self.series or not self.acquired:
            return
        first = min(self.acquired)
        midnight = [split(t)[1] == timedelta(0) for t in (self.series, first)]
        if any(midnight) and self.change(self.series, first) > CONTRADICT:
            if midnight[0]:
                self.warnings.append("series time is 00:00:00 and not that of the acquisition: not used")
                self.series = None
            if midnight[1]:
                self.acquired = []

    def _private(self) -> tuple[datetime | None, str]:
        places = ((GE, 0x0D, "GE scan time (0009,100D)"), (SIEMENS, 0x22, "Siemens scan time (0071,1022)"))
        for block, element, name in places:
            stamp = stamp_of(private_text(self.headers[0], block, element))
            if stamp and stamp.clock:
                known = zone(self.headers[0]) is not None
                return self._on_the_day(local(stamp, self.headers[0], name) if known else stamp.moment, name)
        return None, ""

    def _on_the_day(self, moment: datetime, name: str) -> tuple[datetime, str]:
        """Private elements keep their dates where de-identification shifts the others."""
        if self.acquired and abs(moment - self.earliest) > DAY / 2:
            days = round((self.earliest - moment) / DAY)
            self.warnings.append(
                f"the date of the {name} is not that of the acquisition: its time of day used"
            )
            moment += days * DAY
        return moment, name

    def _frames(self) -> list[datetime]:
        """The reference by frame reference time and acquisition time of each slice; [] if not given."""
        offsets = [number(h, "FrameReferenceTime") / 1000 for h in self.headers]
        given = all(text(h, "FrameReferenceTime") for h in self.headers) and max(offsets) > 0
        if not self.acquired or not given or min(offsets) < 0 or min(self.durations) <= 0:
            return []
        middles = [average_decay_time(length, self.constant) for length in self.durations]
        maker = text(self.headers[0], "Manufacturer").upper()
        first_bed = abs(min(offsets) - middles[offsets.index(min(offsets))]) <= CLOCK_S
        if min(offsets) == 0 or (maker.startswith("GE") and not first_bed):
            # counted to the start of the frame
            middles = [0.0] * len(middles)
        return [
            t + timedelta(seconds=middle - offset)
            for t, middle, offset in zip(self.acquired, middles, offsets, strict=True)
        ]

    def _scaled(self) -> list[datetime]:
        """The reference by decay factor and acquisition time of each slice; [] if not given."""
        factors = [number(h, "DecayFactor") for h in self.headers]
        if not self.acquired or min(factors) < 1 or max(factors) == 1 or min(self.durations) <= 0:
            return []
        middles = [average_decay_time(length, self.constant) for length in self.durations]
        if min(factors) == 1:  # with the decay within its frame it were larger: counted to the start
            middles = [0.0] * len(middles)
        return [
            t + timedelta(seconds=middle - np.log(factor) / self.constant)
            for t, middle, factor in zip(self.acquired, middles, factors, strict=True)
        ]

    def _doubt_scaled(self) -> None:
        """Warn if the decay factors of the beds give several moments: each may be corrected to its own."""
        apart = self.change(min(self.scaled), max(self.scaled)) if self.scaled else 0.0
        if apart > CONTRADICT and not self.one_acquisition:
            self.warnings.append(
                f"the decay factors (0054,1321) of the beds do not belong to one moment ({apart:.1%} of the "
                "SUV between them): not used; if each bed was corrected to its own moment, SUVs are wrong"
            )

    def _one(self, moments: list[datetime]) -> datetime | None:
        if not moments or self.change(min(moments), max(moments)) > AGREE:
            return None
        return sorted(moments)[len(moments) // 2]

    @property
    def by_frames(self) -> datetime | None:
        """The one moment that all frame reference times give; None if they give several, or none."""
        return self._one(self.frames)

    @property
    def by_factors(self) -> datetime | None:
        """The one moment that all decay factors give; None if they give several, or none."""
        return self._one(self.scaled)

    @property
    def one_acquisition(self) -> bool:
        """Whether all slices have the same acquisition time: one bed position, or that of the whole scan."""
        return len(set(self.acquired)) == 1

    def change(self, a: datetime, b: datetime) -> float:
        return change(a, b, self.constant)

    def listed(self) -> str:
        """All sources with their times of day, for messages."""
        named = (
            ("series time", self.series),
            ("acquisition time", self.earliest if self.acquired else None),
            (self.private_name, self.private),
            ("frame reference time counts from", self.by_frames),
            ("decay factor counts from", self.by_factors),
        )
        return ", ".join(f"{name} {shown(moment)}" for name, moment in named if moment)

    def contradiction(self) -> IGTVError:
        return refuse(
            "the sources of the time to which the decay was corrected contradict each other: "
            f"{self.listed()}",
            "write the right one into Decay Correction DateTime (0018,9701) of all slices, or leave this "
            "study out",
        )

    def doubt(self, moment: datetime, other: datetime, what: str) -> None:
        """Warn if two sources that are near each other do not quite agree."""
        share = self.change(moment, other)
        if share > AGREE:
            self.warnings.append(f"{what} ({share:.1%} of the SUV): {self.listed()}")
