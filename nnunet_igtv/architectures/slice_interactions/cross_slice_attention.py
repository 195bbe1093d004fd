"""Cross-slice attention, after Hung et al., "CAT-Net: A cross-slice attention transformer model for prostate
zonal segmentation in MRI", IEEE Transactions on Medical Imaging 42 (2023): a comparator.

Kept from the paper: the place (the maps that the encoder passes to the decoder, at every scale), queries and
keys from pooled maps, one weight per pair of slices and head for all pixels, heads as wide as the map, and
the order: attention, joining of the heads with GELU, residual and norm, linear layer, residual. Different:

- **Where a slice is.** The paper adds a learned vector for each of the S places of a volume to the maps. A
  stack is cut anywhere from a volume and may have any S, so each head learns a preference for offsets
  instead: how much it looks at the slice two above, one above, and so on.
- **Norms** are per pixel and before the attention; the paper's have weights for every slice, row and column.
- **The start.** The paper's last GELU and norm are left out, so that the last linear layer can start at zero.
- **One block** per scale, with maps pooled by 4 there; the paper passes pooled maps through several.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_igtv.architectures.slice_interactions.base import SliceInteraction, unit_variance

HEADS = 3
POOL = 4  # side of the windows of which queries and keys are averages
REACH = 6  # offsets beyond this one share its preference


class CrossSliceAttention(SliceInteraction):
    """One attention block on the fused maps of each stage."""

    def __init__(self, widths: Sequence[int], auxiliary_heads: bool) -> None:
        super().__init__(widths, auxiliary_heads)
        self.blocks = nn.ModuleList(AttentionBlock(width) for width in widths)

    def after_fusion(self, maps: list[Tensor]) -> list[Tensor]:
        return [block(x) for block, x in zip(self.blocks, maps, strict=True)]


class AttentionBlock(nn.Module):
    """Residual attention across slices: (B, S, H, W, C) -> (B, S, H, W, C), any S >= 1.

    The branch has unit variance at the start and its last layer, `mix`, starts at zero: a fresh block
    computes the identity, by this one zero.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries, self.keys, self.values = (
            unit_variance(nn.Linear(width, HEADS * width, bias=False)) for _ in range(3)
        )
        self.offsets = nn.Parameter(torch.randn(HEADS, 2 * REACH + 1))  # heads differ from the start
        self.join = unit_variance(nn.Linear(HEADS * width, width))
        self.norm_joined = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        return x + self.mix(self.norm_joined(n + F.gelu(self.join(self.attended(n)))))

    def attended(self, n: Tensor) -> Tensor:
        """What each head gathers from the slices: (B, S, H, W, C) -> (B, S, H, W, HEADS * C)."""
        B, S, H, W, C = n.shape
        pooled = F.avg_pool2d(n.flatten(0, 1).permute(0, 3, 1, 2), POOL, ceil_mode=True).permute(0, 2, 3, 1)
        pooled = pooled.unflatten(0, (B, S))
        gathered = F.scaled_dot_product_attention(
            _by_head(self.queries(pooled)),
            _by_head(self.keys(pooled)),
            _by_head(self.values(n)),
            attn_mask=self._preferences(S),
        )
        return gathered.unflatten(3, (H, W, C)).permute(0, 2, 3, 4, 1, 5).flatten(4)

    def _preferences(self, slices: int) -> Tensor:
        """Of each head, slice and slice that it may look at: (HEADS, S, S)."""
        places = torch.arange(slices, device=self.offsets.device)
        offsets = (places[None, :] - places[:, None]).clamp(-REACH, REACH)
        return self.offsets[:, offsets + REACH]


def _by_head(x: Tensor) -> Tensor:
    """(B, S, H, W, HEADS * C) -> (B, HEADS, S, H * W * C): one vector per slice."""
    return x.unflatten(-1, (HEADS, -1)).permute(0, 4, 1, 2, 3, 5).flatten(3)
