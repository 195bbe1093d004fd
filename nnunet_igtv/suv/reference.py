"""To which moment the scanner corrected the decay of a PET series: which of the sources counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from nnunet_igtv.dicom.attributes import attribute, text, words_of
from nnunet_igtv.suv.headers import number, refuse, same_text
from nnunet_igtv.suv.moments import local, shown, stamp_of, zone
from nnunet_igtv.suv.sources import (
    AGREE,
    CONTRADICT,
    Sources,
    acquired,
    average_decay_time,
    change,
    duration_s,
)

STATED = "Decay Correction DateTime (0018,9701)"
FRAME_TIME = "acquisition time and frame reference time per slice"
DECAY_FACTOR = "acquisition time and decay factor (0054,1321) per slice"


@dataclass(frozen=True)
class Reference:
    """The moment to which the decay of each slice was corrected, when the scan began, and the source."""

    times: list[datetime]
    began: datetime
    source: str


def start_of_scan(headers: Sequence[Dataset], constant: float, warnings: list[str]) -> Reference:
    """The reference of Decay Correction START. Raises IGTVError where the sources contradict each other."""
    sources = Sources(headers, constant, warnings)
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


def _all(sources: Sources, moment: datetime, source: str) -> Reference:
    """One moment for all slices."""
    first = sources.earliest if sources.acquired else moment
    return Reference([moment] * len(sources.headers), first, source)


def _from_statement(sources: Sources, moment: datetime) -> Reference:
    """What the scanner or a person says outright: used whatever the other sources say, with a warning where
    all of them contradict it.

    It may be any moment so that its day is not corrected: that of an injection days before
    is right.
    """
    others = [sources.series, sources.private, sources.by_frames, sources.by_factors]
    others += [sources.earliest] if sources.acquired else []
    share = min((sources.change(moment, other) for other in others if other), default=0.0)
    injection = _injection(sources.headers[0])
    to_the_injection = injection is not None and sources.change(moment, injection) <= CONTRADICT
    if share > CONTRADICT and not to_the_injection:
        sources.warnings.append(
            f"{STATED}, which is used, says {shown(moment)}, and all other sources contradict it "
            f"(by {share:.1%} of the SUV at least): {sources.listed()}"
        )
    return _all(sources, moment, "decay correction time (0018,9701)")


def _injection(header: Dataset) -> datetime | None:
    """When the activity was injected, if a DT says it by the scanner's clock; to compare with."""
    items = attribute(header, "RadiopharmaceuticalInformationSequence") or [Dataset()]
    stamp = stamp_of(text(items[0], "RadiopharmaceuticalStartDateTime"))
    if stamp is None or (stamp.offset is not None and zone(header) is None):
        return None
    return local(stamp, header, "Radiopharmaceutical Start DateTime")


def _from_private(sources: Sources) -> Reference:
    """The scanner's own scan time, if another source says the same, or if there is none."""
    private, name, series = sources.private, sources.private_name, sources.series
    assert private is not None
    if series and sources.acquired and series > sources.earliest:
        series = None  # stored again after the scan
    if series and sources.change(series, private) <= AGREE:
        _doubt_slices(sources, private)
        return _all(sources, series, "series time")
    acquisition = sources.earliest if sources.acquired else None
    others = [series, acquisition, sources.by_frames, sources.by_factors]
    nearest = min((t for t in others if t), key=lambda t: abs(t - private), default=private)
    if sources.change(nearest, private) > CONTRADICT:
        raise sources.contradiction()
    sources.doubt(private, nearest, f"{name} and its nearest neighbour do not quite agree")
    if series:
        sources.doubt(private, series, f"series time contradicts {name}, which is used")
    return _all(sources, private, name)


def _from_series(sources: Sources) -> Reference:
    """Series time where it is not after the first acquisition, if another source says the same."""
    series, earliest = sources.series, sources.earliest
    by_frames, by_factors = sources.by_frames, sources.by_factors
    assert series is not None
    near_frames = by_frames and sources.change(series, by_frames) <= CONTRADICT
    near_factors = by_factors and sources.change(series, by_factors) <= CONTRADICT
    if sources.change(series, earliest) > CONTRADICT:
        if by_factors and not near_factors:
            return _from_factors_against_series(sources, by_factors)
        if not near_frames and not near_factors:
            raise sources.contradiction()
    if by_frames and sources.change(by_frames, earliest) <= AGREE < sources.change(series, earliest):
        sources.doubt(
            series, earliest, "acquisition time and frame reference time agree, series time not quite"
        )
        return Reference(sources.frames, earliest, FRAME_TIME)
    if near_frames and by_frames:
        sources.doubt(series, by_frames, "series time and frame reference time do not quite agree")
    elif near_factors and by_factors:
        sources.doubt(series, by_factors, "series time and decay factor do not quite agree")
    else:
        sources.doubt(series, earliest, "series time and acquisition time do not quite agree")
    _doubt_slices(sources, series)
    return _all(sources, series, "series time")


def _from_factors_against_series(sources: Sources, by_factors: datetime) -> Reference:
    """Where series time is contradicted both by acquisition time and by the decay factors: these two, if they
    agree, unless frame reference time sides with the series."""
    near_earliest = sources.change(by_factors, sources.earliest) <= CONTRADICT
    by_frames, series = sources.by_frames, sources.series
    with_series = by_frames and series and sources.change(series, by_frames) <= CONTRADICT
    if not near_earliest or with_series:
        raise sources.contradiction()
    assert series is not None
    sources.doubt(
        by_factors, series, "series time contradicts acquisition time and decay factor, which are used"
    )
    return Reference(sources.scaled, sources.earliest, DECAY_FACTOR)


def _from_acquisition(sources: Sources) -> Reference:
    """Without a series time: by the slices if they agree with each other, else the first acquisition."""
    by_frames, by_factors = sources.by_frames, sources.by_factors
    if by_frames and by_factors and sources.change(by_frames, by_factors) > CONTRADICT:
        raise sources.contradiction()
    by_slices = by_frames or by_factors
    if by_slices:
        if sources.one_acquisition and sources.change(by_slices, sources.earliest) > CONTRADICT:
            raise sources.contradiction()
        if sources.one_acquisition:
            name = "frame reference time" if by_frames else "decay factor"
            sources.doubt(by_slices, sources.earliest, f"acquisition time and {name} do not quite agree")
        if by_frames:
            return Reference(sources.frames, sources.earliest, FRAME_TIME)
        return Reference(sources.scaled, sources.earliest, DECAY_FACTOR)
    if sources.frames and not sources.one_acquisition:
        sources.warnings.append(
            "frame reference times and acquisition times of the beds contradict each other: the first "
            f"acquisition used, {sources.listed()}"
        )
    elif not sources.frames:
        sources.warnings.append(
            "only the acquisition time says to which moment the decay was corrected: the earliest of the "
            f"slices is used, {shown(sources.earliest)}, which is right if no bed before it was left out"
        )
    return _all(sources, sources.earliest, "earliest acquisition time")


def _doubt_slices(sources: Sources, moment: datetime) -> None:
    """Warn if frame reference time or decay factor gives another moment than the sources that agree."""
    named = (("frame reference time", sources.by_frames), ("decay factor", sources.by_factors))
    for name, other in named:
        if other and sources.change(other, moment) > CONTRADICT:
            sources.doubt(moment, other, f"{name} contradicts the other times, which are used")


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
    if "DECY" in words_of(headers[0], "CorrectedImage"):
        warnings.append("decay correction is NONE and (0028,0051) lists DECY: taken as not corrected")
    means = [
        t + timedelta(seconds=average_decay_time(d, constant)) for t, d in zip(times, durations, strict=True)
    ]
    return Reference(means, min(times), "not decay corrected (NONE), acquisition time per slice")
