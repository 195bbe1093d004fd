"""Which structure is drawn on which phase of a 4D-CT.

By its name, where the pattern holds `{phase}` ("GTV_{phase}" means GTV_00, GTV_10, …; `phase_names`); else by
the series or the images that it was drawn on. What a phase lacks, or has twice, is named, and so is every
structure that the pattern means and no phase gets.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_igtv.dicom.attributes import text
from nnunet_igtv.dicom.phases import PERCENT, Moment
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import Roi, StructureSet, listed
from nnunet_igtv.studies.case_parts import images_of, without_copies
from nnunet_igtv.studies.grouping import Study
from nnunet_igtv.studies.phase_names import PLACE, numbers_in, readings
from nnunet_igtv.studies.phases import FourD, Phase, lacking

Found = tuple[StructureSet, Roi]


@dataclass(frozen=True)
class PhaseStructures:
    """The structures of each phase that has one, in the order of the breath, and what is not as it should be.

    Attributes:
        drawn: phase -> its structures (several only where they are to be united).
        sets: the structure sets that they are from.
        problems: phases without a structure or with several, structures without a phase, and those whose
            number was taken for that of a tumour.
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
        IGTVError: no structure matches, or fewer phases have one than are needed (each phase that is missing
            or has two candidates, and each structure without a phase, is named), or the structures' names
            count otherwise than the phases.
    """
    frames = {phase.series.frame_of_reference for phase in breath.phases}
    sets = [s for s in study.structure_sets if s.frames_of_reference & frames] or study.structure_sets
    notes: list[str] = []
    if PLACE in pattern:
        found, unused, notes = _by_name(sets, breath, pattern)
    else:
        found, strays = _by_reference(sets, breath, pattern, {s.uid for s in study.series})
        unused = [_of_no_phase(roi) for _, roi in strays]
    if not found and not unused:
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
    problems += [*breath.problems, *unused]
    if why := lacking(len(drawn), problems, needed):
        said = "; ".join([*why, *notes])
        raise IGTVError(
            f"{len(drawn)} of {breath.count} phases have images and one structure: {said}",
            remedy="add what is missing, name the structure more narrowly, or say how many phases are enough",
            settings=["structure", "min_phases"],
        )
    used = {id(roi) for _, rois in drawn for roi in rois}
    taken_from = {id(s): s for f in found.values() for s, roi in f if id(roi) in used}
    return PhaseStructures(tuple(drawn), tuple(taken_from.values()), (*problems, *notes))


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
                if any(number.has_number_of(phase.moment) for number in numbers_in(roi.name)):
                    names[phase.moment].append(roi.name)
    return names


def _by_name(
    sets: Sequence[StructureSet], breath: FourD, pattern: str
) -> tuple[dict[Moment, list[Found]], list[str], list[str]]:
    """The structures named after each phase; in words, those that are used for none; and those whose number
    is that of a tumour."""
    here = [phase.moment for phase in breath.phases]
    known = [*here, *breath.missing, *breath.twice, *breath.faulty]
    found: dict[Moment, list[Found]] = {}
    unused, notes = [], []
    strange: list[str] = []  # names with the number of no phase
    spelled: set[Moment] = set()
    for each_set, roi in [(s, roi) for s in sets for roi in s.rois if roi.is_drawn]:
        told = readings(pattern, roi.name)
        meant = [moment for moment in known if any(each.means(moment) for each in told)]
        spelled.update(meant)
        if len(meant) > 1:
            unused.append(f"structure {roi.name!r} could be of phase {' or '.join(map(str, meant))}")
        elif meant:
            if meant[0] in here:
                found.setdefault(meant[0], []).append((each_set, roi))
            elif meant[0] in breath.missing:  # the fault of any other is said of its phase
                unused.append(_of_no_phase(roi))
        elif told and here[0].unit == PERCENT and all(each.is_of_a_tumour for each in told):
            notes.append(f"{_of_no_phase(roi)}: its number is taken for another thing, such as the tumour's")
        elif told:
            unused.append(_of_no_phase(roi))
            strange.append(roi.name)
    if here[0].unit != PERCENT:
        _refuse_another_count(strange, [moment for moment in known if moment not in spelled], breath)
    return found, list(dict.fromkeys(unused)), list(dict.fromkeys(notes))


def _refuse_another_count(strange: Sequence[str], lacking: Sequence[Moment], breath: FourD) -> None:
    """Numbers have no meaning of their own. Where one is of no phase and a phase has none, phases and
    structures are counted differently (1 to 10, and 0 to 90): those that agree do so by chance."""
    if not strange or not lacking:
        return
    first, last = breath.phases[0], breath.phases[-1]
    raise IGTVError(
        f"the phases are {first} to {last}, told by {breath.told_by}, and structures are named otherwise: "
        f"{listed(list(dict.fromkeys(strange)))} is of no phase, and phase {', '.join(map(str, lacking))} "
        "has no structure",
        remedy="name each structure after its phase as the headers tell it; or name them more narrowly, or "
        f"without {PLACE}: then they are found by the images that they were drawn on",
        settings=["structure", "union"],
    )


def _of_no_phase(roi: Roi) -> str:
    return f"structure {roi.name!r} is of no phase that is there"


def _by_reference(
    sets: Sequence[StructureSet], breath: FourD, pattern: str, present: set[str]
) -> tuple[dict[Moment, list[Found]], list[Found]]:
    """The structures drawn on the images or the series of each phase, and those whose series is not there."""
    images = {text(h, "SOPInstanceUID"): p.moment for p in breath.phases for h in p.series.headers}
    series = {p.series.uid: p.moment for p in breath.phases if p.series.moment is None}
    found: dict[Moment, list[Found]] = {}
    strays = []
    for s in sets:
        for roi in [roi for roi in s.match(pattern) if roi.is_drawn]:
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
