"""Cross-modal interaction of CIPA (Mei et al., CVPR 2025): channel-wise rectification (CRM), then dynamic
cross-modality interaction (DCIM). Both take the CT and PET maps of one stage, (M, H, W, C) each, of any size:
where both are treated alike, in one call, CT first, (2M, H, W, C).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_igtv.architectures.layers import pad_to_multiple
from nnunet_igtv.architectures.mixers import Mixer
from nnunet_igtv.architectures.weight_grids import resample_grid

WINDOW = 4  # side of a DCIM window, in pixels of the stage's map


class ChannelRectification(nn.Module):
    """CRM: one gate per channel, from a scan over the 2C channels of both modalities.

    Each channel is a token: its map, normalised over all pixels, is projected on E templates of the map's
    size. The reference ties the templates to 512x512 inputs. Here they stay on that canonical grid (g x g)
    and are resampled to the map's size at run time (bilinear with antialiasing, scaled so that a template
    keeps its sum): a map of the canonical size sees the reference's weights unchanged, and no weight's
    shape depends on the input.
    """

    def __init__(self, width: int, grid: int, mixer: Mixer) -> None:
        super().__init__()
        self.norm_weight = nn.Parameter(torch.ones(grid, grid))
        self.norm_bias = nn.Parameter(torch.zeros(grid, grid))
        self.embed_weight = nn.Parameter(torch.empty(width, grid, grid).uniform_(-1 / grid, 1 / grid))
        self.embed_bias = nn.Parameter(torch.zeros(width))
        self.scan = mixer.sequence(width)
        self.out_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """CT maps, then PET maps: (2M, H, W, C) -> the same, rectified."""
        tokens = torch.cat(self._tokens(maps).chunk(2), dim=1)  # (M, 2C, E)
        gates = torch.sigmoid(self.gate(self.out_norm(self.scan(F.gelu(tokens)))))  # (M, 2C, 1)
        gates = torch.cat(gates.squeeze(-1).chunk(2, dim=1))  # (2M, C)
        return torch.addcmul(maps, gates[:, None, None], maps)

    def _tokens(self, x: Tensor) -> Tensor:
        """Linear(LayerNorm(map)) of every channel, channels left where they are: (M, H, W, C) -> (M, C, E).

        With centred templates the map's mean drops out of the product, and its deviation becomes a factor.
        """
        with torch.autocast(x.device.type, enabled=False):  # sums over all pixels need float32
            x = x.to(self.embed_weight.dtype)
            templates = self._templates(*x.shape[1:3]).flatten(1)  # (E, HW)
            x = x.flatten(1, 2)  # (M, HW, C)
            deviation = (x.var(dim=1, correction=0) + 1e-5).sqrt()  # (M, C)
            tokens = torch.matmul(templates, x) / deviation.unsqueeze(1)  # (M, E, C)
            offset = (self.embed_weight * self.norm_bias).sum(dim=(1, 2)) + self.embed_bias  # (E)
            return tokens.transpose(1, 2) + offset

    def _templates(self, height: int, width: int) -> Tensor:
        """Centred templates with the norm's scale folded in, at a map's size: (E, height, width)."""
        templates = self.embed_weight * self.norm_weight  # (E, g, g)
        grid = templates.shape[-1]
        if (height, width) != (grid, grid):
            templates = resample_grid(templates, height, width) * (grid * grid / (height * width))
        return templates - templates.mean(dim=(1, 2), keepdim=True)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation; a single value per channel has no deviation: it is treated as in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _stem(*convolutions: tuple[int, int, int]) -> nn.Sequential:
    """3x3 convolutions, each (channels in, channels out, stride), with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels_in, channels_out, stride in convolutions:
        conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)
        layers += [conv, BatchNorm(channels_out), nn.ReLU()]
    return nn.Sequential(*layers)


class RegionInteraction(nn.Module):
    """DCIM: 4x4 windows of CT pixels (inner tokens) meet one PET token each (outer), both scanned in 2D."""

    def __init__(self, width: int, states: int, expansion: int, mixer: Mixer) -> None:
        super().__init__()
        quarter, eighth, sixteenth = (max(1, width // n) for n in (4, 8, 16))
        self.inner_stem = _stem((width, quarter, 1), (quarter, width, 1))
        self.outer_stem = _stem(
            (width, sixteenth, 1), (sixteenth, eighth, 2), (eighth, quarter, 2), (quarter, width, 1)
        )
        self.inner_norm = nn.LayerNorm(WINDOW * WINDOW * width)
        self.inner_scan = mixer.map(width, states, expansion)
        self.outer_norm = nn.LayerNorm(width)
        self.outer_scan = mixer.map(width, states, expansion)

    def forward(self, ct: Tensor, pet: Tensor) -> Tensor:
        _, H, W, C = ct.shape
        ct, pet = pad_to_multiple(ct, WINDOW), pad_to_multiple(pet, WINDOW)
        M, h, w = ct.shape[0], ct.shape[1] // WINDOW, ct.shape[2] // WINDOW  # an h x w grid of windows

        outer = self.outer_stem(pet.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (M, h, w, C)
        outer = outer + self.outer_scan(outer, self.outer_norm)

        inner = self.inner_stem(ct.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (M, 4h, 4w, C)
        inner = inner.reshape(M, h, WINDOW, w, WINDOW, C).transpose(2, 3)  # (M, h, w, 4, 4, C)
        tokens = self.inner_norm(inner.flatten(3)).view(M * h * w, WINDOW, WINDOW, C)
        inner = inner + self.inner_scan(tokens).view(M, h, w, WINDOW, WINDOW, C)
        inner = inner + outer[:, :, :, None, None]  # the window's token joins each of its pixels
        return inner.transpose(2, 3).reshape(M, h * WINDOW, w * WINDOW, C)[:, :H, :W]


class CrossModalInteraction(nn.Module):
    """CRM, DCIM and fusion at one stage: CT, then PET maps (2M, H, W, C) -> one map (M, H, W, C).

    The sum takes the maps as the encoder gave them; the rectified ones enter through the interaction only.

    Args:
        optional_pet: with a learned vector `no_pet` (C), which stands for the map of a PET that is absent.
    """

    def __init__(
        self,
        width: int,
        states: int,
        expansion: int,
        gate_width: int,
        gate_grid: int,
        mixer: Mixer,
        optional_pet: bool = False,
    ) -> None:
        super().__init__()
        self.no_pet = nn.Parameter(torch.zeros(width)) if optional_pet else None
        self.rectification = ChannelRectification(gate_width, gate_grid, mixer)
        self.interaction = RegionInteraction(width, states, expansion, mixer)

    def forward(self, maps: Tensor, absent: Tensor | None = None) -> Tensor:
        """`absent` (M) of bool: which slices have no PET; with `optional_pet` only."""
        ct, pet = maps.chunk(2)
        if absent is not None and self.no_pet is not None:
            pet = torch.where(absent[:, None, None, None], self.no_pet.to(pet.dtype), pet)
            maps = torch.cat((ct, pet))
        return ct + pet + self.interaction(*self.rectification(maps).chunk(2))
