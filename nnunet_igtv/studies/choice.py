"""Which CT and which PET a case is made of: one rule table for conversion, prediction and export.

Rules are tried in order. Each keeps the series that satisfy it, where some do and some do not; the number of
slices is no rule. What more than one series survives is refused, with a table of them. docs/data.md explains
each rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from nnunet_igtv.dicom import traits
from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.settings import setting
from nnunet_igtv.studies.candidates import NAMES, table
from nnunet_igtv.studies.selectors import Selector, anonymous


def _selector(name: str, help: str) -> Any:
    recorded = partial(anonymous, setting=name)
    return setting(None, help, metavar="SELECTOR", recorded=recorded)


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Which series of a study are read, and how."""

    study: str | None = _selector(
        "study", "the study to read where there are several: description, date or UID"
    )
    ct: str | None = _selector(
        "ct", "the CT to read where several could serve: number, description, date, phase:40 or uid:…"
    )
    pet: str | None = _selector("pet", "the PET to read where several could serve, as for the CT")
    trust_frames: bool = setting(False, "accept different frames of reference: the series are aligned")
    weight_kg: float | None = setting(None, "body weight where the PET headers have none")

    def __post_init__(self) -> None:
        """Raises IGTVError for a selector that cannot mean anything."""
        self.selectors("study", "ct", "pet")

    def selectors(self, *names: str) -> list[Selector]:
        """What was given for some of `study`, `ct` and `pet`."""
        return [Selector.parse(given, name) for name in names if (given := getattr(self, name)) is not None]


@dataclass(frozen=True)
class Known:
    """What a structure set, or a chosen CT, tells about the series that is looked for.

    Attributes:
        series: UIDs of the series that the structure was drawn on.
        images: gives the SOP Instance UIDs of the images that its contours refer to.
        studies: UIDs of the studies that its structure sets belong to.
        frames: frames of reference that it lives in.
        points: (n, 3) mm, points of its contours.
        ct: the CT, where a PET is looked for.
        contoured: UIDs of the series that other structure sets were drawn on.
    """

    series: frozenset[str] = frozenset()
    images: Callable[[], frozenset[str]] = frozenset
    studies: frozenset[str] = frozenset()
    frames: frozenset[str] = frozenset()
    points: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    ct: Series | None = None
    contoured: frozenset[str] = frozenset()


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
    AXIAL,
    NO_REFORMAT,
    ORIGINAL,
    PRIMARY,
    Rule("static or whole body, not gated or dynamic", lambda s, _: traits.is_static(s)),
)


@dataclass(frozen=True)
class Chosen:
    """A series, why it was taken, and what a person should know about that."""

    series: Series
    why: str
    warnings: tuple[str, ...] = ()


def choose_images(
    series: Sequence[Series], options: ReadingOptions, known: Known | None = None
) -> tuple[Chosen, Chosen]:
    """The CT and the PET of one patient to make a case of.

    Args:
        series: all series that there are, of any modality.
        options: what a person said.
        known: what the structure tells, where there is one.

    Raises:
        IGTVError: a modality is missing; CT, PET and structure share no frame of reference; or several series
            could serve (`table` lists them).
    """
    known = known or Known()
    refuse_several_patients(series)
    cts, pets = ([s for s in series if s.modality == modality] for modality in NAMES)
    for found, name in ((cts, "CT"), (pets, "PET")):
        if not found:
            raise IGTVError(
                f"no {name} series in the study", remedy=f"add the {name} series, or leave the study out"
            )
    absent = bool(known.series) and known.series.isdisjoint(s.uid for s in series)
    ct = choose_ct(cts, options, known, pets, absent)
    if known.frames - {ct.series.frame_of_reference} and not options.trust_frames:
        raise IGTVError(
            "the structure and the CT that it names have different frames of reference",
            remedy="check the export, or trust the frames if they are aligned",
            settings=["trust_frames"],
        )
    return ct, choose_pet(pets, options, known, ct.series)


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
    found = _in_frame(selected(series, options, "study", "ct"), pets, options, known)
    kept, why = _apply(CT_BELONGS, found, known)
    _refuse_several_visits(kept, options, "ct")
    absent = absent and not any(_holds_an_image(s, known) for s in kept)
    kept, kind = _apply(CT_KIND_UNNAMED if absent else CT_KIND, kept, known)
    if len(kept) > 1:
        raise _ambiguous(
            kept,
            "; the one that the structure was drawn on is absent" if absent else "",
            "name one, or take the others out of the folder",
            ["ct"],
        )
    warnings = []
    if absent:
        warnings.append("the CT series that the structure was drawn on is absent: another is used")
    elif kept[0].uid not in known.series and any(s.uid in known.series for s in series):
        warnings.append("the structure was drawn on another CT series than the one asked for")
    return Chosen(kept[0], _because(series, [*why, *kind], options.ct), tuple(warnings))


def choose_pet(
    series: Sequence[Series], options: ReadingOptions, known: Known | None = None, ct: Series | None = None
) -> Chosen:
    """One of some PET series, to go with a CT where there is one.

    Raises IGTVError if none shares the CT's frame of reference, if it is of another examination and nobody
    named it, and, with a table, if several could serve.
    """
    known = replace(known or Known(), ct=ct)
    found = selected(series, options, "pet")
    if ct is not None:
        frame = ct.frame_of_reference
        aligned = [s for s in found if frame and s.frame_of_reference == frame]
        if not aligned and not options.trust_frames:
            raise _no_frame_in_common()
        found = aligned or found
    kept, why = _apply(PET_BELONGS, found, known)
    _refuse_several_visits(kept, options, "pet")
    kept, kind = _apply(PET_KIND, kept, known)
    if len(kept) > 1:
        raise _ambiguous(kept, "", "name one, or take the others out of the folder", ["pet"])
    warnings = _of_another_visit(kept[0], ct, options) if ct is not None else ()
    return Chosen(kept[0], _because(series, [*why, *kind], options.pet), warnings)


def refuse_several_patients(series: Sequence[Series]) -> None:
    """Raises IGTVError if some series are of different patients."""
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


def _in_frame(
    cts: list[Series], pets: Sequence[Series] | None, options: ReadingOptions, known: Known
) -> list[Series]:
    """The CT series in the structure's frame of reference, and those that it was drawn on; without a
    structure, those that share a frame with a PET, if there is to be one."""
    if known.frames:
        refusal = IGTVError(
            "the structure and the CT have no frame of reference in common",
            remedy="add the CT that the structure was drawn on, or trust the frames if they are aligned",
            settings=["trust_frames"],
        )
        frames = known.frames
    elif pets is not None:
        refusal, frames = _no_frame_in_common(), frozenset(s.frame_of_reference for s in pets) - {""}
    else:
        return cts
    found = [s for s in cts if s.frame_of_reference in frames or s.uid in known.series]
    if not found and not options.trust_frames:
        raise refusal
    return found or cts


def _no_frame_in_common() -> IGTVError:
    return IGTVError(
        "CT and PET have no frame of reference in common",
        remedy="register the PET to the CT first, or trust the frames if they are aligned",
        settings=["trust_frames"],
    )


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


def _of_another_visit(pet: Series, ct: Series, options: ReadingOptions) -> tuple[str, ...]:
    """What is to be said of a PET that was not taken with the CT; refused where nobody named it."""
    one_study, one_day = pet.study_uid == ct.study_uid, traits.same_day(pet, ct)
    if one_study and one_day is not False:
        return ()
    apart = traits.apart(pet, ct)
    if one_study:
        return (f"the PET is of another day than the CT ({apart})",)
    if one_day:
        return ("the PET is of another study than the CT, of the same day",)
    if options.pet is None:
        raise IGTVError(
            f"the PET that fits the CT is of another study and not known to be of its day ({apart})",
            remedy="add the PET that was taken with the CT, or name this one if it belongs to the CT",
            settings=["pet"],
            table=table([ct, pet]),
        )
    return (f"the PET is of another study than the CT ({apart}), as asked for",)


# ------------------------------------------------------------------------------------------------- refusals


def _ambiguous(series: Sequence[Series], more: str, remedy: str, settings: Sequence[str]) -> IGTVError:
    name = NAMES.get(series[0].modality, series[0].modality)
    return IGTVError(
        f"{len(series)} {name} series could serve{more}",
        remedy=remedy,
        settings=settings,
        table=table(series),
    )
