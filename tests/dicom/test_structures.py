"""Contours to masks: even-odd rule, planes and slices, grids of any orientation, names; real files."""

from copy import deepcopy

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from nnunet_igtv.dicom import read_ct, read_pet, read_structure
from nnunet_igtv.dicom.contours import Drawn
from nnunet_igtv.dicom.rasterise import rasterise
from nnunet_igtv.dicom.series import find_series, read_image
from nnunet_igtv.dicom.structures import Roi, matches, normalised, read_structure_set
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid

AXIAL = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
GRID = Grid((30, 24, 10), (1.5, 1.5, 3.0), (-10.0, 5.0, 100.0), AXIAL)


def place(polygon, k, grid=GRID):
    """A polygon in index coordinates (column, row) of slice k as points in mm."""
    index = np.column_stack([polygon, np.full(len(polygon), k)]) * grid.spacing
    return index @ np.array(grid.direction).reshape(3, 3).T + grid.origin


def roi(contours, **drawn):
    return Roi(1, "R", Drawn(list(contours), **drawn), "")


def mask_of(contours, grid=GRID):
    return rasterise([roi(contours)], grid).mask


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


def test_slices_left_out_on_purpose_stay_empty():
    mask = mask_of([place(OUTER, k) for k in (1, 3, 7)])
    assert np.flatnonzero(mask.any((1, 2))).tolist() == [1, 3, 7]


def test_partly_off_the_grid_is_clipped_and_said():
    result = rasterise([roi([place(box(-20, -20, 5.5, 5.5), k) for k in (-2, 0, 1, 12)])], GRID)
    assert result.mask.sum() == 2 * 36
    assert result.mask[:2, :6, :6].all()
    assert any("beyond the image" in note for note in result.notes)
    assert any("beyond the first or last slice" in note for note in result.notes)


def test_union_of_structures_is_or():
    rois = [roi([place(OUTER, 2)]), roi([place(INNER, 2), place(INNER, 3)])]
    mask = rasterise(rois, GRID).mask
    assert np.array_equal(mask[2], mask_of([place(OUTER, 2)])[2])
    assert np.array_equal(mask[3], mask_of([place(INNER, 3)])[3])


# ----------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("IGTV", "igtv", True),
        ("IGTV", "I-GTV ", True),
        ("IGTV", "ITV", False),
        ("ITV", "IGTV", False),
        ("GTV", "PTV-GTV", False),
        ("GTV", "GTV-1", False),
        ("GTV.*", "GTV-1", True),
        ("GTV.*", "IGTV", False),
        ("IGTV.*", "iGTV_ph50", True),
        (r"GTV[pn]\d?", "gtv_p", True),
        ("GTV_Mass_CT", "GTV Mass-CT", True),
        ("GTV (1)", "GTV (1)", True),
    ],
)
def test_names_are_matched_whole(pattern, name, meant):
    assert matches(pattern, name) is meant


def test_a_pattern_that_is_no_expression():
    with pytest.raises(IGTVError, match="not a regular expression"):
        matches("GTV[", "GTV")


def test_normalised():
    assert normalised(" GTV_Mass-CT.1 ") == "gtvmassct1"


# --------------------------------------------------------------------------------------------- read_structure


@pytest.fixture
def study(tmp_path, patient):
    made = patient()
    return made, made.write(tmp_path / "study")


def test_read_structure(study, dicom):
    _, folder = study
    ct = read_ct(folder)
    mask = read_structure(folder / "RT" / "000.dcm", "IGTV", ct)
    assert mask.GetOrigin() == ct.GetOrigin()
    assert mask.GetDirection() == ct.GetDirection()
    voxels = sitk.GetArrayFromImage(mask)
    assert voxels.dtype == np.uint8
    assert voxels.sum() == 4 * 6 * 5


def test_on_the_grid_of_the_pet(study):
    """Volume and centre agree with the CT's, to what the coarser grid allows."""
    _, folder = study
    masks = [
        read_structure(folder / "RT" / "000.dcm", "IGTV", image)
        for image in (read_ct(folder), read_pet(folder))
    ]
    centres = []
    for mask in masks:
        where = np.argwhere(sitk.GetArrayFromImage(mask))[:, ::-1].mean(0)
        centres.append(mask.TransformContinuousIndexToPhysicalPoint(where.tolist()))
    assert np.abs(np.subtract(*centres)).max() < 2


def test_several_structures_need_a_union(study, dicom):
    made, folder = study
    dicom.add_roi(made.rt[0], "IGTV_2", [dicom.contour(dicom.square(1, 1, 5, 5, 9))])
    made.write(folder)
    file, ct = folder / "RT" / "000.dcm", read_ct(folder)
    with pytest.raises(IGTVError, match=r"2 structures match 'IGTV\.\*': 'IGTV', 'IGTV_2'"):
        read_structure(file, "IGTV.*", ct)
    both = read_structure(file, "IGTV.*", ct, union=True)
    assert sitk.GetArrayFromImage(both).sum() == 4 * 6 * 5 + 4


def test_frames_of_reference_are_compared(study):
    made, folder = study
    ct = read_ct(folder)
    made.rois[0].ReferencedFrameOfReferenceUID = generate_uid()
    made.write(folder)
    with pytest.raises(IGTVError, match="different frames of reference"):
        read_structure(folder / "RT" / "000.dcm", "IGTV", ct)


def test_frame_of_reference_from_the_set_where_the_structure_has_none(study):
    made, folder = study
    other = deepcopy(made.rt[0])
    del other.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    other.save_as(folder / "RT" / "000.dcm")
    (roi,) = read_structure_set(folder / "RT" / "000.dcm").rois
    assert roi.frame_of_reference == made.rt[0].FrameOfReferenceUID


def test_not_a_structure_set(study):
    _, folder = study
    with pytest.raises(IGTVError, match="not an RTSTRUCT"):
        read_structure_set(folder / "CT" / "000.dcm")
    with pytest.raises(IGTVError, match="no such file"):
        read_structure_set(folder / "absent.dcm")


# ------------------------------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("case", "pattern"),
    [("IBSI_CT_LUNG", "GTV-1"), ("STS_002/CT", "gtv mass ct"), ("STS_002/PET", "GTV_Mass_PET")],
)
def test_real_masks_voxel_for_voxel(case, pattern, real):
    (series,) = find_series(real / case / "dicom" / "image")
    (file,) = (real / case / "dicom" / "mask").iterdir()
    mask = sitk.GetArrayFromImage(read_structure(file, pattern, read_image(series)))
    shipped = sitk.ReadImage(str(next((real / case / "nifti" / "mask").iterdir())))
    assert np.count_nonzero(mask != (sitk.GetArrayFromImage(shipped) > 0)) == 0
