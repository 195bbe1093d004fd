"""The average or the maximum of the phases of a 4D-CT, computed where the scanner stored none.

Ten phases of 512 x 512 x 150 would take 1.6 GB at once; `read_voxels` has one slice of each in memory.
"""

from nnunet_igtv.dicom.series import Series
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.studies.phases import FEWEST, FourD

AVERAGE, MAXIMUM = "average", "maximum"


def combined(breath: FourD, how: str, needed: int | None = None) -> Series:
    """The average or the maximum of all phases.

    Args:
        breath: the 4D-CT.
        how: "average" or "maximum".
        needed: how many phases must be there; None for all.

    Raises:
        IGTVError: phases are missing, there twice or irregular, or their grids differ.
    """
    count = len(breath.phases)
    if count < FEWEST or (breath.problems and (needed is None or count < needed)):
        raise IGTVError(
            f"{count} of {breath.count} phases can be used to make their {how}: {'; '.join(breath.problems)}",
            remedy="add or remove series, or say how many phases are enough",
            settings=["min_phases"],
        )
    _ = breath.grid  # the one grid of all
    parts = tuple(phase.series for phase in breath.phases)
    first = parts[0]
    notes = list(dict.fromkeys(note for s in parts for note in s.notes))
    return Series(first.headers, first.files, first.frames, notes, parts=parts, how=how)
