"""Which structure is drawn on which phase of a 4D-CT.

By its name, where the pattern holds `{phase}` ("GTV_{phase}" means GTV_00, GTV_10, …); else by the series or
the images that it was drawn on. What a phase lacks, or has twice, is named.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.phases import PERCENT, Moment
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import Roi, StructureSet, listed, matches
from nnunet_igtv.studies.case_parts import images_of, without_copies
from nnunet_igtv.studies.grouping import Study
from nnunet_igtv.studies.phases import FEWEST, FourD, Phase

PLACE = "{phase}"
USUAL = range(0, 101, 5)  # per cent; other numbers in names are numbers of tumours

Found = tuple[StructureSet, Roi]


@dataclass(frozen=True)
class PhaseStructures:
    """The structures of each phase that has one, in the order of the breath, and what is not as it should be.

    Attributes:
        drawn: phase -> its structures (several only where they are to be united).
        sets: the structure sets that they are from.
        problems: phases without a structure or with several, and structures without a phase.
    """

    drawn: tuple[tuple[Phase, tuple[Roi, ...]], ...]
    sets: tuple[StructureSet, ...]
    problems: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [roi.name for _, rois in self.drawn for roi in rois]


def phase_structures(
    study: Study, breath: FourD, pattern: str, needed: int | None = None, unite: bool = False
) -> PhaseStructures:
    """The structures that a pattern means on the phases of a 4D-CT.

    Args:
        study: holds the structure sets.
        breath: its 4D-CT.
        pattern: names the structure; with `{phase}`, that of each phase.
        needed: how many phases must have images and a structure; None for all.
        unite: take several structures of one phase together.

    Raises:
        IGTVError: no structure matches, or fewer phases have one than are needed; each phase that is missing,
            or has two candidates, is named.
    """
    frames = {phase.series.frame_of_reference for phase in breath.phases}
    sets = [s for s in study.structure_sets if s.frames_of_reference & frames] or study.structure_sets
    if PLACE in pattern:
        found, strays = _by_name(sets, breath, pattern)
    else:
        found, strays = _by_reference(sets, breath, pattern, {s.uid for s in study.series})
    if not found and not strays:
        names = sorted({name for s in sets for name in s.names})
        raise IGTVError(
            f"no structure of a phase matches {pattern!r}; there are: {listed(names)}",
            remedy=f"give the name with {PLACE} in the place of the phase, such as GTV_{PLACE}",
            settings=["structure"],
        )
    drawn: list[tuple[Phase, tuple[Roi, ...]]] = []
    problems: list[str] = []
    for phase in breath.phases:
        candidates = without_copies(found.get(phase.moment, []))
        own = [c for c in candidates if _names(c[0], phase)]
        candidates = own if len(candidates) > 1 and own else candidates
        if len(candidates) == 1 or (candidates and unite):
            drawn.append((phase, tuple(roi for _, roi in candidates)))
        elif candidates:
            said = listed([roi.name for _, roi in candidates])
            problems.append(f"phase {phase} has {len(candidates)} structures ({said})")
        else:
            problems.append(f"phase {phase} has no structure")
    problems += breath.problems
    problems += [f"structure {roi.name!r} is of no phase that is there" for _, roi in strays]
    if (problems and (needed is None or len(drawn) < needed)) or len(drawn) < FEWEST:
        raise IGTVError(
            f"{len(drawn)} of {breath.count} phases have images and one structure: {'; '.join(problems)}",
            remedy="add what is missing, name the structure more narrowly, or say how many phases are enough",
            settings=["structure", "min_phases"],
        )
    used = {id(roi) for _, rois in drawn for roi in rois}
    taken_from = {id(s): s for f in found.values() for s, roi in f if id(roi) in used}
    return PhaseStructures(tuple(drawn), tuple(taken_from.values()), tuple(problems))


def drawn_on_phases(study: Study, breath: FourD, pattern: str) -> list[Moment]:
    """The phases on whose images structures were drawn that a pattern means."""
    found, _ = _by_reference(study.structure_sets, breath, pattern, {s.uid for s in study.series})
    return [phase.moment for phase in breath.phases if phase.moment in found]


def structures_by_phase(sets: Sequence[StructureSet], breath: FourD) -> dict[Moment, list[str]]:
    """The names of the structures that were drawn on each phase, or that hold its number where they were
    drawn on none."""
    names: dict[Moment, list[str]] = {phase.moment: [] for phase in breath.phases}
    for s in sets:
        found, _ = _by_reference([s], breath, ".*", set())
        for moment, drawn in found.items():
            names[moment] += [roi.name for _, roi in drawn]
        for roi in s.rois if not found else ():
            for phase in breath.phases:
                value = re.escape(f"{phase.moment.value:g}")
                if re.search(rf"(?<![\d.])0*{value}(?:\.0)?(?![\d.])", roi.name):
                    names[phase.moment].append(roi.name)
    return names


def _is_drawn(roi: Roi) -> bool:
    return bool(roi.contours) or roi.drawn.fault is not None


def _by_name(
    sets: Sequence[StructureSet], breath: FourD, pattern: str
) -> tuple[dict[Moment, list[Found]], list[Found]]:
    """The structures named after each phase, and those named after a phase that is not there."""
    here = [phase.moment for phase in breath.phases]
    ways = {moment.direction for moment in here}
    usual = (
        {Moment(way, float(value)) for way in ways for value in USUAL} if here[0].unit == PERCENT else set()
    )
    absent = (usual | set(breath.missing)) - {*here, *breath.twice, *breath.faulty}
    found = {moment: named for moment in here if (named := _named(sets, pattern, moment))}
    taken = {id(roi) for named in found.values() for _, roi in named}
    strays = {
        id(f[1]): f for moment in absent for f in _named(sets, pattern, moment) if id(f[1]) not in taken
    }
    return found, list(strays.values())


def _named(sets: Sequence[StructureSet], pattern: str, moment: Moment) -> list[Found]:
    meant = [pattern.replace(PLACE, spelled) for spelled in moment.spelled()]
    return [
        (s, roi)
        for s in sets
        for roi in s.rois
        if _is_drawn(roi) and any(matches(each, roi.name) for each in meant)
    ]


def _by_reference(
    sets: Sequence[StructureSet], breath: FourD, pattern: str, present: set[str]
) -> tuple[dict[Moment, list[Found]], list[Found]]:
    """The structures drawn on the images or the series of each phase, and those whose series is not there."""
    images = {text(h, "SOPInstanceUID"): p.moment for p in breath.phases for h in p.series.headers}
    series = {p.series.uid: p.moment for p in breath.phases if p.series.moment is None}
    found: dict[Moment, list[Found]] = {}
    strays = []
    for s in sets:
        for roi in filter(_is_drawn, s.match(pattern)):
            moments = {images[uid] for uid in images_of(s, [roi]) if uid in images}
            moments = moments or {series[uid] for uid in s.series_uids if uid in series}
            if len(moments) == 1:
                found.setdefault(moments.pop(), []).append((s, roi))
            elif moments or not s.series_uids & present:
                strays.append((s, roi))
    return found, strays


def _names(structures: StructureSet, phase: Phase) -> bool:
    """Whether a structure set was drawn on the series of a phase."""
    if phase.series.moment is None:
        return phase.series.uid in structures.series_uids
    uids = {text(h, "SOPInstanceUID") for h in phase.series.headers}
    return not uids.isdisjoint(images_of(structures, structures.rois))


def has_place(pattern: str) -> bool:
    """Whether a pattern has a place for the phase. Raises IGTVError for one with other braces of words."""
    unknown = [word for word in re.findall(r"\{([A-Za-z]\w*)\}", pattern) if word != "phase"]
    if unknown:
        raise IGTVError(
            f"the pattern {pattern!r} has a place {{{unknown[0]}}} that means nothing",
            remedy=f"write {PLACE} where the phase is",
            settings=["structure"],
        )
    return PLACE in pattern
