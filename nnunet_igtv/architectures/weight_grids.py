"""Resampling of weights that live on a grid, to a grid of another size.

Two small matrix products, not `F.interpolate(antialias=True)`: that one is wrong for a result of one
column and several rows (PyTorch 2.15, CPU), and its gradient on CUDA is not deterministic.
"""

import torch
from torch import Tensor


def resample_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """Bilinear with antialiasing, half-pixel centres: (…, h, w) -> (…, height, width).

    The same size gives the same values exactly.
    """
    rows = _tents(grid.shape[-2], height, grid)
    columns = _tents(grid.shape[-1], width, grid)
    return rows @ grid @ columns.T


def _tents(source: int, target: int, like: Tensor) -> Tensor:
    """Weights of each source position for each target position: (target, source), rows sum to 1."""
    scale = source / target
    centres = (torch.arange(target, device=like.device, dtype=like.dtype) + 0.5) * scale
    positions = torch.arange(source, device=like.device, dtype=like.dtype) + 0.5
    distances = (positions - centres.unsqueeze(1)).abs() / max(scale, 1.0)
    weights = (1.0 - distances).clamp(min=0.0)
    return weights / weights.sum(dim=1, keepdim=True)
