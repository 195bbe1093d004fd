"""Which CT and which PET a case is made of: one rule table for conversion, prediction and export.

Rules are tried in order. Each keeps the series that satisfy it, where some do and some do not; the number of
slices is no rule. What more than one series survives is refused, with a table of them. docs/data.md explains
each rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nnunet_igtv.dicom import traits
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.candidates import NAMES, described, table
from nnunet_igtv.studies.frames import (
    aligned_pets,
    cts_in_frame,
    may_serve,
    moved,
    own_ct,
    unused_registrations,
)
from nnunet_igtv.studies.known import Known, ReadingOptions
from nnunet_igtv.studies.phases import find_4d
from nnunet_igtv.studies.projections import combined
from nnunet_igtv.studies.registration import Joined, joined_frames

PLANNING_DAYS = 90  # from the PET/CT to the planning CT that it is registered to, at most


@dataclass(frozen=True)
class Rule:
    """What makes a series serve better than others. `why` completes "taken because it is …"."""

    why: str
    better: Callable[[Series, Known], bool]


def _holds_an_image(series: Series, known: Known) -> bool:
    return not known.images().isdisjoint(str(h.get("SOPInstanceUID", "")) for h in series.headers)


VOLUME = Rule("a volume, not scouts or projections", lambda s, _: traits.is_volume(s))
NAMED = Rule("the one that the structure set was drawn on", lambda s, k: s.uid in k.series)
IMAGES = Rule("the one whose images the contours refer to", _holds_an_image)
COVERS = Rule("the one that covers the structure", lambda s, k: traits.reaches(s, k.points))
AXIAL = Rule("axial", lambda s, _: traits.is_axial(s))
NO_REFORMAT = Rule("no reformat", lambda s, _: not traits.is_reformat(s))
ORIGINAL = Rule("ORIGINAL, not DERIVED", lambda s, _: traits.is_original(s))
PRIMARY = Rule("PRIMARY, not SECONDARY", lambda s, _: traits.is_primary(s))

# to which examination a series belongs; then what kind of images it holds
CT_BELONGS = (
    NAMED,
    VOLUME,
    IMAGES,
    Rule("of the structure set's study", lambda s, k: s.study_uid in k.studies),
    COVERS,
    Rule("the one that the PET is registered to", lambda s, k: s.frame_of_reference in k.registered),
)
CONTOURED = Rule("the one that a structure set was drawn on", lambda s, k: s.uid in k.contoured)
CT_KIND = (CONTOURED, AXIAL, NO_REFORMAT, ORIGINAL, PRIMARY)
CT_KIND_UNNAMED = (AXIAL, NO_REFORMAT)  # where the series that a structure was drawn on is absent
PET_BELONGS = (
    NAMED,
    VOLUME,
    Rule("of the CT's study", lambda s, k: k.ct is not None and s.study_uid == k.ct.study_uid),
    Rule("of the CT's day", lambda s, k: k.ct is not None and bool(traits.same_day(s, k.ct))),
    COVERS,
)
PET_KIND = (
    Rule("attenuation corrected", lambda s, _: traits.is_attenuation_corrected(s)),
    Rule("static or whole body, not gated or dynamic", lambda s, _: not traits.is_part_of_a_scan(s)),
    AXIAL,
    NO_REFORMAT,
    ORIGINAL,
    PRIMARY,
)


@dataclass(frozen=True)
class Chosen:
    """A series, why it was taken, and what a person should know about that.

    `joined`: how its frame of reference is joined with that of the CT, where it is another one; or
    `register_by`: the CT that was taken with it, which is to be registered to the CT.
    """

    series: Series
    why: str
    warnings: tuple[str, ...] = ()
    joined: Joined | None = None
    register_by: Series | None = None


def choose_images(
    series: Sequence[Series], options: ReadingOptions, known: Known | None = None
) -> tuple[Chosen, Chosen | None]:
    """The CT and the PET of one patient to make a case of; None for a PET that may be absent, and is.

    Args:
        series: all series that there are, of any modality.
        options: what a person said.
        known: what the structure tells, where there is one.

    Raises:
        IGTVError: a modality is missing; CT, PET and structure share no frame of reference; or several series
            could serve (`table` lists them).
    """
    known = replace(known or Known(), others=tuple(series))
    refuse_several_patients(series)
    cts, pets = ([s for s in series if s.modality == modality] for modality in NAMES)
    if not cts:
        raise IGTVError("no CT series in the study", remedy="add the CT series, or leave the study out")
    without = is_without_pet(pets, options, known)
    absent = bool(known.series) and known.series.isdisjoint(s.uid for s in series)
    ct = choose_ct(cts, options, known, None if without else pets, absent)
    if known.frames - {ct.series.frame_of_reference} and not options.trust_frames:
        raise IGTVError(
            "the structure and the CT that it names have different frames of reference",
            remedy="check the export, or trust the frames if they are aligned",
            settings=["trust_frames"],
        )
    if without:
        return replace(ct, warnings=(*ct.warnings, *left_out(pets, options))), None
    return ct, choose_pet(pets, options, known, ct.series)


def is_without_pet(pets: Sequence[Series], options: ReadingOptions, known: Known) -> bool:
    """Whether a case is to be made without a PET. Raises IGTVError if it would have to, and may not.

    A PET of another examination that nothing joins to the CT is none of the case.
    """
    if options.no_pet == "all" or (options.no_pet and not any(may_serve(s, options, known) for s in pets)):
        return True
    if not pets:
        raise IGTVError(
            "no PET series in the study",
            remedy="add the PET series, leave the study out, or accept studies without a PET",
            settings=["no_pet"],
        )
    return False


def left_out(pets: Sequence[Series], options: ReadingOptions) -> tuple[str, ...]:
    """What is to be said of the PET series of a case that is made without one."""
    if options.no_pet == "all" or not pets:
        return ()
    return ("the PET of another examination is left out: nothing joins it to the CT",)


def choose_ct(
    series: Sequence[Series],
    options: ReadingOptions,
    known: Known | None = None,
    pets: Sequence[Series] | None = None,
    absent: bool = False,
) -> Chosen:
    """One of some CT series.

    Args:
        series: the CT series to choose from.
        options: what a person said.
        known: what the structure tells, where there is one.
        pets: the PET series that one is to go with, if it is to go with any.
        absent: the series that the structure was drawn on is not there; no rule about the kind of images
            stands in for it.

    Raises IGTVError if none shares a frame of reference with the structure (or else with a PET), and, with a
    table, if several could serve.
    """
    known = known or Known()
    if pets is not None and not known.frames:
        own = {s.frame_of_reference for s in pets} - {""}
        registered = joined_frames((r.frames for r in known.registrations), own)
        if options.register:
            registered |= {s.frame_of_reference for s in series}
        known = replace(known, registered=registered - own - {""})
    found = cts_in_frame(selected(series, options, "study", "ct"), pets, options, known)
    kept, why = _apply(CT_BELONGS, found, known)
    _refuse_several_visits(kept, options, "ct")
    absent = absent and not any(_holds_an_image(s, known) for s in kept)
    kept, kind = _apply(CT_KIND_UNNAMED if absent else CT_KIND, kept, known)
    if len(kept) > 1:
        raise _ambiguous(
            kept,
            "; the one that the structure was drawn on is absent" if absent else "",
            "name one, or take the others out of the folder"
            + ("; `average` names the average of the phases" if find_4d(kept) else ""),
            ["ct"],
        )
    warnings = []
    if kept[0].parts:
        warnings.append(
            f"the CT is the {kept[0].description}: what refers to its images refers to those of phase "
            f"{traits.moment(kept[0].parts[0])}"
        )
    if absent:
        warnings.append("the CT series that the structure was drawn on is absent: another is used")
    elif kept[0].uid not in known.series and any(s.uid in known.series for s in series):
        warnings.append("the structure was drawn on another CT series than the one asked for")
    return Chosen(kept[0], _because(series, [*why, *kind], options.ct), tuple(warnings))


def choose_pet(
    series: Sequence[Series], options: ReadingOptions, known: Known | None = None, ct: Series | None = None
) -> Chosen:
    """One of some PET series, to go with a CT where there is one.

    Raises IGTVError if none shares the CT's frame of reference or is joined to it by a registration, if it is
    of another examination and nobody named it, and, with a table, if several could serve.
    """
    known = replace(known or Known(), ct=ct)
    found = selected(series, options, "pet")
    joined: dict[str, Joined] = {}
    if ct is not None:
        found, joined = aligned_pets(found, ct, options, known)
        known = replace(known, points=moved(known.points, found, joined))
    kept, why = _apply(PET_BELONGS, found, known)
    _refuse_several_visits(kept, options, "pet")
    kept, kind = _apply(PET_KIND, kept, known)
    if len(kept) > 1:
        raise _ambiguous(kept, "", "name one, or take the others out of the folder", ["pet"])
    way = joined.get(kept[0].uid)
    reason = _because(series, [*why, *kind], options.pet)
    warnings: tuple[str, ...] = ()
    if ct is not None:
        warnings = _of_another_visit(kept[0], ct, options, way)
        warnings += unused_registrations(kept[0], ct, known) if way is None else way.notes
    if traits.is_part_of_a_scan(kept[0]):
        warnings += ("the PET is gated or dynamic: its SUV is that of a part of the scan",)
    if way is not None:
        return Chosen(kept[0], f"{reason}; joined to the CT: {way.how}", warnings, way)
    if ct is None or not _is_to_be_registered(kept[0], ct, options):
        return Chosen(kept[0], reason, warnings)
    by = choose_ct(own_ct(kept[0], known), ReadingOptions())
    said = f"; to be registered to the CT by its own CT, {described(by.series)}"
    return Chosen(kept[0], reason + said, (*warnings, *by.warnings), register_by=by.series)


def _is_to_be_registered(pet: Series, ct: Series, options: ReadingOptions) -> bool:
    together = pet.frame_of_reference and pet.frame_of_reference == ct.frame_of_reference
    return options.register and not options.trust_frames and not together


def refuse_several_patients(series: Sequence[Series]) -> None:
    """Raises IGTVError if some series, or some images of one, are of different patients."""
    count = len({traits.patient(s) for s in series if s.modality in NAMES})
    if count > 1:
        raise IGTVError(
            f"the folder holds several patients ({count})", remedy="give the folder of one patient"
        )


# --------------------------------------------------------------------------------------------------- filters


def _apply(rules: Sequence[Rule], series: Sequence[Series], known: Known) -> tuple[list[Series], list[str]]:
    """What the rules leave of some series, and what decided."""
    kept = list(series)
    why: list[str] = []
    for rule in rules:
        if len(kept) == 1:
            break
        better = [s for s in kept if rule.better(s, known)]
        if better and len(better) < len(kept):
            kept, why = better, [*why, rule.why]
    return kept, why


def _because(candidates: Sequence[Series], why: Sequence[str], asked: str | None) -> str:
    """Why a series was taken, in one line without a patient's data."""
    name = NAMES.get(candidates[0].modality, candidates[0].modality)
    reasons = [*(["asked for"] if asked else []), *why]
    if not reasons:
        return f"the only {name} that could serve"
    return f"{', '.join(reasons)} (of {len(candidates)} {name} series)"


def selected(series: Sequence[Series], options: ReadingOptions, *names: str) -> list[Series]:
    """The series that a person named; all if nobody named any."""
    kept = list(series)
    for selector in options.selectors(*names):
        picked = selector.pick(kept)
        if not picked and selector.is_projection:
            picked = [
                combined(breath, selector.value.casefold(), trust_frames=options.trust_frames)
                for breath in find_4d(kept)
            ]
        if not picked:
            what = "study" if selector.setting == "study" else f"{NAMES[kept[0].modality]} series"
            raise IGTVError(
                f"no {what} is meant by {getattr(options, selector.setting)!r}",
                remedy="name one of these",
                settings=[selector.setting],
                table=table(kept),
            )
        kept = picked
    return kept


def _refuse_several_visits(series: Sequence[Series], options: ReadingOptions, name: str) -> None:
    """No rule about kinds of images chooses between examinations, nor between places in the scanner."""
    frames = {s.frame_of_reference for s in series}
    one_visit = all(traits.one_visit(series[0], s) for s in series[1:])
    if one_visit and (len(frames) == 1 or options.trust_frames):
        return
    counts = {"studies": len({s.study_uid for s in series}), "frames of reference": len(frames)}
    where = " and ".join(f"{count} {things}" for things, count in counts.items() if count > 1)
    settings = ["study", "ct"] if name == "ct" else [name]
    raise _ambiguous(series, f", in {where}", "name one, or give the folder of one study", settings)


def _of_another_visit(
    pet: Series, ct: Series, options: ReadingOptions, joined: Joined | None
) -> tuple[str, ...]:
    """What is to be said of a PET that was not taken with the CT; refused where nobody named it, nor joined
    it to the CT within the weeks that planning takes."""
    one_study, one_day = pet.study_uid == ct.study_uid, traits.same_day(pet, ct)
    days, apart = traits.days_apart(pet, ct), traits.apart(pet, ct)
    if one_study and (one_day or days is None):
        return ()
    what = f"of another {'day' if one_study else 'study'} than the CT"
    if one_study and one_day is None:  # across midnight, perhaps
        return (f"the PET is {what} ({apart})",)
    if one_day:
        return (f"the PET is {what}, of the same day",)
    registered = joined or _is_to_be_registered(pet, ct, options)
    if registered and (days is None or days <= PLANNING_DAYS):
        return (f"the PET is {what} ({apart}), and registered to it",)
    if options.pet is None:
        doubt = "" if one_study else " and not known to be of its day"
        raise IGTVError(
            f"the PET that fits the CT is {what}{doubt} ({apart})",
            remedy="add the PET that was taken with the CT, or name this one if it belongs to the CT",
            settings=["pet"],
            table=table([ct, pet]),
        )
    return (f"the PET is {what} ({apart}), as asked for",)


# ------------------------------------------------------------------------------------------------- refusals


def _ambiguous(series: Sequence[Series], more: str, remedy: str, settings: Sequence[str]) -> IGTVError:
    name = NAMES.get(series[0].modality, series[0].modality)
    return IGTVError(
        f"{len(series)} {name} series could serve{more}",
        remedy=remedy,
        settings=settings,
        table=table(series),
    )
