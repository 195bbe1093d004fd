"""The outlines of one plane together: which pixels they enclose.

A pixel belongs to the region if it is in an odd number of outlines: so holes, islands in holes and keyholes
come out as they were drawn. Two things are no holes: the same outline twice, which counts once, and outlines
that overlap in part, which are united.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_igtv.dicom.outlines import Lie, Outline, Window, around, within
from nnunet_igtv.errors import IGTVError

MOST_PAIRS = 20_000  # a mask of noise, traced, has some thousand holes in one outline


@dataclass
class Region:
    """The pixels of one plane.

    Attributes:
        window: where in the image they are.
        pixels: bool, in the window.
        area: enclosed area in pixels, by Green's formula where the outlines allow it.
        rounding: by how many pixels their number may differ from the area.
        repeated: how many outlines are there twice.
        crossing: how many overlap another in part, and were united with it.
        excluded: how many overlap another in part, and were combined by exclusive-or.
        cut: how many reach beyond the image.
        empty: how many enclose no pixel centre, though they are inside the image.
    """

    window: Window
    pixels: np.ndarray
    area: float
    rounding: float
    repeated: int = 0
    crossing: int = 0
    excluded: int = 0
    cut: int = 0
    empty: int = 0


def enclosed(polygons: Sequence[np.ndarray], rows: int, columns: int, exclusive: bool = False) -> Region:
    """What the outlines of one plane enclose.

    Args:
        polygons: each (points, 2), column and row; may reach beyond the image.
        rows, columns: size of the image.
        exclusive: combine outlines that overlap in part by exclusive-or, instead of uniting them.
    """
    outlines = [Outline(points, rows, columns) for points in polygons]
    cut = sum(o.is_cut for o in outlines)
    empty = sum(not o.is_cut and not o.pixels.any() for o in outlines)
    rounding = sum(o.rounding for o in outlines)
    if len(outlines) == 1:
        return Region(
            outlines[0].window, outlines[0].pixels, outlines[0].area, rounding, cut=cut, empty=empty
        )
    lies = _lies(outlines)
    joined = {Lie.TOUCHING, Lie.SAME} | (set() if exclusive else {Lie.PARTLY})
    group = list(range(len(outlines)))  # of each outline: the number of one member of its group
    for (small, large), lie in lies.items():
        if lie in joined and group[small] != group[large]:
            old, new = group[small], group[large]
            group = [new if g == old else g for g in group]
    holders: dict[int, set[int]] = {g: set() for g in group}  # group -> the groups that it is inside
    for (small, large), lie in lies.items():
        if lie is Lie.INSIDE and group[small] != group[large]:
            holders[group[small]].add(group[large])
    window = around([o.window for o in outlines])
    pixels, area = np.zeros([s.stop - s.start for s in window], bool), 0.0
    for g, outside in holders.items():
        members = [o for o, own in zip(outlines, group, strict=True) if own == g]
        part = np.zeros_like(pixels)
        for outline in members:
            part[within(window, outline.window)] |= outline.pixels
        pixels ^= part
        size = members[0].area if len(members) == 1 else float(part.sum())
        area += -size if len(outside) % 2 else size
    partly = {k for pair, lie in lies.items() if lie is Lie.PARTLY for k in pair}
    return Region(
        window,
        pixels,
        float(pixels.sum()) if exclusive and partly else area,
        rounding,
        repeated=len({small for (small, _), lie in lies.items() if lie is Lie.SAME}),
        crossing=0 if exclusive else len(partly),
        excluded=len(partly) if exclusive else 0,
        cut=cut,
        empty=empty,
    )


def united(regions: Sequence[Region]) -> Region:
    """The pixels of several planes together, for a slice that all of them stand for."""
    window = around([r.window for r in regions])
    pixels = np.zeros([s.stop - s.start for s in window], bool)
    for region in regions:
        pixels[within(window, region.window)] |= region.pixels
    return Region(window, pixels, float(pixels.sum()), 0.0)


def _lies(outlines: Sequence[Outline]) -> dict[tuple[int, int], Lie]:
    """How the outlines of a plane lie to each other: (smaller, larger) -> lie; not those that are apart.

    Raises IGTVError for more overlapping outlines than anybody draws.
    """
    low, high = (np.array([getattr(o, side) for o in outlines]) for side in ("low", "high"))
    found: dict[tuple[int, int], Lie] = {}
    pairs = 0
    for i in range(len(outlines)):
        near = (low[i + 1 :] <= high[i]).all(1) & (low[i] <= high[i + 1 :]).all(1)
        pairs += int(near.sum())
        if pairs > MOST_PAIRS:
            raise IGTVError(f"more than {MOST_PAIRS} pairs of its contours overlap in one plane")
        for j in np.flatnonzero(near) + i + 1:
            small, large = sorted((i, int(j)), key=lambda k: outlines[k].green)
            lie = outlines[small].lies(outlines[large])
            if lie is not Lie.APART:
                found[small, large] = lie
    return found
