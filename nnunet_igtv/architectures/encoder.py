"""VMamba encoder (Liu et al., NeurIPS 2024), applied to CT and PET slices with the same weights.

One grey channel: the reference repeats it three times, which is the same as summing its kernel over them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_igtv.architectures.layers import Blocks, Conv2d, DropPath, drop_path_rates
from nnunet_igtv.architectures.mixers import Mixer


class PatchEmbed(nn.Module):
    """Non-overlapping 4x4 patches to tokens: (M, H, W, 1) -> (M, H/4, W/4, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv2d(1, width, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class PatchMerging(nn.Module):
    """Half the size, twice the channels: (M, H, W, C) -> (M, H/2, W/2, 2C); H and W even."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # VMamba's order: (even row, even column), (odd, even), (even, odd), (odd, odd)
        x = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)
        return self.reduction(self.norm(x))


class VSSBlock(nn.Module):
    """Residual block of a mixer, without an MLP branch: (M, H, W, C) -> (M, H, W, C)."""

    def __init__(self, width: int, states: int, expansion: int, drop_path: float, mixer: Mixer) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.op = mixer.map(width, states, expansion)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.op(x, self.norm))


class Stage(nn.Module):
    """Blocks at one size, and the merging that leads to the next stage (none after the last)."""

    def __init__(
        self,
        width: int,
        states: int,
        expansion: int,
        drop_paths: list[float],
        merge: bool,
        mixer: Mixer,
    ) -> None:
        super().__init__()
        self.blocks = Blocks([VSSBlock(width, states, expansion, rate, mixer) for rate in drop_paths])
        self.downsample = PatchMerging(width) if merge else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """This stage's map (M, H, W, C) and the start of the next, (M, H/2, W/2, 2C)."""
        x = self.blocks(x)
        return x, self.downsample(x)


class VMambaEncoder(nn.Module):
    """(M, H, W, 1) -> four normalised maps (M, H/4, W/4, C) … (M, H/32, W/32, 8C)."""

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        states: int,
        expansion: int,
        drop_path: float,
        mixer: Mixer,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(width)
        self.stages = nn.ModuleList(
            Stage(width * 2**i, states, expansion, rates, merge=i < len(depths) - 1, mixer=mixer)
            for i, rates in enumerate(drop_path_rates(list(depths), drop_path))
        )
        self.out_norms = nn.ModuleList(nn.LayerNorm(width * 2**i) for i in range(len(depths)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.patch_embed(x)
        maps = []
        for stage, norm in zip(self.stages, self.out_norms, strict=True):
            stage_map, x = stage(x)  # the next stage starts from the map before its norm
            maps.append(norm(stage_map))
        return maps
