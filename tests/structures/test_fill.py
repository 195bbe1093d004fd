"""The pixels of a polygon are those of scikit-image, which compares each pixel with each edge."""

import numpy as np
import pytest
from skimage.draw import polygon

from nnunet_igtv.structures.fill import filled

NUDGES = [0.0, 1e-13, 1e-10, -1e-10, 1e-7, -3e-5, 1e-3]  # of points beside pixel centres


def polygons(kind, rng):
    points = rng.uniform(-5, 35, (rng.integers(1, 14), 2))  # most cross themselves, some leave the image
    if kind == "smooth":
        angles = np.sort(rng.uniform(0, 2 * np.pi, 90))
        return np.round(15 + rng.uniform(3, 12) * np.column_stack([np.cos(angles), np.sin(angles)]), 1)
    if kind == "pixel centres":
        return np.round(points)
    if kind == "half pixels":
        return np.round(2 * points) / 2
    if kind == "nearly pixel centres":
        return np.round(points) + rng.choice(NUDGES, points.shape)
    return points


@pytest.mark.parametrize(
    "kind", ["anywhere", "smooth", "pixel centres", "half pixels", "nearly pixel centres"]
)
def test_the_pixels_are_those_of_scikit_image(kind):
    rng = np.random.default_rng(7)
    for _ in range(40):
        points, first, shape = polygons(kind, rng), rng.integers(0, 6, 2), tuple(rng.integers(1, 30, 2))
        expected = np.zeros((first[1] + shape[0], first[0] + shape[1]), bool)
        expected[polygon(points[:, 1], points[:, 0], expected.shape)] = True
        np.testing.assert_array_equal(filled(points, first, shape), expected[first[1] :, first[0] :])
