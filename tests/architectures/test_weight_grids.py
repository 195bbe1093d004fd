import pytest
import torch
import torch.nn.functional as F

from nnunet_igtv.architectures.weight_grids import resample_grid


def test_the_same_size_is_the_same_grid(noise):
    grid = noise(3, 7, 9)
    assert torch.equal(resample_grid(grid, 7, 9), grid)


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (3, 40), (24, 24), (2, 3)])
def test_it_is_antialiased_bilinear_interpolation(noise, size):
    grid = noise(1, 3, 12, 12)
    expected = F.interpolate(grid, size, mode="bilinear", antialias=True)
    assert torch.allclose(resample_grid(grid, *size), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.law
@pytest.mark.parametrize("size", [(1, 3), (3, 1), (1, 1), (5, 2)])
def test_rows_and_columns_are_alike(noise, size):
    """Where PyTorch's own interpolation fails: one column."""
    grid = noise(2, 4, 4)
    transposed = resample_grid(grid.mT, *size[::-1]).mT
    assert torch.allclose(resample_grid(grid, *size), transposed, rtol=1e-12, atol=1e-12)


@pytest.mark.law
def test_a_constant_stays_and_a_finer_grid_keeps_the_mean(noise):
    grid = noise(2, 4, 4)
    assert torch.allclose(resample_grid(torch.ones(4, 4), 7, 3), torch.ones(7, 3))
    assert torch.allclose(resample_grid(grid, 8, 8).mean((1, 2)), grid.mean((1, 2)))
