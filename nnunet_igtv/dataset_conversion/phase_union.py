"""The IGTV as the union of the GTVs of all phases, each rasterised on its own phase, and how they move."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_igtv.dataset_conversion.motion import motion_report, position
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, transformed
from nnunet_igtv.structures.rasterise import rasterise
from nnunet_igtv.structures.structure_sets import Roi, StructureSet
from nnunet_igtv.studies.phase_structures import PhaseStructures
from nnunet_igtv.studies.phases import FourD


@dataclass(frozen=True)
class Label:
    """A label on the grid that it was drawn on, and what is known about it.

    Attributes:
        grid: of the images that it was drawn on.
        mask: uint8 (slices, rows, columns), 0 and 1.
        sets: the structure sets that it is from.
        names: of its structures.
        notes: what a person should know about the contours.
        motion: of the tumour, where it was drawn on several phases; see `motion_report`.
    """

    grid: Grid
    mask: np.ndarray
    sets: list[StructureSet]
    names: list[str]
    notes: list[str]
    motion: dict[str, Any] | None = None

    @property
    def volume_ml(self) -> float:
        return self.grid.millilitres(self.mask.sum())

    @property
    def extent(self) -> np.ndarray:
        """The corners of the box around it, (8, 3) mm."""
        index = np.argwhere(self.mask)[:, ::-1]
        low, high = index.min(0), index.max(0)
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(-1, 3)
        return transformed(corners, self.grid.matrix)


def united(
    drawn: PhaseStructures, breath: FourD, interpolate: bool = False, trust_frames: bool = False
) -> Label:
    """Each phase's structures on that phase's grid, and all of them together.

    Raises IGTVError, naming the phase, for grids that differ, another frame of reference, and contours that
    cannot be rasterised.
    """
    grid = breath.grid
    union, notes, positions = grid.empty(), list(drawn.problems), []
    for phase, rois in drawn.drawn:
        try:
            refuse_other_frame(rois, phase.series.frame_of_reference, trust_frames)
            found = rasterise(rois, phase.series.grid, interpolate)
        except IGTVError as error:
            raise error.but(what=f"phase {phase}: {error.what}") from error
        union |= found.mask
        notes += [f"phase {phase}: {note}" for note in found.notes]
        positions.append(position(str(phase), found.mask, grid))
    is_cycle = breath.is_cycle and len(positions) == len(breath.phases)
    report = motion_report(positions, grid.millilitres(union.sum()), is_cycle)
    return Label(grid, union, list(drawn.sets), drawn.names, notes, report)


def refuse_other_frame(rois: Sequence[Roi], frame: str, trust_frames: bool) -> None:
    """Raises IGTVError for structures in another frame of reference than the images."""
    if trust_frames or all(roi.frame_of_reference in ("", frame) for roi in rois):
        return
    raise IGTVError(
        "the structure and the CT have different frames of reference",
        remedy="add the images that the structure was drawn on, or trust the frames if they are aligned",
        settings=["trust_frames"],
    )
