"""To which moment the scanner corrected the decay of a PET series: every source of it, compared.

DICOM says for Decay Correction START that all images of a series are corrected to the start of the
acquisition (PS3.3 C.8.9.1), and has no attribute for that moment in single-frame PET. The sources, and what
can be wrong with each:

- the scan time that GE and Siemens write in private elements: the moment itself, lost in de-identification;
- Series Time: the moment itself for most scanners; later, if a workstation stored the series again;
- Acquisition Time: the start of each bed position; with some vendors that of the whole scan on every bed;
- Frame Reference Time: from the moment to the middle of each frame (GE: to its start).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, values_of
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.suv.headers import GE, SIEMENS, number, private_text, refuse, same_text, text
from nnunet_igtv.suv.moments import DAY, local, scan_moment, shown, split, stamp_of, zone

# how much two sources may change the SUV: below the first they agree, beyond the second they contradict
AGREE, CONTRADICT = 0.01, 0.05
CLOCK_S = 2.0  # clocks are written in whole seconds
STATED = "Decay Correction DateTime (0018,9701)"
FRAME_TIME = "acquisition time and frame reference time per slice"


@dataclass(frozen=True)
class Reference:
    """The moment to which the decay of each slice was corrected, when the scan began, and the source."""

    times: list[datetime]
    began: datetime
    source: str


def change(a: datetime, b: datetime, constant: float) -> float:
    """By which share an SUV differs if one moment is taken for the other; 0 for less than clocks resolve."""
    seconds = abs((a - b).total_seconds())
    return 0.0 if seconds <= CLOCK_S else float(np.expm1(min(constant * seconds, 700.0)))


def start_of_scan(headers: Sequence[Dataset], constant: float, warnings: list[str]) -> Reference:
    """The reference of Decay Correction START. Raises IGTVError where the sources contradict each other."""
    sources = _Sources(headers, constant, warnings)
    stated = stamp_of(same_text(headers, "DecayCorrectionDateTime"))
    if stated:  # enhanced PET says it outright
        return _from_statement(sources, local(stated, headers[0], STATED))
    if sources.private:
        return _from_private(sources)
    if not sources.acquired:
        raise refuse("no acquisition time (0008,0032), or one of 00:00:00 that stands for none")
    if sources.series and sources.series <= sources.earliest:
        return _from_series(sources)
    return _from_acquisition(sources)


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


class _Sources:
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
        self.frames = self._frames()

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
        durations = [duration_s(h) for h in self.headers]
        if not self.acquired or min(offsets) <= 0 or min(durations) <= 0:
            return []
        middles = [average_decay_time(length, self.constant) for length in durations]
        maker = text(self.headers[0], "Manufacturer").upper()
        first_bed = abs(min(offsets) - middles[offsets.index(min(offsets))]) <= CLOCK_S
        if maker.startswith("GE") and not first_bed:  # GE counts to the start of the frame
            middles = [0.0] * len(middles)
        return [
            t + timedelta(seconds=middle - offset)
            for t, middle, offset in zip(self.acquired, middles, offsets, strict=True)
        ]

    @property
    def by_frames(self) -> datetime | None:
        """The one moment that all frames give; None if they give several, or none."""
        if not self.frames or self.change(min(self.frames), max(self.frames)) > AGREE:
            return None
        return sorted(self.frames)[len(self.frames) // 2]

    @property
    def one_acquisition(self) -> bool:
        """Whether all slices have the same acquisition time: one bed position, or that of the whole scan."""
        return len(set(self.acquired)) == 1

    def change(self, a: datetime, b: datetime) -> float:
        return change(a, b, self.constant)

    def listed(self) -> str:
        """All sources with their times of day, for messages."""
        by_frames = self.by_frames
        named = (
            ("series time", self.series),
            ("acquisition time", self.earliest if self.acquired else None),
            (self.private_name, self.private),
            ("frame reference time counts from", by_frames),
        )
        return ", ".join(f"{name} {shown(moment)}" for name, moment in named if moment)

    def contradiction(self) -> IGTVError:
        return refuse(
            "the sources of the time to which the decay was corrected contradict each other: "
            f"{self.listed()}",
            "write the right one into Decay Correction DateTime (0018,9701) of all slices, or leave this "
            "study out",
        )

    def result(self, moment: datetime, source: str, began: datetime | None = None) -> Reference:
        first = self.earliest if self.acquired else (began or moment)
        return Reference([moment] * len(self.headers), first, source)

    def doubt(self, moment: datetime, other: datetime, what: str) -> None:
        """Warn if two sources that are near each other do not quite agree."""
        share = self.change(moment, other)
        if share > AGREE:
            self.warnings.append(f"{what} ({share:.1%} of the SUV): {self.listed()}")


def _from_statement(sources: _Sources, moment: datetime) -> Reference:
    """What the scanner or a person says outright: used whatever the other sources say, with a warning where
    all of them contradict it.

    It may be any moment so that its day is not corrected: that of an injection days before
    is right.
    """
    others = [sources.series, sources.private, sources.by_frames]
    others += [sources.earliest] if sources.acquired else []
    share = min((sources.change(moment, other) for other in others if other), default=0.0)
    injection = _injection(sources.headers[0])
    to_the_injection = injection is not None and sources.change(moment, injection) <= CONTRADICT
    if share > CONTRADICT and not to_the_injection:
        sources.warnings.append(
            f"{STATED}, which is used, says {shown(moment)}, and all other sources contradict it "
            f"(by {share:.1%} of the SUV at least): {sources.listed()}"
        )
    return sources.result(moment, "decay correction time (0018,9701)", moment)


def _injection(header: Dataset) -> datetime | None:
    """When the activity was injected, if a DT says it by the scanner's clock; to compare with."""
    items = attribute(header, "RadiopharmaceuticalInformationSequence") or [Dataset()]
    stamp = stamp_of(text(items[0], "RadiopharmaceuticalStartDateTime"))
    if stamp is None or (stamp.offset is not None and zone(header) is None):
        return None
    return local(stamp, header, "Radiopharmaceutical Start DateTime")


def _from_private(sources: _Sources) -> Reference:
    """The scanner's own scan time, if another source says the same, or if there is none."""
    private, name, series = sources.private, sources.private_name, sources.series
    assert private is not None
    if series and sources.acquired and series > sources.earliest:
        series = None  # stored again after the scan
    if series and sources.change(series, private) <= AGREE:
        _doubt_frames(sources, private)
        return sources.result(series, "series time")
    others = [series, sources.earliest if sources.acquired else None, sources.by_frames]
    nearest = min((t for t in others if t), key=lambda t: abs(t - private), default=private)
    if sources.change(nearest, private) > CONTRADICT:
        raise sources.contradiction()
    sources.doubt(private, nearest, f"{name} and its nearest neighbour do not quite agree")
    if series:
        sources.doubt(private, series, f"series time contradicts {name}, which is used")
    return sources.result(private, name)


def _from_series(sources: _Sources) -> Reference:
    """Series time where it is not after the first acquisition, if another source says the same."""
    series, earliest, by_frames = sources.series, sources.earliest, sources.by_frames
    assert series is not None
    near_frames = by_frames and sources.change(series, by_frames) <= CONTRADICT
    if not near_frames and sources.change(series, earliest) > CONTRADICT:
        raise sources.contradiction()
    if by_frames and sources.change(by_frames, earliest) <= AGREE < sources.change(series, earliest):
        sources.doubt(
            series, earliest, "acquisition time and frame reference time agree, series time not quite"
        )
        return Reference(sources.frames, earliest, FRAME_TIME)
    if near_frames and by_frames:
        sources.doubt(series, by_frames, "series time and frame reference time do not quite agree")
    else:
        sources.doubt(series, earliest, "series time and acquisition time do not quite agree")
        _doubt_frames(sources, series)
    return sources.result(series, "series time")


def _from_acquisition(sources: _Sources) -> Reference:
    """Without a series time: by the frames if they agree with each other, else the first acquisition."""
    by_frames = sources.by_frames
    if by_frames:
        apart = sources.change(by_frames, sources.earliest)
        if sources.one_acquisition and apart > CONTRADICT:
            raise sources.contradiction()
        if sources.one_acquisition:
            what = "acquisition time and frame reference time do not quite agree"
            sources.doubt(by_frames, sources.earliest, what)
        return Reference(sources.frames, sources.earliest, FRAME_TIME)
    if sources.frames and not sources.one_acquisition:
        sources.warnings.append(
            "frame reference times and acquisition times of the beds contradict each other: the first "
            f"acquisition used, {sources.listed()}"
        )
    return sources.result(sources.earliest, "earliest acquisition time")


def _doubt_frames(sources: _Sources, moment: datetime) -> None:
    """Warn if frame reference time gives another moment than the two sources that agree."""
    by_frames = sources.by_frames
    if by_frames and sources.change(by_frames, moment) > CONTRADICT:
        sources.doubt(moment, by_frames, "frame reference time contradicts the other times, which are used")


def corrected_to_nothing(headers: Sequence[Dataset], constant: float, warnings: list[str]) -> Reference:
    """Decay Correction NONE: each slice shows the mean activity of its own frame.

    The moment at which the activity equals that mean, per slice.
    """
    found = [acquired(h) for h in headers]
    times = [t for t in found if t is not None]
    if len(times) < len(headers):
        raise refuse("no acquisition time (0008,0032)")
    durations = [duration_s(h) for h in headers]
    if min(durations) <= 0:
        raise refuse("decay correction NONE without Actual Frame Duration (0018,1242)")
    offsets = [number(h, "FrameReferenceTime") / 1000 for h in headers]
    running = timedelta(seconds=max(offsets) - min(offsets))
    if len(set(times)) == 1 and change(times[0], times[0] + running, constant) > CONTRADICT:
        raise refuse(
            "decay correction NONE, and the acquisition time is the same on all beds while frame reference "
            f"time runs over {running.total_seconds():.0f} s"
        )
    if "DECY" in {str(v).strip().upper() for v in values_of(headers[0], "CorrectedImage")}:
        warnings.append("decay correction is NONE and (0028,0051) lists DECY: taken as not corrected")
    means = [
        t + timedelta(seconds=average_decay_time(d, constant)) for t, d in zip(times, durations, strict=True)
    ]
    return Reference(means, min(times), "not decay corrected (NONE), acquisition time per slice")
