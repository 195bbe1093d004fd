"""Structures to masks: holes and islands, planes and slices, overlaps and gaps, and what is reported."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.export.contours import trace
from nnunet_igtv.grids import Grid
from nnunet_igtv.structures import regions
from nnunet_igtv.structures.contours import Drawn
from nnunet_igtv.structures.rasterise import rasterise
from nnunet_igtv.structures.structure_sets import Roi

AXIAL = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
GRID = Grid((30, 24, 10), (1.5, 1.5, 3.0), (-10.0, 5.0, 100.0), AXIAL)


def place(polygon, k, grid=GRID):
    """A polygon in index coordinates (column, row) of slice k as points in mm."""
    index = np.column_stack([polygon, np.full(len(polygon), k)]) * grid.spacing
    return index @ np.array(grid.direction).reshape(3, 3).T + grid.origin


def roi(contours, **drawn):
    return Roi("1", "R", Drawn(list(contours), **drawn), "")


def mask_of(contours, grid=GRID):
    return rasterise([roi(contours)], grid).mask


def drawn(contours, grid=GRID, interpolate=False, **more):
    """The mask of contours, and the notes without the structure's name."""
    result = rasterise([roi(contours, **more)], grid, interpolate)
    assert all(note.startswith("structure 'R': ") for note in result.notes)
    return result.mask, [note.removeprefix("structure 'R': ") for note in result.notes]


def filled(mask):
    """The slices that are not empty."""
    return np.flatnonzero(mask.any((1, 2))).tolist()


def box(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


OUTER, INNER = box(4.5, 3.5, 20.5, 17.5), box(8.5, 6.5, 14.5, 12.5)


def test_contours_inside_each_other_are_holes_and_islands():
    island = box(10.5, 8.5, 12.5, 10.5)
    mask = mask_of([place(p, 2) for p in (OUTER, INNER, island)])
    expected = np.zeros((10, 24, 30), int)
    expected[2, 4:18, 5:21] = 1
    expected[2, 7:13, 9:15] = 0
    expected[2, 9:11, 11:13] = 1
    assert np.array_equal(mask, expected)


def test_keyhole_equals_separate_hole():
    bridge = [OUTER[0], INNER[0], *INNER[:0:-1], INNER[0], OUTER[0], *OUTER[1:]]
    assert np.array_equal(mask_of([place(np.array(bridge), 2)]), mask_of([place(OUTER, 2), place(INNER, 2)]))


def test_separate_parts_in_one_slice():
    mask = mask_of([place(box(1.5, 1.5, 4.5, 4.5), 3), place(box(10.5, 1.5, 12.5, 4.5), 3)])
    assert mask.sum() == 9 + 6


@pytest.mark.parametrize("seed", range(3))
def test_pixel_centres_in_polygons_of_any_shape(seed):
    """Against matplotlib's test of every voxel centre, on an oblique grid that is not square."""
    from matplotlib.path import Path

    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    grid = Grid((30, 24, 10), (1.1, 1.1, 2.7), tuple(rng.normal(size=3) * 50), tuple(rotation.ravel()))
    angles = np.sort(rng.uniform(0, 2 * np.pi, 25))
    polygon = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(4, 13, 25)[:, None] + (15, 11)
    centres = np.stack(np.meshgrid(np.arange(30), np.arange(24)), -1).reshape(-1, 2)
    expected = Path(polygon).contains_points(centres).reshape(24, 30)
    mask = mask_of([place(polygon, 4, grid)], grid)
    assert np.array_equal(mask[4], expected)
    assert mask.sum() == expected.sum()


def test_planes_between_slices_fill_the_nearest_slice_once():
    """Contours of a stack that is shifted by 0.3 slices: every plane one slice, none twice, none left."""
    mask = mask_of([place(OUTER, k + 0.3) for k in range(2, 6)])
    assert np.flatnonzero(mask.any((1, 2))).tolist() == [2, 3, 4, 5]


def test_planes_midway_between_slices_keep_the_number_of_slices():
    mask = mask_of([place(OUTER, k + 0.5) for k in range(2, 6)])
    assert len(np.flatnonzero(mask.any((1, 2)))) == 4


def test_finer_planes_than_slices_are_not_mixed():
    """Three planes per slice: each slice takes the nearest, instead of the XOR of several."""
    mask = mask_of([place(OUTER if k % 3 == 0 else INNER, k / 3) for k in range(6, 16)])
    full = mask_of([place(OUTER, 2)])[2]
    assert all(np.array_equal(mask[k], full) for k in (2, 3, 4, 5))


def test_coarser_planes_of_another_stack_leave_no_gaps():
    """Planes 2.4 slices apart that were not drawn on these slices stand for slabs."""
    mask = mask_of([place(OUTER, 1.3 + 2.4 * k) for k in range(3)])
    filled = np.flatnonzero(mask.any((1, 2)))
    assert filled.tolist() == list(range(filled[0], filled[-1] + 1))
    assert len(filled) == pytest.approx(3 * 2.4, abs=1)


SIDE = box(22.5, 18.5, 27.5, 22.5)  # apart from OUTER


@pytest.mark.parametrize(
    ("planes", "slices"),
    [
        ((2, 4, 6), [2, 3, 4, 5, 6, 7]),  # every second slice
        ((1, 4, 7), [0, 1, 2, 3, 4, 5, 6, 7, 8]),  # every third
        ((1, 3, 6, 8), [1, 2, 3, 4, 5, 6, 7, 8, 9]),  # every second or third
        ((1, 3, 6), [1, 2, 3, 4, 5, 6, 7]),
        (
            (0, 4, 8),
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        ),  # another stack, whose planes are slices here
        ((2.3, 5.3), [1, 2, 3, 4, 5, 6]),  # two planes that no slice of this stack has
    ],
)
def test_planes_that_leave_out_slices_regularly_are_slabs(planes, slices):
    mask, notes = drawn([place(OUTER, k) for k in planes])
    assert filled(mask) == slices
    assert len(notes) == 1
    assert "each stands for a slab" in notes[0]


@pytest.mark.parametrize("height", [0.0, 0.3, 0.5])
def test_a_missing_plane_is_not_filled_and_named(height):
    mask, notes = drawn([place(OUTER, k + height) for k in (1, 2, 3, 5, 6)])
    assert filled(mask) == [k + (height >= 0.5) for k in (1, 2, 3, 5, 6)]
    low, high = (100 + 3 * (k + height) for k in (3, 5))
    assert any(
        f"nothing filled in, between z = {low:.1f} and {high:.1f} mm (1 slice(s) missing)" in n for n in notes
    )


@pytest.mark.parametrize(
    "planes", [(1, 2, 5, 6), (1, 2, 3, 5, 7, 8, 9), (3, 7), (3, 5), (1, 3, 7), (1, 6, 8)]
)
def test_islands_along_the_axis_are_not_joined(planes):
    """Neither two lesions one above the other, nor single contours without a rhythm; the space is named."""
    mask, notes = drawn([place(OUTER, k) for k in planes])
    assert filled(mask) == list(planes)
    assert len(notes) == 1
    assert "nothing filled in" in notes[0]


def test_islands_beside_each_other_need_no_remark():
    mask, notes = drawn([place(OUTER, k) for k in (1, 2, 3)] + [place(SIDE, k) for k in (6, 7)])
    assert filled(mask) == [1, 2, 3, 6, 7]
    assert not notes


def test_islands_of_two_stacks_are_both_there():
    """Each slice has a contour of each, though one of the two is nearer."""
    mask, _ = drawn([place(OUTER, k) for k in (2, 3, 4)] + [place(SIDE, k + 0.15) for k in (2, 3, 4)])
    assert filled(mask) == [2, 3, 4]
    assert mask.sum() == 3 * (16 * 14 + 5 * 4)


def test_islands_of_two_coarse_stacks_are_slabs_each():
    mask, notes = drawn([place(OUTER, k) for k in (0, 2, 4, 6)] + [place(SIDE, k) for k in (1, 3, 5, 7)])
    assert filled(mask[:, :18]) == list(range(8))
    assert filled(mask[:, 18:]) == list(range(1, 9))
    assert "each stands for a slab" in notes[0]


def test_an_additional_plane_between_two_slices_is_named():
    mask, notes = drawn([place(OUTER, k) for k in (1, 2, 3, 4, 5, 6)] + [place(INNER, 3.5)])
    assert mask.sum() == 6 * 16 * 14
    assert len(notes) == 1
    assert "1 contour plane(s) between slices are nearest to none, and not used: z = 110.5 mm" in notes[0]


@pytest.mark.parametrize("k", [0, 9, 9.4])
def test_one_contour_is_one_slice(k):
    mask, notes = drawn([place(OUTER, k)])
    assert filled(mask) == [round(k)]
    assert len(notes) == (k == 9.4)  # it is off the slices


def test_rounded_coordinates_half_a_slice_off_keep_the_number_of_slices():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = mask_of([place(OUTER, k + 0.5 + rng.uniform(-3e-3, 3e-3)) for k in range(2, 6)])
        assert filled(mask) == [3, 4, 5, 6]


@pytest.mark.parametrize("spacing", [0.8, 1.0, 1.25, 3.0, 3.27, 5.0])
@pytest.mark.parametrize("step", [1.0, 2.5, 3.0, 3.27, 4.0, 5.0])
@pytest.mark.parametrize("start", [0.0, 0.31, 0.5])
def test_a_structure_of_another_stack_keeps_its_height(step, spacing, start):
    """A cylinder drawn at any spacing, on slices of any spacing: no gap, and its height to one slice."""
    grid = Grid((30, 24, int(90 / spacing)), (1.5, 1.5, spacing), GRID.origin, AXIAL)
    planes = np.arange(30 + start * spacing, 60, step)
    mask, notes = drawn([place(OUTER, z / spacing, grid) for z in planes], grid)
    slices = filled(mask)
    assert slices == list(range(slices[0], slices[-1] + 1))
    assert abs(len(slices) * spacing - len(planes) * step) <= spacing + 0.1
    assert not any("ml" in note or "nothing filled" in note for note in notes)


def test_partly_off_the_grid_is_clipped_and_said():
    result = rasterise([roi([place(box(-20, -20, 5.5, 5.5), k) for k in (-2, 0, 1, 12)])], GRID)
    assert result.mask.sum() == 2 * 36
    assert result.mask[:2, :6, :6].all()
    assert any("reach outside of the image" in note for note in result.notes)
    assert any("2 of 4 contour planes are outside" in note for note in result.notes)


def test_union_of_structures_is_or():
    rois = [roi([place(OUTER, 2)]), roi([place(INNER, 2), place(INNER, 3)])]
    mask = rasterise(rois, GRID).mask
    assert np.array_equal(mask[2], mask_of([place(OUTER, 2)])[2])
    assert np.array_equal(mask[3], mask_of([place(INNER, 3)])[3])


# -------------------------------------------------------------------------------- outlines within one plane


def test_overlapping_outlines_are_united_and_named():
    left, right = box(4.5, 3.5, 12.5, 17.5), box(10.5, 3.5, 20.5, 17.5)
    mask, notes = drawn([place(p, k) for k in (2, 3) for p in (left, right)])
    assert np.array_equal(mask, mask_of([place(OUTER, 2), place(OUTER, 3)]))
    assert notes == ["4 contours overlap others in part, and are no holes: united"]
    cross = [place(box(4.5, 8.5, 20.5, 12.5), 2), place(box(10.5, 3.5, 14.5, 17.5), 2)]
    assert mask_of(cross).sum() == 16 * 4 + 4 * 14 - 4 * 4


def test_outlines_whose_type_asks_for_it_are_combined_by_exclusive_or():
    left, right = box(4.5, 3.5, 12.5, 17.5), box(10.5, 3.5, 20.5, 17.5)
    mask, notes = drawn([place(left, 2), place(right, 2)], exclusive=True)
    assert mask.sum() == 16 * 14 - 2 * 14
    assert notes == [
        "2 contours overlap others in part: combined by exclusive-or, as their type says",
    ]


def test_islands_with_a_common_border_are_whole():
    """The border runs through voxel centres, which belong to both."""
    mask, notes = drawn([place(box(4.5, 3.5, 12, 17.5), 2), place(box(12, 3.5, 20.5, 17.5), 2)])
    assert np.array_equal(mask, mask_of([place(OUTER, 2)]))
    assert not notes


def test_a_hole_in_the_overlap_of_two_islands():
    left, right = box(4.5, 3.5, 15.5, 17.5), box(7.5, 3.5, 20.5, 17.5)
    mask, _ = drawn([place(p, 2) for p in (left, right, INNER)])
    assert np.array_equal(mask, mask_of([place(OUTER, 2), place(INNER, 2)]))


def test_a_hole_beside_a_neighbour_is_not_filled():
    """The hole shares its border with a second island, or is covered by it in part."""
    for neighbour in (box(14.5, 3.5, 24.5, 17.5), box(12.5, 3.5, 24.5, 17.5)):
        left = box(4.5, 3.5, 14.5, 17.5)
        mask, _ = drawn([place(p, 2) for p in (left, neighbour, INNER)])
        assert not mask[2, 7:12, 9:12].any()
        assert mask.sum() == 20 * 14 - 6 * 6


def test_a_line_of_no_area_changes_nothing():
    line = np.array([(8, 9), (12, 9), (16, 9), (12, 9)], float)
    mask, notes = drawn([place(p, 2) for p in (OUTER, INNER, line)])
    assert np.array_equal(mask, mask_of([place(OUTER, 2), place(INNER, 2)]))
    assert notes == ["1 contour(s) enclose no voxel centre"]


def test_keyholes_in_whatever_direction_need_no_remark():
    """One outline with two holes, its channels of no width; the holes wound like the border, or against."""
    for hole in (INNER, INNER[::-1]):
        second = hole * 0.4 + (12.5, 10.5)
        ring = [*OUTER, OUTER[0], hole[0], *hole[1:], hole[0], OUTER[0]]
        ring += [OUTER[0], second[0], *second[1:], second[0], OUTER[0]]
        mask, notes = drawn([place(np.array(ring), k) for k in (2, 3)])
        expected = mask_of([place(p, k) for k in (2, 3) for p in (OUTER, INNER, second)])
        assert np.count_nonzero(mask != expected) <= 8  # where the channels run through voxel centres
        assert not notes


def test_a_thin_wall_is_no_repetition():
    """Inner and outer outline of a wall thinner than a pixel: what has its centre in it, as ever."""
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    mask = mask_of([place(circle * r + (14, 11), 2) for r in (9.3, 8.8)])
    x, y = np.meshgrid(np.arange(30) - 14, np.arange(24) - 11)
    assert 0 < mask.sum() < 60
    assert not mask[2][np.hypot(x, y) < 8.7].any()


def test_a_hole_that_touches_or_pokes_out_stays_a_hole():
    for hole in (box(8.5, 6.5, 14.5, 17.5), box(8.5, 6.5, 14.5, 17.9)):
        mask, _ = drawn([place(OUTER, 2), place(hole, 2)])
        assert mask.sum() == 16 * 14 - 6 * 11
        assert not mask[2, 8:17, 10:14].any()


@st.composite
def redrawn(draw):
    """OUTER as other software may write it: other start, direction, repeated points, rounding."""
    polygon = np.roll(OUTER, draw(st.integers(0, 3)), axis=0)[:: draw(st.sampled_from([1, -1]))]
    if draw(st.booleans()):
        polygon = np.vstack([polygon, polygon[:1]])
    if draw(st.booleans()):
        polygon = np.repeat(polygon, 2, axis=0)
    if draw(st.booleans()):  # points between
        middles = (polygon + np.roll(polygon, -1, axis=0)) / 2
        polygon = np.stack([polygon, middles], 1).reshape(-1, 2)
    return polygon + np.random.default_rng(draw(st.integers(0, 99))).uniform(-1e-3, 1e-3, polygon.shape)


@settings(deadline=None)
@given(redrawn())
def test_one_outline_is_the_same_however_it_is_written(polygon):
    assert np.array_equal(mask_of([place(polygon, 2)]), mask_of([place(OUTER, 2)]))


@settings(deadline=None)
@given(redrawn(), redrawn())
def test_a_repeated_outline_counts_once(polygon, again):
    mask, notes = drawn([place(p, 2) for p in (polygon, INNER, again)])
    assert np.array_equal(mask, mask_of([place(OUTER, 2), place(INNER, 2)]))
    assert notes == ["1 contour(s) are there twice: counted once"]


def test_three_times_the_same_and_a_hole_twice():
    mask, notes = drawn([place(p, 2) for p in (OUTER, OUTER, INNER, OUTER[::-1], INNER)])
    assert np.array_equal(mask, mask_of([place(OUTER, 2), place(INNER, 2)]))
    assert notes == ["3 contour(s) are there twice: counted once"]


@pytest.mark.parametrize("aside", [0.6, 1.0])
def test_an_outline_redrawn_a_little_aside_is_united(aside):
    mask, notes = drawn([place(OUTER, 2), place(OUTER + aside, 2)])
    assert mask.sum() == 16 * 14 + 16 + 14 - 1
    assert "united" in notes[0]


def test_an_outline_that_crosses_itself_between_its_points_is_reported():
    """Two corners of a box exchanged: half of its pixels are outside."""
    crossed = OUTER[[0, 2, 1, 3]]
    mask, notes = drawn([place(crossed, k) for k in (2, 3, 4)])
    assert mask.sum() < 0.6 * mask_of([place(OUTER, k) for k in (2, 3, 4)]).sum()
    assert "cross themselves" in notes[-1]


def test_figures_of_eight_and_outlines_that_touch_themselves_are_whole():
    eight = np.array([(4.5, 3.5), (7.5, 6.5), (10.5, 9.5), (10.5, 3.5), (7.5, 6.5), (4.5, 9.5)])
    touching = np.array([(4.5, 3.5), (7.5, 3.5), (7.5, 8.5), (10.5, 3.5), (13.5, 9.5), (7.5, 8.5)])
    left, right = [(8.5, 8.5), (4.5, 8.5), (4.5, 3.5), (8.5, 3.5)], [(14.5, 3.5), (18.5, 3.5), (18.5, 8.5)]
    dumbbell = np.array([*left, (8.5, 6), (14.5, 6), *right, (14.5, 8.5), (14.5, 6), (8.5, 6)])
    for polygon, voxels in ((eight, 18), (touching, None), (dumbbell, 2 * 4 * 5)):
        mask, notes = drawn([place(polygon, k) for k in (2, 3, 4)])
        assert not notes
        assert voxels is None or abs(mask[3].sum() - voxels) <= 6


@pytest.mark.parametrize("second", [OUTER, box(6, 5, 19, 16)])
def test_an_outline_that_runs_twice_around_itself_is_reported(second):
    """By the even-odd rule, nothing is inside what is wound twice; Green's formula counts it twice."""
    twice = np.vstack([OUTER, second])
    _, notes = drawn([place(p, k) for p, k in ((OUTER, 2), (twice, 3), (twice, 4), (OUTER, 5))])
    assert "the contours enclose" in notes[-1]
    assert "cross themselves" in notes[-1]


def test_outlines_too_small_for_a_voxel_are_counted():
    mask, notes = drawn([place(OUTER, 2), place(box(22.6, 18.6, 22.9, 18.9), 2)])
    assert mask.sum() == 16 * 14
    assert notes == ["1 contour(s) enclose no voxel centre"]


def test_outlines_along_the_border_of_the_image_are_inside_it():
    mask, notes = drawn([place(box(-0.5, -0.5, 29.5, 23.5), k) for k in range(10)])
    assert mask.all()
    assert not notes


# ------------------------------------------------------------------------------------------- laws, and limits


@pytest.mark.law
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 4), st.integers(3, 30), st.integers(3, 30)),
    spacing=st.sampled_from([0.5, 1.0, 3.0]),
    share=st.floats(0.05, 0.95),
)
def test_traced_masks_come_back_without_a_remark(seed, size, spacing, share):
    """Shapes of any topology, voxel for voxel, and no false alarm by the control sum or the overlaps."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=size), (1, 2, 2))
    mask = noise > np.quantile(noise, share)
    grid = Grid(size[::-1], (1.1, 1.4, spacing), (-10, 5, 100), AXIAL)
    positions = [place(np.zeros((1, 2)), k, grid)[0] for k in range(size[0])]
    contours = [c.points for c in trace(grid.image(mask.astype(np.uint8)), positions)]
    read, notes = drawn(contours, grid)
    assert np.array_equal(read, mask)
    assert not [note for note in notes if "nothing filled in" not in note]


@pytest.mark.law
@settings(max_examples=60, deadline=None)
@given(
    centre=st.tuples(st.floats(10, 20), st.floats(8, 16)),
    radius=st.floats(0.8, 8),
    points=st.integers(5, 80),
    planes=st.integers(1, 8),
)
def test_the_control_sum_is_silent_about_whole_contours_of_any_size(centre, radius, points, planes):
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    polygon = np.column_stack([np.cos(angle), np.sin(angle)]) * radius + centre
    contours = [place(polygon, k) for k in range(1, 1 + planes)]
    whole = [place(box(-0.5, -0.5, 3.5, 3.5), k) for k in range(1, 1 + planes)]  # so that there is something
    _, notes = drawn(contours + whole)
    assert not [note for note in notes if "ml" in note]


def test_contours_far_away_are_refused():
    with pytest.raises(IGTVError, match=r"structure 'R': a contour reaches 1000000.0 m beyond the image"):
        mask_of([place(OUTER, 2), place(box(-1e9, -1e9, 1e9, 1e9), 3) / (1.5, 1.5, 1)])
    with pytest.raises(IGTVError, match="beyond the image"):
        mask_of([place(OUTER, 2 + k) for k in range(4000)])


def test_many_planes_take_memory_in_proportion():
    """Heights of their own for 3,000 contours; a matrix of all pairs of them would take 72 MB."""
    grid = Grid((30, 24, 150), (1.5, 1.5, 3.0), GRID.origin, AXIAL)
    contours = [place(OUTER[:3], k, grid) for k in np.linspace(0, 149, 3000)]
    tracemalloc.start()
    mask, _ = drawn(contours, grid)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert filled(mask) == list(range(150))
    assert peak < 20e6


def test_more_overlaps_than_anybody_draws_are_refused(monkeypatch):
    monkeypatch.setattr(regions, "MOST_PAIRS", 40)
    with pytest.raises(IGTVError, match="pairs of its contours overlap in one plane"):
        mask_of([place(OUTER + shift, 2) for shift in np.linspace(0, 3, 10)])


def test_an_image_said_to_be_huge_is_refused():
    with pytest.raises(IGTVError, match="60000 x 60000 x 12 voxels"):
        mask_of([place(OUTER, 2)], Grid((60000, 60000, 12), (1, 1, 1), (0, 0, 0), AXIAL))


# --------------------------------------------------------------------------------------------- interpolation


def cone(k):
    half = 2 + 0.7 * k
    return box(14 - half, 11 - half, 14 + half, 11 + half)


def test_interpolation_fills_between_contours():
    """A cone drawn on every third slice: between them it grows, where slabs have steps."""
    slabs, _ = drawn([place(cone(k), k) for k in (0, 3, 6, 9)])
    between, notes = drawn([place(cone(k), k) for k in (0, 3, 6, 9)], interpolate=True)
    dense = mask_of([place(cone(k), k) for k in range(10)])
    assert all(np.array_equal(between[k], dense[k]) for k in (0, 3, 6, 9))
    assert np.count_nonzero(between != dense) < 0.5 * np.count_nonzero(slabs != dense)
    assert np.all(np.diff(between.sum((1, 2), dtype=int)) >= 0)
    assert "interpolated between them" in notes[0]


def test_interpolation_changes_nothing_on_dense_contours():
    contours = [place(cone(k), k) for k in range(2, 8)]
    mask, notes = drawn(contours, interpolate=True)
    assert np.array_equal(mask, mask_of(contours))
    assert not notes


def test_interpolation_fills_one_missing_plane_and_says_so():
    mask, notes = drawn([place(cone(k), k) for k in (1, 2, 3, 5, 6)], interpolate=True)
    expected = mask_of([place(cone(k), k) for k in range(1, 7)])
    assert np.count_nonzero(mask != expected) <= 0.15 * expected[4].sum()
    assert "filled where one plane is missing, between z = 109.0 and 115.0 mm" in notes[0]


def test_interpolation_does_not_join_islands():
    for planes in ((1, 2, 5, 6), (3, 7)):
        mask, notes = drawn([place(OUTER, k) for k in planes], interpolate=True)
        assert filled(mask) == list(planes)
        assert "no contours" in notes[0]


def test_interpolation_keeps_holes_and_lone_parts():
    hole = [place(p, k) for k in (1, 4, 7) for p in (OUTER, INNER)]
    mask, _ = drawn([*hole, place(SIDE, 4)], interpolate=True)
    assert not mask[2:7, 7:12, 9:14].any()
    assert [int(mask[k, 19:23, 23:28].sum()) for k in (2, 3, 4, 5, 6)] == [0, 20, 20, 20, 0]
