"""The outlines of one plane together: which pixels they enclose.

A pixel belongs to the region if it is in an odd number of outlines: so holes, islands in holes and keyholes
come out as they were drawn. Two things are no holes: the same outline twice, which counts once, and outlines
that overlap in part, which are united.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.outlines import Lie, Outline, Window, around, within

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
        empty: how many enclose no area, or no pixel centre though they are inside the image.
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
    if len(outlines) == 1:
        only = outlines[0]
        empty, area = int(not (cut or only.pixels.any())), _area(only, rows, columns)
        return Region(only.window, only.pixels, area, only.rounding, cut=cut, empty=empty)
    empty = sum(o.is_line or not (o.is_cut or o.pixels.any()) for o in outlines)
    outlines = [o for o in outlines if not o.is_line] or outlines
    rounding = sum(o.rounding for o in outlines)
    lies = _lies(outlines)
    window = around([o.window for o in outlines])
    pixels, area = np.zeros([s.stop - s.start for s in window], bool), 0.0
    for members, is_hole in _groups(outlines, lies, exclusive):
        part = np.zeros_like(pixels)
        for outline in members:
            part[within(window, outline.window)] |= outline.pixels
        pixels ^= part
        size = _area(members[0], rows, columns) if len(members) == 1 else float(part.sum())
        area += -size if is_hole else size
    partly = len({k for pair, lie in lies.items() if lie is Lie.PARTLY for k in pair})
    return Region(
        window,
        pixels,
        float(pixels.sum()) if exclusive and partly else area,
        rounding,
        repeated=len({small for (small, _), lie in lies.items() if lie is Lie.SAME}),
        crossing=0 if exclusive else partly,
        excluded=partly if exclusive else 0,
        cut=cut,
        empty=empty,
    )


def _groups(
    outlines: Sequence[Outline], lies: dict[tuple[int, int], Lie], exclusive: bool
) -> list[tuple[list[Outline], bool]]:
    """The outlines that count as one (repeated, touching, overlapping), and whether they are a hole.

    A hole is never joined with a border, or the border's inside would fill it.
    """
    joined = {Lie.TOUCHING} if exclusive else {Lie.TOUCHING, Lie.PARTLY}
    larger: list[dict[int, Lie]] = [{} for _ in outlines]
    for (small, large), lie in lies.items():
        larger[small][large] = lie
    group = list(range(len(outlines)))  # the number of one member
    is_hole = [False] * len(outlines)
    for i in _from_small_to_large(outlines)[::-1]:
        same = [k for k, lie in larger[i].items() if lie is Lie.SAME]
        if same:
            is_hole[i] = is_hole[same[0]]
        else:
            is_hole[i] = len({group[k] for k, lie in larger[i].items() if lie is Lie.INSIDE}) % 2 == 1
            same = [k for k, lie in larger[i].items() if lie in joined and is_hole[k] == is_hole[i]]
        for k in same:
            old, new = group[i], group[k]
            group = [new if g == old else g for g in group]
    numbers = {g: [k for k, own in enumerate(group) if own == g] for g in group}
    return [([outlines[k] for k in members], is_hole[g]) for g, members in numbers.items()]


def _area(outline: Outline, rows: int, columns: int) -> float:
    """The area of an outline in the image, in pixels: by Green's formula, where that applies.

    It does not where the border of the image cuts a part off: there the pixels are counted. Outlines that
    come back to their points (keyholes, parts that touch) are taken apart. Those that cross themselves
    elsewhere have parts of opposite signs, and their area is not that of their pixels, which is reported.
    """
    count = float(outline.pixels.sum())
    if outline.is_cut:
        return count
    if abs(outline.green - count) > outline.rounding and len(loops := outline.loops()) > 1:
        return enclosed(loops, rows, columns).area
    return outline.green


def _from_small_to_large(outlines: Sequence[Outline]) -> list[int]:
    return sorted(range(len(outlines)), key=lambda k: (outlines[k].green, k))


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
            small, large = sorted((i, int(j)), key=lambda k: (outlines[k].green, k))
            lie = outlines[small].lies(outlines[large])
            if lie is not Lie.APART:
                found[small, large] = lie
    return found
