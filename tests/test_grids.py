"""The rule for "same grid": voxels that coincide in space, at the farthest corner too."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import (
    TOLERANCE,
    Grid,
    difference,
    read_image,
    rearranged,
    same_grid,
    same_voxels,
    shared_voxels,
)

EYE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((100, 80, 40), (1.2, 1.5, 3.0), (-60.0, 20.0, -500.0), EYE)
axes = st.integers(0, 2)


def turned(degrees):
    angle = np.radians(degrees)
    direction = (np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1)
    return Grid(GRID.size, GRID.spacing, GRID.origin, direction)


def moved(axis, voxels):
    origin = list(GRID.origin)
    origin[axis] += voxels * GRID.spacing[axis]
    return Grid(GRID.size, GRID.spacing, tuple(origin), EYE)


@given(axes, st.floats(-0.9, 0.9))
def test_a_shift_within_the_tolerance_is_the_same_grid(axis, share):
    assert same_grid(GRID, moved(axis, share * TOLERANCE))


@given(axes, st.floats(1.1, 50))
def test_a_larger_shift_is_not(axis, times):
    assert not same_grid(GRID, moved(axis, times * TOLERANCE))
    assert "origin" in difference(moved(axis, times * TOLERANCE), GRID)


@pytest.mark.parametrize(("degrees", "same"), [(0.0, True), (0.005, True), (0.1, False), (0.57, False)])
def test_turned_axes_count_by_what_they_do_at_the_corners(degrees, same):
    assert same_grid(GRID, turned(degrees)) is same
    assert f"turned by {degrees:.2f} degrees" in difference(turned(degrees), GRID) or degrees == 0.005


@given(st.tuples(*[st.integers(-5, 5)] * 3), st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_other_axes_and_crops_share_their_voxels(offset, order, flips):
    """A grid cut out of another, its axes reordered and reversed: every voxel is found again."""
    axes = np.zeros((3, 3))
    for new, old in enumerate(order):
        axes[old, new] = -1.0 if flips[old] else 1.0
    size, spacing = (tuple(np.array(v)[order].tolist()) for v in ((12, 9, 7), GRID.spacing))
    origin = np.array(GRID.origin) + np.array(offset) * GRID.spacing
    cut = Grid(size, spacing, tuple(origin.tolist()), tuple(axes.ravel().tolist()))
    move = shared_voxels(cut, GRID)
    index = np.array([3, 2, 1, 1])
    assert np.allclose(GRID.matrix @ move @ index, cut.matrix @ index)
    assert not same_voxels(cut, GRID)
    voxels = np.zeros(size[::-1], np.int16)
    voxels[1, 2, 3] = 7
    place = np.linalg.inv(GRID.matrix) @ cut.matrix @ index
    x, y, z = np.rint(place[:3]).astype(int)
    if (place[:3] < -0.5).any():
        with pytest.raises(IGTVError, match="reaches outside of the CT"):
            rearranged(voxels, cut, GRID, "CT")
    else:
        found = rearranged(voxels, cut, GRID, "CT")
        assert (found[z, y, x], np.count_nonzero(found)) == (7, 1)
        assert (rearranged(found, GRID, cut, "CT") == voxels).all()


def test_half_a_voxel_shares_none():
    assert shared_voxels(moved(0, 0.5), GRID) is None


def test_nifti_keeps_the_grid(tmp_path):
    direction = turned(23.0).direction
    grid = Grid((9, 8, 7), (0.9765625, 0.9765625, 3.27), (-249.51171875, -431.7, 1032.123456), direction)
    sitk.WriteImage(grid.image(np.zeros((7, 8, 9), np.uint8)), str(tmp_path / "a.nii.gz"))
    assert same_grid(read_image(tmp_path / "a.nii.gz"), grid)


def test_what_is_no_3d_image_is_named(tmp_path):
    (tmp_path / "text.nii.gz").write_text("not an image")
    sitk.WriteImage(sitk.Image((4, 4), sitk.sitkUInt8), str(tmp_path / "flat.nii.gz"))
    for name, message in (("text", "cannot be read"), ("flat", "not a 3D image"), ("absent", "no such file")):
        with pytest.raises(IGTVError, match=message):
            read_image(tmp_path / f"{name}.nii.gz")


def test_an_image_in_two_files_is_refused(tmp_path):
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8), str(tmp_path / "mask.hdr"))
    for ending in (".hdr", ".img"):
        with pytest.raises(IGTVError, match="two files"):
            read_image(tmp_path / f"mask{ending}")
