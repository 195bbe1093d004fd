"""What is packed for the viewer: the same voxels, turned to the patient's axes."""

import base64
import zlib

import numpy as np
import pytest

from nnunet_igtv.evaluation.cases import Case, read_content
from nnunet_igtv.evaluation.volumes import CT_LEVELS, volume


def unpacked(text, shape):
    return np.cumsum(
        np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape), 2, np.uint8
    )


def case_of(folder, write_image, truth, prediction, **geometry):
    rng = np.random.default_rng(0)
    ct = np.where(truth, 40, -800) + rng.normal(0, 15, truth.shape)
    pet = np.where(truth, 6, 0.5) * rng.uniform(0.8, 1.2, truth.shape)
    images = [write_image(folder / f"{n}.nii.gz", v, **geometry) for n, v in (("ct", ct), ("pet", pet))]
    masks = [write_image(folder / f"{n}.nii.gz", v, **geometry) for n, v in (("t", truth), ("p", prediction))]
    return Case("C", {"truth": masks[0]}, {"m": [(0, masks[1])]}, tuple(images)), ct, pet


FLIPPED = {"direction": (-1, 0, 0, 0, 1, 0, 0, 0, -1)}


@pytest.mark.parametrize("geometry", [{}, FLIPPED], ids=["as scanned", "from the head, to the right"])
def test_the_viewer_gets_the_voxels_of_the_box(tmp_path, write_image, ball, geometry):
    truth, prediction = ball((12, 16, 20), 4), ball((12, 16, 21), 4)
    case, ct, pet = case_of(tmp_path, write_image, truth, prediction, **geometry)
    found = volume(read_content(case))
    flip = (slice(None, None, -1 if geometry else 1), slice(None), slice(None, None, -1 if geometry else 1))
    ct, pet, truth, prediction = (array[flip] for array in (ct, pet, truth, prediction))
    box = tuple(slice(f, f + n) for f, n in zip(found["first"], found["shape"], strict=True))
    assert found["whole"] == [20, 32, 32]
    assert found["every"] == 1
    np.testing.assert_allclose(CT_LEVELS[unpacked(found["ct"], found["shape"])], ct[box], atol=6.1)
    levels = np.array(found["pet_levels"])
    np.testing.assert_allclose(levels[unpacked(found["pet"], found["shape"])], pet[box], atol=0.04)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(found["masks"])), np.uint8))
    masks = bits[: 2 * ct[box].size].reshape(2, *found["shape"])
    assert found["layers"] == ["truth", "m"]
    assert (masks[0] == truth[box]).all()
    assert (masks[1] == prediction[box]).all()
    assert truth[box].sum() == truth.sum()
    assert found["dice"]["m"][found["start"][0]] > 0.8
    assert found["dice"]["m"][0] is None


def test_large_targets_are_thinned_and_no_target_shows_the_middle(tmp_path, write_image, ball, monkeypatch):
    monkeypatch.setattr("nnunet_igtv.evaluation.volumes.MOST_VOXELS", 3000)
    case, _, _ = case_of(tmp_path, write_image, ball(), ball())
    found = volume(read_content(case))
    assert found["every"] == 3
    assert found["spacing"] == [3, 6, 6]
    assert unpacked(found["ct"], found["shape"]).size <= 1.3 * 3000
    assert found["outside"] == {}
    far = ball((5, 6, 6), 3) | ball((12, 24, 24), 3)
    case, _, _ = case_of(tmp_path, write_image, ball((12, 24, 24), 3), far)
    monkeypatch.setattr("nnunet_igtv.evaluation.volumes.MARGIN", 6.0)
    found = volume(read_content(case))  # what is far from the truth would take the pixels
    assert found["every"] == 1
    assert found["outside"] == {"m": pytest.approx(ball((5, 6, 6), 3).sum() * 0.012, abs=0.06)}
    assert found["dice"]["m"][0] < 0.1  # of the whole slice
    nothing = np.zeros_like(ball())
    case, _, _ = case_of(tmp_path, write_image, nothing, nothing)
    found = volume(read_content(case))
    assert found["start"] == [n // 2 for n in found["shape"]]
    assert found["zoom"] == 1
    assert all(value is None for value in found["dice"]["m"])
