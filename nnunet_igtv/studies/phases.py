"""The 4D-CT of a study: the CT series that are phases of one breath, and the projections made from them.

How a header tells its phase is in `dicom.phases`, whether that is a breath's in `breath_evidence`; here it is
asked which of the series belong together, in which order, and what is missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nnunet_igtv.dicom import traits
from nnunet_igtv.dicom.attributes import attribute
from nnunet_igtv.dicom.phases import NUMBER, PERCENT, TELLERS, Moment, Teller
from nnunet_igtv.dicom.series import AVERAGE, MAXIMUM, Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, difference, same_grid
from nnunet_igtv.studies.breath_evidence import (
    FEWEST,
    STEP_TOLERANCE,
    Told,
    cycle,
    is_around_the_cycle,
    is_breath,
)
from nnunet_igtv.studies.candidates import table


@dataclass(frozen=True)
class Phase:
    """One phase of a breath and the CT series that shows it."""

    moment: Moment
    series: Series

    def __str__(self) -> str:
        return str(self.moment)


@dataclass(frozen=True)
class FourD:
    """The phases of one breath, in its order.

    Attributes:
        phases: each moment once.
        told_by: what tells the phases apart.
        twice: series of moments that several series show; none of them is in `phases`.
        faulty: series of moments that are no regular stack; none of them is in `phases`.
        missing: moments that a complete breath would have, as far as the others tell.
        averages, maxima: series that were made from all phases.
    """

    phases: tuple[Phase, ...]
    told_by: str
    twice: dict[Moment, list[Series]] = field(default_factory=dict)
    faulty: dict[Moment, Series] = field(default_factory=dict)
    missing: tuple[Moment, ...] = ()
    averages: tuple[Series, ...] = ()
    maxima: tuple[Series, ...] = ()

    @property
    def series(self) -> list[Series]:
        """All series of phases, those that are there twice included."""
        twice = [s for found in self.twice.values() for s in found]
        return [p.series for p in self.phases] + twice + list(self.faulty.values())

    @property
    def problems(self) -> list[str]:
        """What a whole breath would have and this one has not, in words."""
        return [
            *(f"phase {moment} has {len(found)} CT series" for moment, found in self.twice.items()),
            *(f"phase {moment}: {s.fault.what}" for moment, s in self.faulty.items() if s.fault),
            *(f"phase {moment} has no CT series" for moment in self.missing),
        ]

    @property
    def count(self) -> int:
        """How many phases a whole breath would have."""
        return len(self.phases) + len(self.problems)

    @property
    def is_cycle(self) -> bool:
        """Whether the last phase is followed by the first: no gap in the breath is known."""
        return not self.problems

    @property
    def grid(self) -> Grid:
        """The grid of all phases. Raises IGTVError if they have several."""
        first, *others = self.phases
        for phase in others:
            if not same_grid(phase.series.grid, first.series.grid):
                what = difference(phase.series.grid, first.series.grid)
                raise IGTVError(
                    f"the phases of the 4D-CT have different grids: phase {phase} has {what} (phase {first})",
                    file=phase.series.folder,
                    remedy="export the 4D-CT again, every phase with one matrix and slice spacing",
                )
        return first.series.grid


def lacking(count: int, problems: Sequence[str], needed: int | None) -> list[str]:
    """Why so many phases will not do, in words; empty where they will.

    Args:
        count: phases that can be used.
        problems: what a whole breath would have and is not among them.
        needed: how many are enough in spite of problems, never fewer than `FEWEST`; None for all.
    """
    least = max(FEWEST, needed or FEWEST)
    if count < least:
        return [*problems, f"at least {least} are needed"]
    return list(problems) if needed is None else []


def find_4d(series: Sequence[Series]) -> list[FourD]:
    """The 4D-CTs among some series, at most one for each study."""
    return [found for cts in _by_study(series) if (found := _of_study(cts)) is not None]


def _by_study(series: Sequence[Series]) -> list[list[Series]]:
    """The CT volumes of each study."""
    studies: dict[str, list[Series]] = {}
    for s in series:
        if s.modality == "CT" and traits.is_volume(s):
            studies.setdefault(s.study_uid, []).append(s)
    return list(studies.values())


def the_4d(series: Sequence[Series]) -> FourD:
    """The one 4D-CT among some series. Raises IGTVError if there is none, or several, or none of use."""
    found = find_4d(series)
    cts = [s for s in series if s.modality == "CT"]
    if not found:
        faults = [s.fault for s in cts if s.fault]
        raise IGTVError(
            "no 4D-CT in the study: no phases of the breath can be recognised"
            + (f" ({faults[0].what})" if faults else _not_believed(cts)),
            file=faults[0].file if faults else None,
            remedy="export the 4D-CT with the phase in Nominal Percentage of Respiratory Phase (0020,9245), "
            'or in Series Description with a word such as "4D" or "gated"; a CT that is none belongs to the '
            "source dicom-rt",
            table=table(cts) if cts else "",
        )
    if len(found) > 1:
        raise IGTVError(
            f"{len(found)} 4D-CTs could serve",
            remedy="name the study",
            settings=["study"],
            table=table([s for each in found for s in each.series]),
        )
    if len(found[0].phases) < FEWEST:
        raise IGTVError(
            f"{len(found[0].phases)} phases of the 4D-CT can be used: {'; '.join(found[0].problems)}",
            file=found[0].series[0].folder,
            remedy="export the 4D-CT again",
        )
    return found[0]


def _of_study(cts: Sequence[Series]) -> FourD | None:
    projections = {id(s): traits.projection(s) for s in cts}
    plain = [s for s in cts if not projections[id(s)]]
    breaths = ((told, teller) for told, teller in _tellings(plain) if is_breath(told, teller))
    told, teller = next(breaths, ((), None))
    if teller is None:
        return None
    shown: dict[Moment, list[Series]] = {}
    for moment, s in told:
        shown.setdefault(moment, []).append(s)
    order = sorted(shown, key=lambda moment: moment.key)
    single = {moment: shown[moment][0] for moment in order if len(shown[moment]) == 1}
    return FourD(
        phases=tuple(Phase(moment, s) for moment, s in single.items() if not s.fault),
        told_by=teller.name,
        twice={moment: shown[moment] for moment in order if len(shown[moment]) > 1},
        faulty={moment: s for moment, s in single.items() if s.fault},
        missing=_missing(order, teller.name, told[0][1]),
        averages=tuple(s for s in cts if projections[id(s)] == AVERAGE),
        maxima=tuple(s for s in cts if projections[id(s)] == MAXIMUM),
    )


def _tellings(series: Sequence[Series]) -> Iterator[tuple[Told, Teller]]:
    """What tells moments of series, and those of each that has one; of a breath or not.

    First come series that hold volumes of several moments. A number counts only among series that differ in
    nothing else: their description, frame and grid.
    """
    for teller in TELLERS:
        split: dict[str, list[tuple[Moment, Series]]] = {}
        for s in series:
            if s.moment is not None and s.told_by == teller.name:
                split.setdefault(s.uid, []).append((s.moment, s))
        if told := [each for found in split.values() if is_breath(found, teller) for each in found]:
            yield told, teller
    headers = [s.headers[0] for s in series]
    for teller in TELLERS:
        told = [
            (moment, s) for moment, s in zip(teller.read(headers), series, strict=True) if moment is not None
        ]
        yield told if teller.is_percent else _largest_alike(told), teller


def _not_believed(series: Sequence[Series]) -> str:
    """The moments that were told and are not known to be of a breath, in words."""
    for cts in _by_study(series):
        for told, teller in _tellings([s for s in cts if not traits.projection(s)]):
            moments = sorted({moment for moment, _ in told}, key=lambda moment: moment.key)
            if len(moments) >= FEWEST:
                said = ", ".join(map(str, moments))
                return f" ({teller.name} tells {said}, and nothing says that these are moments of a breath)"
    return ""


def _largest_alike(told: Sequence[tuple[Moment, Series]]) -> list[tuple[Moment, Series]]:
    groups: list[list[tuple[Moment, Series]]] = []
    for moment, s in told:
        if s.fault:
            continue
        for group in groups:
            if _alike(group[0][1], s):
                group.append((moment, s))
                break
        else:
            groups.append([(moment, s)])
    return max(groups, key=len, default=[])


def _alike(a: Series, b: Series) -> bool:
    """Whether two series differ in nothing but the moment."""
    return (
        a.description == b.description
        and a.frame_of_reference == b.frame_of_reference
        and traits.image_type(a) == traits.image_type(b)
        and same_grid(a.grid, b.grid)
    )


def _missing(order: Sequence[Moment], told_by: str, series: Series) -> tuple[Moment, ...]:
    """The moments that a whole breath in equal steps would have as well; none where that cannot be told."""
    values, unit = np.array([moment.value for moment in order]), order[0].unit
    wanted: np.ndarray
    if unit == PERCENT and not any(moment.direction for moment in order) and values.max() < 100:
        if not is_around_the_cycle(values):
            return ()
        wanted, tolerance = cycle(values), STEP_TOLERANCE
    elif unit == NUMBER and told_by == "Temporal Position":
        first = min(1, int(values.min()))
        try:
            count = int(attribute(series.headers[0], "NumberOfTemporalPositions"))
        except (TypeError, ValueError):
            count = int(values.max()) + 1 - first
        wanted, tolerance = np.arange(first, first + count), 0.0
    else:
        return ()
    absent = [value for value in wanted if np.abs(values - value).min() > tolerance]
    return tuple(Moment("", float(f"{value:.3g}"), unit) for value in absent)
