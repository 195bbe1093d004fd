"""Mamba decoder of CIPA: channel-aware scan blocks between upsamplings, one fused map per stage."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnunet_igtv.architectures.layers import Blocks, Conv2d, DropPath, drop_path_rates, upsample_bilinear
from nnunet_igtv.architectures.mixers import Mixer
from nnunet_igtv.architectures.strides import slices_at_once


class ChannelAttention(nn.Module):
    """Gate per channel from the map's mean and maximum: (M, H, W, C) -> (M, H, W, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        bottleneck = max(1, width // 30)
        self.squeeze = nn.Linear(width, bottleneck, bias=False)
        self.excite = nn.Linear(bottleneck, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        descriptors = torch.stack((x.mean(dim=(1, 2)), x.amax(dim=(1, 2))))  # (2, M, C)
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(descriptors))).sum(dim=0))  # (M, C)
        return x * gate[:, None, None]


class ChannelAwareBlock(nn.Module):
    """Mixer, then convolutions with channel attention, each with a scaled skip: (M, H, W, C) -> the same."""

    def __init__(self, width: int, states: int, expansion: int, drop_path: float, mixer: Mixer) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.op = mixer.map(width, states, expansion)
        self.drop_path = DropPath(drop_path)
        self.scale1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.LayerNorm(width)
        self.conv1 = Conv2d(width, width // 3, 3, padding=1)
        self.conv2 = Conv2d(width // 3, width, 3, padding=1)
        self.attention = ChannelAttention(width)
        self.scale2 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale1 + self.drop_path(self.op(x, self.norm1))
        return x * self.scale2 + self.attention(self.conv2(F.gelu(self.conv1(self.norm2(x)))))


class PatchExpand(nn.Module):
    """Twice the size, half the channels, by rearranging channels: (M, H, W, C) -> (M, 2H, 2W, C/2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(width // 2)

    def forward(self, x: Tensor) -> Tensor:
        M, H, W, C = x.shape
        x = self.linear(x).view(M, H, W, 2, 2, C // 2)  # (…, row offset, column offset, C/2)
        return self.norm(x.transpose(2, 3).reshape(M, 2 * H, 2 * W, C // 2))


class Upsample(nn.Module):
    """Twice the size, half the channels, bilinear: (M, H, W, C) -> (M, 2H, 2W, C/2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width // 2, bias=False)
        self.norm = nn.LayerNorm(width // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(upsample_bilinear(self.linear(x)))


class FinalUpsample(nn.Module):
    """Four times the size, bilinear in two steps, then a head: (M, H, W, C) -> (M, 4H, 4W, classes).

    The reference applies one linear map before each step. Without a bias a linear map commutes with
    interpolation, so both are applied, as their product, before the first.

    The maps of full size are the largest of the network. In half precision, as autocast sets it on a GPU,
    they are made for a few slices at a time and not kept: the backward pass makes them again.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width, bias=False)
        self.linear2 = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, head: nn.Module) -> Tensor:
        x = F.linear(x, self.linear2.weight @ self.linear1.weight)
        if not (torch.is_grad_enabled() and torch.is_autocast_enabled(x.device.type)):
            return self._logits(x, head)
        parts = x.split(slices_at_once(16 * x[0].numel()))
        logits = [
            checkpoint(self._logits, part, head, use_reentrant=False, preserve_rng_state=False)
            for part in parts
        ]
        return torch.cat(logits)

    def _logits(self, x: Tensor, head: nn.Module) -> Tensor:
        logits: Tensor = head(self.norm(upsample_bilinear(upsample_bilinear(x))))
        return logits


class Decoder(nn.Module):
    """Four fused maps, widths C … 8C, sizes 1/4 … 1/32 -> features of each head -> logits (M, H, W, classes).

    `seg_layers` holds the heads, finest first: nnU-Net's loader of pretrained weights leaves keys with that
    name alone, and its trainer switches `deep_supervision`. The heads of the coarser scales (1/4, 1/8, 1/16)
    exist only in a network built with auxiliary heads.
    """

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        states: int,
        expansion: int,
        drop_path: float,
        num_classes: int,
        auxiliary_heads: bool,
        mixer: Mixer,
    ) -> None:
        super().__init__()
        widths = [4 * width, 2 * width, width]
        rates = drop_path_rates(list(depths)[::-1], drop_path)[::-1]  # the finest stage drops least
        self.expand = PatchExpand(8 * width)
        self.stages = nn.ModuleList(
            Blocks(ChannelAwareBlock(stage_width, states, expansion, rate, mixer) for rate in stage_rates)
            for stage_width, stage_rates in zip(widths, rates, strict=True)
        )
        self.upsamples = nn.ModuleList(Upsample(stage_width) for stage_width in widths[:-1])
        self.norm = nn.LayerNorm(width)
        self.up = FinalUpsample(width)
        head_widths = [width, *widths[::-1]] if auxiliary_heads else [width]
        self.seg_layers = nn.ModuleList(nn.Linear(w, num_classes, bias=False) for w in head_widths)
        self.deep_supervision = False  # whether the auxiliary heads are asked

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """The features of each head, finest first; one entry unless deep supervision is on.

        (M, H/4, W/4, C) for the result; (M, H/4, W/4, C), (M, H/8, W/8, 2C), (M, H/16, W/16, 4C) for the
        auxiliary heads.
        """
        *skips, deepest = maps
        x = self.expand(deepest)
        outputs = []
        for i, (blocks, skip) in enumerate(zip(self.stages, reversed(skips), strict=True)):
            x = blocks(x + skip)  # (M, H/16, W/16, 4C), then (M, H/8, W/8, 2C), then (M, H/4, W/4, C)
            outputs.append(x)
            if i < len(self.upsamples):
                x = self.upsamples[i](x)
        return [self.norm(x), *(reversed(outputs) if self.deep_supervision else ())]

    def heads(self, features: list[Tensor]) -> list[Tensor]:
        """Logits (M, H, W, classes) from the features, finest first; the result at full size."""
        finest, *auxiliary = features
        head, *auxiliary_heads = list(self.seg_layers)[: len(features)]
        logits = [head(x) for head, x in zip(auxiliary_heads, auxiliary, strict=True)]
        return [self.up(finest, head), *logits]
