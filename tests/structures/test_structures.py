"""Structure sets: names, frames of reference, and the masks of real files voxel for voxel."""

from copy import deepcopy

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from nnunet_igtv import read_ct, read_pet, read_structure
from nnunet_igtv.dicom.series import find_series, read_voxels
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.structures.structure_sets import matches, normalised, read_structure_set


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
        ("GTV_1", "GTV 1", True),
        ("GTV1", "GTV-1", True),
        ("GTV_1.1", "GTV 1 - 1", True),
        ("GTV11", "GTV 1.1", False),
        ("GTV 1.1", "GTV11", False),
        ("IGTV T11", "IGTV T1_1", False),
        (r"GTV\d+", "GTV 1.1", False),
        (r"GTV\d\.\d", "GTV 1_1", True),
    ],
)
def test_names_are_matched_whole(pattern, name, meant):
    assert matches(pattern, name) is meant


def test_a_pattern_that_is_no_expression():
    with pytest.raises(IGTVError, match="not a regular expression"):
        matches("GTV[", "GTV")


def test_normalised():
    assert normalised(" GTV_Mass-CT.1 ") == "gtvmassct1"
    assert normalised("GTV 1 . 2_03-x 4") == "gtv1.2.03x4"


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


def test_a_number_with_a_separator_is_another_one(study, dicom):
    made, folder = study
    for name in ("GTV 1.1", "GTV11", "GTV_1.2"):
        dicom.add_roi(made.rt[0], name, made.contours)
    made.rt[0].save_as(folder / "RT" / "000.dcm", enforce_file_format=True)
    structures = read_structure_set(folder / "RT" / "000.dcm")
    for asked, found in (("GTV11", "GTV11"), ("gtv1_1", "GTV 1.1"), ("GTV 1-2", "GTV_1.2")):
        assert [roi.name for roi in structures.select(asked)] == [found]
    with pytest.raises(IGTVError, match="no structure matches 'GTV12'"):
        structures.select("GTV12")


def test_several_structures_need_a_union(study, dicom):
    made, folder = study
    dicom.add_roi(made.rt[0], "IGTV_2", [dicom.contour(dicom.square(1, 1, 5, 5, 9))])
    made.write(folder)
    file, ct = folder / "RT" / "000.dcm", read_ct(folder)
    with pytest.raises(IGTVError, match=r"2 structures match 'IGTV\.\*': 'IGTV', 'IGTV_2'"):
        read_structure(file, "IGTV.*", ct)
    both = read_structure(file, "IGTV.*", ct, union=True)
    assert sitk.GetArrayFromImage(both).sum() == 4 * 6 * 5 + 4


def test_a_structure_of_lines_is_not_left_out_of_a_union(study, dicom):
    made, folder = study
    dicom.add_roi(made.rt[0], "IGTV_2", [dicom.contour(dicom.square(1, 1, 5, 5, 9)[:9], "OPEN_PLANAR")])
    made.write(folder)
    file, ct = folder / "RT" / "000.dcm", read_ct(folder)
    with pytest.raises(IGTVError, match="2 structures match"):
        read_structure(file, "IGTV.*", ct)
    with pytest.raises(IGTVError, match=r"'IGTV_2' has no closed contours .*OPEN_PLANAR"):
        read_structure(file, "IGTV.*", ct, union=True)


def test_a_structure_without_contours_or_of_points_is_left_out_of_a_union(study, dicom):
    made, folder = study
    dicom.add_roi(made.rt[0], "IGTV_2", [])
    dicom.add_roi(made.rt[0], "IGTV_3", [dicom.contour([1.0, 1.0, 9.0], "POINT")])
    made.write(folder)
    file, ct = folder / "RT" / "000.dcm", read_ct(folder)
    for union in (True, False):
        assert sitk.GetArrayFromImage(read_structure(file, "IGTV.*", ct, union=union)).sum() == 4 * 6 * 5


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
    image = series.grid.image(read_voxels(series)[0])
    mask = sitk.GetArrayFromImage(read_structure(file, pattern, image))
    shipped = sitk.ReadImage(str(next((real / case / "nifti" / "mask").iterdir())))
    assert np.count_nonzero(mask != (sitk.GetArrayFromImage(shipped) > 0)) == 0
