"""The average or the maximum of the phases of a 4D-CT, computed where the scanner stored none.

Ten phases of 512 x 512 x 150 would take 1.6 GB at once; `read_voxels` has one slice of each in memory.
"""

from collections import Counter

from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.phases import FourD, lacking


def combined(breath: FourD, how: str, needed: int | None = None, trust_frames: bool = False) -> Series:
    """The average or the maximum of all phases.

    Args:
        breath: the 4D-CT.
        how: `AVERAGE` or `MAXIMUM`.
        needed: how many phases must be there; None for all.
        trust_frames: whether phases of different frames of reference are aligned.

    Raises:
        IGTVError: phases are missing, there twice or irregular, or their grids or frames of reference differ.
    """
    count = len(breath.phases)
    if why := lacking(count, breath.problems, needed):
        raise IGTVError(
            f"{count} of {breath.count} phases can be used to make their {how}: {'; '.join(why)}",
            remedy="add or remove series, or say how many phases are enough",
            settings=["min_phases"],
        )
    _ = breath.grid  # the one grid of all
    frames = Counter(phase.series.frame_of_reference for phase in breath.phases)
    if len(frames) > 1 and not trust_frames:
        (usual, _), *_ = frames.most_common(1)
        others = [str(phase) for phase in breath.phases if phase.series.frame_of_reference != usual]
        raise IGTVError(
            f"phases of the 4D-CT have another frame of reference than the others: {', '.join(others)}",
            remedy="export the 4D-CT again, or trust the frames if they are aligned",
            settings=["trust_frames"],
        )
    parts = tuple(phase.series for phase in breath.phases)
    first = parts[0]
    notes = list(dict.fromkeys(note for s in parts for note in s.notes))
    return Series(first.headers, first.files, first.frames, notes, parts=parts, how=how)
