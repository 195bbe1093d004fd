"""Files that others read: three libraries that this package shares no code with.

Two of them draw the outlines of a structure into the mask (OpenCV's polygon filling), which adds the voxels
that the outline touches. What is asked of them is that they take the file and put the structure where it is.
"""

import numpy as np
import pytest
from pydicom import dcmread
from scipy.ndimage import binary_dilation

from nnunet_igtv.export import write_rtstruct, write_seg
from nnunet_igtv.grids import Grid

TOUCHED = np.ones((1, 3, 3), bool)


@pytest.fixture
def square():
    """As many rows as columns: rt-utils 1.2.7 exchanges them."""
    return Grid((24, 24, 7), (1.5, 1.5, 3.0), (-12.0, 30.5, -100.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.fixture
def lesions(square):
    """Two, of which one has a hole that the outlines cannot fill."""
    mask = np.zeros(square.size[::-1], np.uint8)
    mask[2:5, 3:16, 4:18] = 1
    mask[3, 6:13, 8:15] = 0
    mask[5, 18:21, 19:22] = 1
    return mask


@pytest.fixture
def written(lesions, square, write_ct, tmp_path):
    """The lesions as IGTV, beside their mirror image as GTV in the same file; and the CT's folder."""
    ct = write_ct(tmp_path / "ct", square, PatientName="Müller^肺", SpecificCharacterSet="ISO_IR 192")
    first = write_rtstruct(square.image(lesions[:, ::-1]), ct, tmp_path / "first.dcm", "GTV 肺")
    return write_rtstruct(square.image(lesions), ct, tmp_path / "rs.dcm", extend=first), ct


def holds(found, mask):
    """Whether a mask that was filled with its outlines is `mask`."""
    around = binary_dilation(mask, TOUCHED) & binary_dilation(mask == 0, TOUCHED)
    return not (found != (mask > 0))[~around].any() and found[mask > 0].mean() > 0.9


def test_rt_utils(written, lesions):
    builder = pytest.importorskip("rt_utils").RTStructBuilder
    file, ct = written
    structures = builder.create_from(dicom_series_path=str(ct), rt_struct_path=str(file))
    assert structures.get_roi_names() == ["GTV 肺", "IGTV"]
    for name, mask in (("IGTV", lesions), ("GTV 肺", lesions[:, ::-1])):
        found = structures.get_roi_mask_by_name(name).transpose(2, 0, 1)
        assert holds(found, mask)


def test_pydicomrt(written, lesions):
    pytest.importorskip("pydicomrt")
    from pydicomrt.rs.check import check_rtstruct_iod, is_rtstruct_matching_series
    from pydicomrt.rs.rs_to_volume import calc_image_series_affine_mapping, rtstruct_to_masks
    from pydicomrt.utils.image_series_loader import load_sorted_image_series

    file, ct = written
    structures, series = dcmread(file), load_sorted_image_series(str(ct))
    assert check_rtstruct_iod(structures) == {"result": True, "content": []}
    assert is_rtstruct_matching_series(structures, series)
    found = rtstruct_to_masks(structures, *calc_image_series_affine_mapping(series))
    for name, mask in (("IGTV", lesions), ("GTV 肺", lesions[:, ::-1])):
        assert holds(found[name]["mask_volume"] > 0, mask)


def test_highdicom(lesions, square, write_ct, tmp_path):
    """Voxel for voxel, and each image that the segment lies on by its reference."""
    highdicom = pytest.importorskip("highdicom")
    ct = write_ct(tmp_path / "ct", square)
    seg = highdicom.seg.segread(write_seg(square.image(lesions), ct, tmp_path / "seg.dcm", "IGTV 肺"))
    assert seg.get_segment_description(1).segment_label == "IGTV 肺"
    headers = sorted((dcmread(path) for path in ct.iterdir()), key=lambda h: h.ImagePositionPatient[2])
    found = seg.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in headers], assert_missing_frames_are_empty=True
    )
    assert (found[..., 0] == lesions).all()
    volume = seg.get_volume(combine_segments=True)
    assert np.allclose(np.abs(volume.spacing), (3.0, 1.5, 1.5))
