"""What becomes of stored values: units that are known or refused, padding, slices that are empty."""

from functools import partial

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from nnunet_igtv.dicom.padding import padding_of
from nnunet_igtv.dicom.pixels import planes
from nnunet_igtv.dicom.series import find_series, read_voxels
from nnunet_igtv.errors import IGTVError

JPEG_2000 = "1.2.840.10008.1.2.4.90"
SHAPE = (20, 24)
CIRCLE = np.hypot(*(np.indices(SHAPE) - np.array([[[9.5]], [[11.5]]]))) > 9  # outside of the reconstruction


@pytest.fixture
def plane(tmp_path, dicom):
    """plane(modality, stored, **attributes): one slice, written and read."""

    def read(modality, stored, **attributes):
        image = dicom.image(modality, "a", 0, np.zeros(SHAPE), (2, 2, 3), (0, 0, 0))
        image.PixelRepresentation = int(np.asarray(stored).min() < 0)
        if modality == "CT":
            image.RescaleIntercept = -1024
        for name, value in attributes.items():
            image.pop(name, None)
            if value is not None:
                setattr(image, name, value)
        image.PixelData = np.asarray(stored).astype("<i4").astype("<u2").tobytes()
        image.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        (found,) = planes([tmp_path / "a.dcm"], [None], [image])
        return found

    return read


def tissue(padding, offset=1024):
    """Stored values of a body of 50 HU with a hole of lung, and padding outside of the circle."""
    stored = np.full(SHAPE, 50 + offset)
    stored[8:12, 8:12] = -800 + offset
    stored[CIRCLE] = padding
    return stored


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_a_missing_rescale_is_refused(name, modality, plane):
    with pytest.raises(IGTVError, match=r"\(0028,105[23]\) is missing"):
        plane(modality, tissue(0), **{name: None})


def test_other_modalities_need_no_rescale(plane):
    assert plane("MR", np.full(SHAPE, 7), RescaleSlope=None, RescaleIntercept=None).values.max() == 7


@pytest.mark.parametrize("kind", ["Z_EFF", "ED", "EDW", "HU_MOD", "MGML", "PCT"])
def test_a_ct_in_another_unit_is_refused(kind, plane):
    with pytest.raises(IGTVError, match=f"Rescale Type .* is {kind}"):
        plane("CT", tissue(0), RescaleType=kind)


@pytest.mark.parametrize("kind", [None, "", "HU", "US"])
def test_a_ct_in_hu(kind, plane):
    found = plane("CT", tissue(0), RescaleType=kind)
    assert found.values[10, 10] == -800
    assert found.outside == 0  # 0 is -1024 HU: air already


@pytest.mark.parametrize(
    ("stored", "attributes"),
    [
        (-2000, {"PixelPaddingValue": -2000}),  # signed: -3024 HU
        (63536, {"PixelPaddingValue": 63536}),  # the same, stored as unsigned: 62512 HU
        (-2000, {}),  # not named, and below any HU
        (63536, {}),  # the same, stored as unsigned: above any HU
        (-2000, {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1500}),
        (-1700, {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1500}),
        (-1700, {"PixelPaddingValue": -1500, "PixelPaddingRangeLimit": -2000}),
        (2048, {"PixelPaddingValue": 2048}),  # a value that bone can have
    ],
)
def test_outside_of_the_circle_is_air(stored, attributes, plane):
    found = plane("CT", tissue(stored), **attributes)
    assert (found.values[CIRCLE] == -1024).all()
    assert found.outside == CIRCLE.sum()
    assert set(found.values[~CIRCLE]) == {50, -800}


@pytest.mark.parametrize("intercept", [1e6, -1e6])
def test_values_far_beyond_16_bits_are_left_to_be_warned_of(intercept, plane):
    found = plane("CT", tissue(0), RescaleIntercept=intercept)
    assert found.outside == 0
    assert abs(found.values).min() > 9e5


def test_padding_of_a_value_that_tissue_has_counts_at_the_border_only(plane):
    """A padding value of 50 HU: the body, which the air outside of the circle surrounds, is not padding."""
    found = plane("CT", tissue(24), PixelPaddingValue=1074)
    assert set(found.values[~CIRCLE]) == {50, -800}
    assert found.outside == 0


@pytest.mark.parametrize(
    ("vr", "value", "signed", "meant"), [("US", 63536, 1, -2000), ("SS", -2000, 0, 63536)]
)
def test_padding_written_with_the_other_sign(vr, value, signed, meant):
    header = Dataset()
    header.PixelRepresentation, header.BitsAllocated = signed, 16
    header.add_new("PixelPaddingValue", vr, value)
    padding = padding_of(header, 1.0, 0.0)
    assert padding.lowest < meant < padding.highest


def test_padding_of_a_pet_is_no_activity(plane):
    stored = tissue(-32768, offset=900)
    found = plane("PT", stored, PixelPaddingValue=-32768)
    assert (found.values[CIRCLE] == 0).all()
    assert found.values[0, 0] == 0
    assert found.outside == CIRCLE.sum()


def test_an_empty_pet_slice_with_slope_0(plane):
    assert not plane("PT", np.zeros(SHAPE), RescaleSlope=0).values.any()
    with pytest.raises(IGTVError, match="slice is not empty"):
        plane("PT", tissue(0), RescaleSlope=0)


@pytest.mark.parametrize("slope", [0, -1])
def test_a_slope_of_a_ct_that_is_not_positive(slope, plane):
    with pytest.raises(IGTVError, match="not positive"):
        plane("CT", tissue(0), RescaleSlope=slope)


def test_what_was_replaced_is_counted(patient, tmp_path):
    study = patient()
    for image in study.ct:
        values = np.frombuffer(image.PixelData, "<u2").reshape(20, 24).astype(int)
        values[:2] = 63536
        image.PixelPaddingValue = 63536
        image.PixelData = values.astype("<u2").tobytes()
    study.write(tmp_path)
    (series,) = find_series(tmp_path, "CT")
    voxels, notes = read_voxels(series)
    assert notes == ["480 voxels (10.0%) outside of the reconstruction (pixel padding) read as -1024"]
    assert (voxels[:, :2] == -1024).all()
    assert voxels.max() < 1000


ENCODERS = pytest.mark.parametrize(
    ("encode", "syntax"),
    [
        (imagecodecs.jpegls_encode, "1.2.840.10008.1.2.4.80"),
        (lambda a: imagecodecs.jpeg2k_encode(a, level=0, codecformat="j2k", reversible=True), JPEG_2000),
        (lambda a: imagecodecs.jpeg2k_encode(a, level=0, codecformat="jp2", reversible=True), JPEG_2000),
        (imagecodecs.ljpeg_encode, "1.2.840.10008.1.2.4.70"),
    ],
    ids=["JPEG-LS", "JPEG 2000", "JP2", "lossless JPEG"],
)


def compressed(path, encode, syntax, pixels):
    """The values of a file that `plane` wrote, with other pixels that are compressed."""
    image = dcmread(path)
    image.PixelData = encapsulate([encode(np.ascontiguousarray(pixels))])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = syntax
    file = path.with_name("compressed.dcm")
    image.save_as(file, enforce_file_format=True)
    return next(planes([file], [None], [image])).values


@ENCODERS
def test_a_compressed_image_must_have_the_size_of_the_header(encode, syntax, plane, tmp_path):
    stored = tissue(0).astype(np.uint16)
    whole = plane("CT", stored).values
    read = partial(compressed, tmp_path / "a.dcm", encode, syntax)
    np.testing.assert_array_equal(read(stored), whole)
    for shape in ((SHAPE[1], SHAPE[0]), (SHAPE[0] // 2, SHAPE[1] * 2)):
        with pytest.raises(IGTVError, match=r"compressed image of .* header says \(20, 24\)"):
            read(stored.reshape(shape))


@ENCODERS
def test_bits_beyond_those_stored_are_no_pixels(encode, syntax, plane, tmp_path):
    """Overlays of old scanners, in the four bits above a CT of 12 bits."""
    stored = tissue(0).astype(np.uint16)
    drawn = stored.copy()
    drawn[2:6, 2:9] |= 0x1000
    twelve = {"BitsStored": 12, "HighBit": 11}
    whole = plane("CT", stored, **twelve).values
    np.testing.assert_array_equal(plane("CT", drawn, **twelve).values, whole)
    np.testing.assert_array_equal(compressed(tmp_path / "a.dcm", encode, syntax, drawn), whole)
