"""Which series live in one frame of reference (0020,0052), or are joined to it by a registration."""

from collections.abc import Sequence

import numpy as np

from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import transformed
from nnunet_igtv.studies.known import Known, ReadingOptions
from nnunet_igtv.studies.registration import Joined, join, joined_frames


def cts_in_frame(
    cts: list[Series], pets: Sequence[Series] | None, options: ReadingOptions, known: Known
) -> list[Series]:
    """The CT series in the structure's frame of reference, and those that it was drawn on; without a
    structure, those that share a frame with a PET or are joined to one, if there is to be one."""
    if known.frames:
        refusal = IGTVError(
            "the structure and the CT have no frame of reference in common",
            remedy="add the CT that the structure was drawn on, or trust the frames if they are aligned",
            settings=["trust_frames"],
        )
        frames = known.frames
    elif pets is not None:
        frames = (frozenset(s.frame_of_reference for s in pets) - {""}) | known.registered
        refusal = _no_frame_in_common(known)
    else:
        return cts
    found = [s for s in cts if s.frame_of_reference in frames or s.uid in known.series]
    if not found and not options.trust_frames:
        raise refusal
    return found or cts


def aligned_pets(
    pets: Sequence[Series], ct: Series, options: ReadingOptions, known: Known
) -> tuple[list[Series], dict[str, Joined]]:
    """The PET series in the CT's frame of reference; else those that a registration joins to it, and how."""
    frame = ct.frame_of_reference
    same = [s for s in pets if frame and s.frame_of_reference == frame]
    if same or options.trust_frames:
        return same or list(pets), {}
    joined: dict[str, Joined] = {}
    refusal = None
    for s in pets:
        try:
            way = join(known.registrations, s.frame_of_reference, frame)
        except IGTVError as error:
            refusal = refusal or error
            continue
        if way is not None:
            joined[s.uid] = way
    if not joined and options.register and refusal is None:
        return list(pets), {}
    if not joined:
        raise refusal or _no_frame_in_common(known)
    return [s for s in pets if s.uid in joined], joined


def moved(points: np.ndarray, series: Sequence[Series], joined: dict[str, Joined]) -> np.ndarray:
    """Points of the CT in the frame of reference of the PET series; none where they have several frames."""
    if not joined:
        return points
    if len({s.frame_of_reference for s in series}) > 1:
        return points[:0]
    return transformed(points, np.linalg.inv(joined[series[0].uid].matrix))


def unused_registrations(pet: Series, ct: Series, known: Known) -> tuple[str, ...]:
    """What is to be said of registrations of the frames of CT and PET that are not applied."""
    frame = ct.frame_of_reference
    if pet.frame_of_reference == frame:
        faults = (r.sources[frame].fault for r in known.registrations if frame in r.sources)
        return tuple(f"CT and PET share a frame of reference: {fault.what}" for fault in faults if fault)
    joins = any({pet.frame_of_reference, frame} <= r.frames for r in known.registrations)
    return ("the frames of reference are trusted: the registration of them is not applied",) if joins else ()


def _no_frame_in_common(known: Known) -> IGTVError:
    others = "; the registration objects of the study join other frames" if known.registrations else ""
    return IGTVError(
        f"CT and PET have no frame of reference in common{others}",
        remedy="add the registration object (REG) of the PET/CT to the CT, register them here, trust the "
        "frames if they are aligned, or leave the PET out",
        settings=["register", "trust_frames", "no_pet"],
    )


def may_serve(pet: Series, options: ReadingOptions, known: Known) -> bool:
    """Whether a PET belongs to the CT of a structure, or could be brought to it: it is of its study, in its
    frame of reference, joined to that by a registration, or a person said so."""
    own = known.frames | ({known.ct.frame_of_reference} if known.ct else set())
    if options.pet or options.register or options.trust_frames or not own:
        return True
    frames = joined_frames((r.frames for r in known.registrations), own)
    cts = (s for s in known.others if s.modality == "CT" and s.frame_of_reference in own)
    return pet.frame_of_reference in frames or pet.study_uid in known.studies | {s.study_uid for s in cts}


def own_ct(pet: Series, known: Known) -> list[Series]:
    """The CT series that a PET was taken with: in its frame of reference, of its study if there is one."""
    found = [s for s in known.others if s.modality == "CT" and s.frame_of_reference == pet.frame_of_reference]
    found = found if pet.frame_of_reference else []
    if not found:
        raise IGTVError(
            "the PET cannot be registered: it has no CT in its own frame of reference",
            remedy="add the CT that was taken with the PET",
        )
    return [s for s in found if s.study_uid == pet.study_uid] or found
