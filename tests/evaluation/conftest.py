"""Small cohorts of masks and images on disk."""

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_igtv.evaluation.cases import Case
from nnunet_igtv.evaluation.report import report


@pytest.fixture
def write_image():
    """write_image(path, voxels, spacing, origin): a NIfTI file of an array (S, H, W)."""

    def write(path, voxels, spacing=(2.0, 2.0, 3.0), origin=(1.0, -2.0, 30.0), direction=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(voxels.astype(np.float32 if voxels.dtype.kind == "f" else np.uint8))
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction or image.GetDirection())
        sitk.WriteImage(image, str(path))
        return path

    return write


@pytest.fixture
def ball():
    """ball(centre, radius): bool (20, 32, 32), in voxels."""

    def make(centre=(10, 16, 16), radius=6.0):
        index = np.indices((20, 32, 32)) - np.array(centre).reshape(3, 1, 1, 1)
        return (index**2).sum(0) <= radius**2

    return make


@pytest.fixture
def cohort(tmp_path, write_image, ball):
    """Folders truth, images, good and poor (all <model>/CASE.nii.gz) of three cases."""
    rng = np.random.default_rng(0)
    for i, radius in enumerate((4.0, 6.0, 7.0)):
        name = f"CASE_{i}"
        truth = ball(radius=radius)
        write_image(tmp_path / "truth" / f"{name}.nii.gz", truth)
        write_image(tmp_path / "good" / f"{name}.nii.gz", ball(radius=radius + 0.5))
        write_image(tmp_path / "poor" / f"{name}.nii.gz", ball((12, 18, 14), radius))
        ct, pet = rng.normal(-800, 20, truth.shape), rng.uniform(0, 1, truth.shape)
        ct[truth], pet[truth] = 40, 6
        write_image(tmp_path / "images" / f"{name}_0000.nii.gz", ct)
        write_image(tmp_path / "images" / f"{name}_0001.nii.gz", pet)
    return tmp_path


@pytest.fixture
def page_of():
    """page_of(results, observers): the report without pictures, as one line of text and tags."""

    def make(results, observers=("truth",)):
        truths = {name: Path() for name in observers}
        cases = [Case(name, truths, {}, ()) for name in results.cases]
        return " ".join(unescape(re.sub(r"<small>|</small>", " ", report(results, cases, "T"))).split())

    return make
