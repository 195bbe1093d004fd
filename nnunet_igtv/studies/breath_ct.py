"""The CT that stands for a 4D-CT: the average of its phases, their maximum, or one of them.

A series that the scanner made is taken, if there is one; else the phases are combined.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_igtv.dicom.phases import moments_in
from nnunet_igtv.dicom.pixels import planes
from nnunet_igtv.dicom.series import AVERAGE, MAXIMUM, Series
from nnunet_igtv.dicom.traits import moment
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import same_grid
from nnunet_igtv.studies.candidates import table
from nnunet_igtv.studies.choice import choose_ct
from nnunet_igtv.studies.known import ReadingOptions
from nnunet_igtv.studies.phases import FourD, Phase
from nnunet_igtv.studies.projections import combined

DIFFERENT_HU = 30.0  # mean difference in a slice: of noise and rounding it is a few HU
COMPARED_SLICES = 3


@dataclass(frozen=True)
class BreathCT:
    """What stands for the 4D-CT.

    Attributes:
        series: the series.
        shows: what the voxels are, in words without a patient's data.
        why: why it was taken.
        warnings: what a person should know about it.
    """

    series: Series
    shows: str
    why: str
    warnings: tuple[str, ...] = ()


def breath_ct(
    series: Sequence[Series],
    breath: FourD,
    channel: str = AVERAGE,
    options: ReadingOptions | None = None,
    needed: int | None = None,
) -> BreathCT:
    """The CT that a person asked for.

    Args:
        series: all series of the study.
        breath: its 4D-CT.
        channel: "average", "maximum", or a phase ("50", "20 In").
        options: names a CT series, which is taken then.
        needed: how many phases must be there to be combined; None for all.

    Raises:
        IGTVError: no such phase, several series that could serve, or phases missing or there twice that are
            to be combined.
    """
    if options is not None and options.ct is not None:
        chosen = choose_ct([s for s in series if s.modality == "CT"], options)
        shows = f"phase {moment(chosen.series)}" if moment(chosen.series) else "a CT that was named"
        return BreathCT(chosen.series, shows, chosen.why, chosen.warnings)
    if channel not in (AVERAGE, MAXIMUM):
        phase = phase_meant(breath, channel)
        why = "asked for"
        return BreathCT(phase.series, f"phase {phase}", why)
    made = breath.averages if channel == AVERAGE else breath.maxima
    if len(made) > 1:
        raise IGTVError(
            f"{len(made)} CT series could be the {channel} of the phases",
            remedy="name one",
            settings=["ct"],
            table=table(made),
        )
    if made:
        return _of_the_scanner(made[0], breath, channel)
    computed = combined(breath, channel, needed, options is not None and options.trust_frames)
    return BreathCT(computed, f"{channel} of {len(breath.phases)} phases", "computed from the phases")


def phase_meant(breath: FourD, given: str) -> Phase:
    """The phase that a person named. Raises IGTVError if it is not there, or there twice."""
    number = re.match(r"\s*(\d+(?:\.\d+)?)", given)
    (told,) = moments_in([given])
    for phase in breath.phases:
        own = phase.moment
        if told is not None and told.direction == own.direction and abs(told.value - own.value) < 0.5:
            return phase
        if told is None and number and not own.direction and abs(float(number[1]) - own.value) < 0.5:
            return phase
    there = ", ".join(map(str, breath.phases))
    raise IGTVError(
        f"the 4D-CT has no phase {given!r} (or it is there twice); there are {there}",
        remedy="name one of them, or take the average or the maximum",
        settings=["channel"],
    )


def _of_the_scanner(series: Series, breath: FourD, channel: str) -> BreathCT:
    """A series that was made from the phases; a warning where it does not look like that."""
    first = breath.phases[0].series
    warnings = []
    if series.frame_of_reference != first.frame_of_reference:
        raise IGTVError(
            f"the {channel} of the phases has another frame of reference than the phases",
            file=series.folder,
            remedy="take it out of the folder: it can be computed; or name the CT",
            settings=["ct"],
        )
    if not same_grid(series.grid, first.grid):
        warnings.append(
            f"the {channel} series has another grid than the phases: a label of the phases is resampled"
        )
    elif channel == AVERAGE:
        off = _largest_difference(series, breath)
        if off > DIFFERENT_HU:
            warnings.append(
                f"the average series differs from the average of the phases by {off:.0f} HU in a slice: is "
                "it of the same breath?"
            )
    why = f"the {channel} series of the study"
    return BreathCT(series, f"{channel} of the phases", why, tuple(warnings))


def _largest_difference(average: Series, breath: FourD) -> float:
    """By how many HU a series differs from the average of the phases: the largest mean difference within a
    slice, over some slices."""
    found = 0.0
    for k in np.linspace(0, len(average.headers) - 1, COMPARED_SLICES + 2).astype(int)[1:-1]:
        mean = np.mean([_plane(phase.series, int(k)) for phase in breath.phases], axis=0)
        found = max(found, float(np.abs(_plane(average, int(k)) - mean).mean()))
    return found


def _plane(series: Series, k: int) -> np.ndarray:
    at = slice(k, k + 1)
    return next(planes(series.files[at], series.frames[at], series.headers[at])).values
