"""Image files are whole, or refused by name: whatever the format, and wherever they are damaged."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import read_image

FORMATS = ("nii", "nii.gz", "mha", "compressed.mha", "nrrd", "compressed.nrrd")
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


def noise(dtype="f4"):
    return (np.random.default_rng(0).random((5, 6, 7)) * 100).astype(dtype)


def write(folder, ending, voxels):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((5.0, -6.0, 7.0))
    image.SetDirection((0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0))
    path = folder / f"image.{ending}"
    sitk.WriteImage(image, str(path), "compressed" in ending)
    return path


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ending", FORMATS)
def test_whole_files_are_read_as_itk_reads_them(ending, dtype, tmp_path):
    path = write(tmp_path, ending, noise(dtype))
    ours, itks = read_image(path), sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(ours), noise(dtype))
    for what in ("GetPixelID", "GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(ours, what)() == getattr(itks, what)()


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_is_cut_off_anywhere_is_refused(ending, tmp_path):
    path = write(tmp_path, ending, noise())
    content = path.read_bytes()
    for length in (0, 10, 340, len(content) // 2, len(content) - 30, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(IGTVError, match="cannot be read"):
            read_image(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_bytes_beyond_the_voxels_are_refused(ending, tmp_path):
    path = write(tmp_path, ending, noise())
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(IGTVError, match=r"more than its header says|damaged"):
        read_image(path)


@pytest.mark.parametrize("ending", [f for f in FORMATS if f.startswith("compressed") or f.endswith("gz")])
@settings(deadline=None)
@given(place=st.floats(0.3, 0.95), bit=st.integers(0, 7))
def test_a_bit_that_flipped_in_compressed_voxels_is_noticed(ending, place, bit, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("flip"), ending, noise())
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        voxels = sitk.GetArrayFromImage(read_image(path))
    except IGTVError:
        return
    assert np.array_equal(voxels, noise())  # the bit was one of those that mean nothing


@pytest.mark.parametrize(
    ("ending", "old", "new", "why"),
    [
        ("mha", b"ElementDataFile = LOCAL", b"ElementDataFile = a%s%s%n.raw 1 3 1", "by a pattern"),
        ("mha", b"ElementDataFile = LOCAL", b"ElementDataFile : a%03d.raw 1 3 1", "by a pattern"),
        ("mha", b"LOCAL\n", b"LOCALJ", "damaged"),  # what follows is no name
        ("mha", b"LOCAL\n", b"x" * 2000 + b"\n", "damaged"),
        ("mha", b"ElementDataFile", b"Comment", "damaged"),
        ("nrrd", b"encoding:", b"data file: a%s%d.raw 1 3 1\nencoding:", "by a pattern"),
    ],
)
def test_a_header_does_not_hand_a_pattern_to_printf(ending, old, new, why, tmp_path):
    """Before ITK reads it: some of these overwrote memory there."""
    path = write(tmp_path, ending, noise())
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(IGTVError, match=why):
        read_image(path)


@pytest.mark.parametrize("ending", ["mhd", "nhdr"])
def test_voxels_in_a_file_of_their_own_are_read(ending, tmp_path):
    assert np.array_equal(sitk.GetArrayFromImage(read_image(write(tmp_path, ending, noise()))), noise())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_not_finite_is_counted(ending, dtype, value, tmp_path):
    voxels = noise(dtype)
    voxels[1, 2, 3] = voxels[2, 2, 2] = value
    with pytest.raises(IGTVError, match=r"2 voxel\(s\) are not finite.*image"):
        read_image(write(tmp_path, ending, voxels))


def patched(path, at, form, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, at, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", TYPES)
def test_scaled_voxels(dtype, tmp_path):
    path = patched(write(tmp_path, "nii", noise(dtype)), 112, "<ff", 0.25, -3.0)
    expected = noise(dtype).astype(float) * 0.25 - 3
    assert np.allclose(sitk.GetArrayFromImage(read_image(path)), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [(0.0, 0.0), (np.nan, np.nan), (np.nan, 0.0), (0.0, 5.0)])
def test_no_scaling(scale, tmp_path):
    """A slope of 0 means none, says the standard; NaN is what some writers leave there."""
    path = patched(write(tmp_path, "nii", noise()), 112, "<ff", *scale)
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), noise())


def test_a_shift_that_is_no_number(tmp_path):
    with pytest.raises(IGTVError, match="scl_inter"):
        read_image(patched(write(tmp_path, "nii", noise()), 112, "<ff", 1.0, np.nan))


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_header_that_claims_too_much_asks_for_no_memory(ending, tmp_path):
    path = write(tmp_path, "nii", noise())
    patched(path, 42, "<hhh", 30000, 30000, 30000)
    if ending == "nii.gz":
        path = tmp_path / "image.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "image.nii").read_bytes()))
    with pytest.raises(IGTVError, match="cut off or damaged"):
        read_image(path)


def test_voxels_that_would_begin_beyond_the_end(tmp_path):
    path = write(tmp_path, "nii", noise())
    with pytest.raises(IGTVError, match="cut off or damaged"):
        read_image(patched(path, 108, "<f", path.stat().st_size + 4096.0))


def test_files_of_other_writers(tmp_path):
    """Big-endian; with an extension before the voxels; in several gzip members, with zeros behind."""
    header = nibabel.Nifti1Header(endianness=">")
    image = nibabel.Nifti1Image(noise("i2").T, np.diag([2, 3, 4, 1]), header)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"drawn by hand"))
    nibabel.save(image, tmp_path / "image.nii")
    content = (tmp_path / "image.nii").read_bytes()
    parts = gzip.compress(content[:500]) + gzip.compress(content[500:]) + bytes(3000)
    (tmp_path / "parts.nii.gz").write_bytes(parts)
    for name in ("image.nii", "parts.nii.gz"):
        assert np.array_equal(sitk.GetArrayFromImage(read_image(tmp_path / name)), noise("i2"))


def test_sheared_axes_are_named(tmp_path):
    path = patched(write(tmp_path, "nii", noise()), 252, "<hh", 0, 1)  # the sform counts
    with pytest.raises(IGTVError, match="right angles"):
        read_image(patched(path, 284, "<f", 0.5))
