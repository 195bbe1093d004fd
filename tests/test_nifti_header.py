"""Where a NIfTI file says that its voxels are, and how large: the sform counts, and contradictions do not."""

import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import Grid, read_image

SHAPE, SPACING = (7, 6, 5), (2.0, 2.5, 3.0)  # columns, rows, slices
UNITS, PIXDIM, CODES, SROW = 123, 80, 252, 280  # bytes of the header
AXES = np.array([[-0.96, 0.28, 0.0], [-0.28, -0.96, 0.0], [0.0, 0.0, 1.0]])
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine(scale=SPACING, offset=(40.0, 50.0, 60.0)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = AXES * scale, offset
    return matrix


def write(path, qform=(None, 0), sform=(None, 0), pixdim=None, units=None):
    """A file with what is given, and nothing else is made consistent with it."""
    image = nibabel.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), affine())
    image.header.set_qform(*qform, strip_shears=False)
    image.header.set_sform(*sform)
    nibabel.save(nibabel.Nifti1Image(image.dataobj, None, image.header), path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<3f", content, PIXDIM, *(pixdim or SPACING))
    if units is not None:
        content[UNITS] = units
    path.write_bytes(content)
    return path


def matrix_of(path):
    return LPS @ Grid.of(read_image(path)).matrix  # as NIfTI has it


def refusal(path):
    with pytest.raises(IGTVError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return caught.value.what


@pytest.mark.parametrize("qform_code", [0, 1, 2, 4])
@pytest.mark.parametrize("sform_code", [1, 2, 3, 4])
def test_the_sform_counts_whatever_its_code(qform_code, sform_code, tmp_path):
    """ITK takes the qform beside an sform of another code than 1: SPM writes such files when it aligns."""
    elsewhere = affine(offset=(140.0, 50.0, 90.0))
    path = write(tmp_path / "a.nii", (elsewhere if qform_code else None, qform_code), (affine(), sform_code))
    assert np.allclose(matrix_of(path), affine(), atol=1e-4)
    assert np.allclose(matrix_of(path), nibabel.load(path).affine, atol=1e-4)


def test_without_an_sform_the_qform_counts(tmp_path):
    assert np.allclose(matrix_of(write(tmp_path / "a.nii", (affine(), 1))), affine(), atol=1e-4)


def test_what_nibabel_and_itk_write_is_read_as_it_is(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.float32), affine()), tmp_path / "n.nii.gz")
    assert np.allclose(matrix_of(tmp_path / "n.nii.gz"), affine(), atol=1e-4)
    sitk.WriteImage(read_image(tmp_path / "n.nii.gz"), str(tmp_path / "i.nii.gz"))
    assert np.allclose(matrix_of(tmp_path / "i.nii.gz"), affine(), atol=1e-4)


@pytest.mark.parametrize("qform", [(None, 0), (affine(), 1)])
@pytest.mark.parametrize("code", [1, 2])
@pytest.mark.parametrize(
    "scale", [(1.0, 1.25, 1.5), (2.0, 2.5, 3.1), (0.0, 0.0, 0.0), (2.0, 2.5, float("nan"))]
)
def test_an_sform_of_other_voxel_sizes_than_pixdim_is_refused(scale, code, qform, tmp_path):
    """`set_sform` of nibabel and FSL's fslorient leave pixdim as it was."""
    path = write(tmp_path / "a.nii", qform, (affine(), code))
    content = bytearray(path.read_bytes())
    struct.pack_into("<12f", content, SROW, *affine(scale)[:3].ravel())
    path.write_bytes(content)
    if scale[0] in (0.0, 2.0) and scale[2] != 3.1 and not qform[1]:  # no matrix at all: ITK refuses it first
        assert "not at right angles" in refusal(path)
        return
    what = refusal(path)
    assert "two voxel sizes" in what
    assert "2 x 2.5 x 3 mm (pixdim)" in what
    if scale[0] == 1.0:
        assert "1 x 1.25 x 1.5 mm (sform)" in what


def test_the_remedy_that_names_nibabel_helps(tmp_path):
    path = write(tmp_path / "a.nii", (affine(), 1), (affine((1.0, 1.25, 1.5)), 2))
    assert "two voxel sizes" in refusal(path)
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(image.dataobj, image.affine), tmp_path / "b.nii")
    assert read_image(tmp_path / "b.nii").GetSpacing() == pytest.approx((1.0, 1.25, 1.5))


def test_rounded_voxel_sizes_are_the_sforms(tmp_path):
    path = write(tmp_path / "a.nii", sform=(affine((2.0, 2.5, 3.0)), 1), pixdim=(2.01, 2.5, 3.0))
    assert np.allclose(matrix_of(path), affine(), atol=1e-4)


@pytest.mark.parametrize("code", [1, 2])
def test_a_sheared_sform_is_refused_beside_a_qform(code, tmp_path):
    sheared = affine()
    sheared[:3, 1] += 0.05 * sheared[:3, 0]
    path = write(tmp_path / "a.nii", (affine(), 1), (sheared, code))
    assert "not at right angles" in refusal(path)


METRES, MICRONS = 1, 3


@pytest.mark.parametrize(
    ("pixdim", "units", "said"),
    [
        (SPACING, METRES, "2000 x 2500 x 3000 mm"),
        (SPACING, MICRONS, "0.002 x 0.0025 x 0.003 mm"),
        ((0.002, 0.0025, 0.003), None, "0.002 x 0.0025 x 0.003 mm"),
        ((2.0, 2.5, 60.0), None, "2 x 2.5 x 60 mm"),
        ((-2.0, 2.5, 3.0), None, "-2 x 2.5 x 3 mm"),  # ITK would mirror the image
        ((2.0, 0.0, 3.0), None, "2 x 0 x 3 mm"),
    ],
)
def test_voxels_that_no_scan_has_are_refused(pixdim, units, said, tmp_path):
    what = refusal(write(tmp_path / "a.nii", (affine(), 1), pixdim=pixdim, units=units))
    assert f"voxels of {said}" in what
    assert ("is metres" in what) == (units == METRES)
    assert ("is micrometres" in what) == (units == MICRONS)


@pytest.mark.parametrize(("units", "factor"), [(METRES, 1e-3), (MICRONS, 1e3), (0, 1.0), (2, 1.0)])
def test_units_count_for_sizes_and_places(units, factor, tmp_path):
    own = affine(np.array(SPACING) * factor, np.array((40.0, 50.0, 60.0)) * factor)
    pixdim = [size * factor for size in SPACING]
    for place in ({"qform": (own, 1)}, {"sform": (own, 1)}, {"qform": (own, 1), "sform": (own, 2)}):
        path = write(tmp_path / "a.nii", **place, pixdim=pixdim, units=units)
        assert np.allclose(matrix_of(path), affine(), atol=1e-3)


@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_other_formats_have_voxels_of_a_scan_too(ending, tmp_path):
    image = sitk.Image(4, 4, 4, sitk.sitkInt16)
    image.SetSpacing((2000.0, 2000.0, 3000.0))
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    assert "voxels of 2000 x 2000 x 3000 mm" in refusal(tmp_path / f"a.{ending}")
