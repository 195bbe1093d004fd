"""The assembled network: per slice a two-modality VMamba network, across slices a slice interaction.

Axis letters used throughout this folder:

    B  stacks in the batch              C  channels of a map (doubles with every encoder stage)
    S  slices in a stack                d  inner channels of a scan block, d = expansion * C
    M  single slices in a batch, B*S    N  states per inner channel
    H  rows, W  columns                 R  rank of the step size, ceil(C / 16)
    L  positions of a sequence          K  scan directions, 4 in 2D
                                        E  width of a channel token in the rectification (CRM)

Maps are channels-last, (M, H, W, C): what the scan reads, and what a linear layer takes as it stands.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from nnunet_igtv.architectures.absent_pet import is_absent
from nnunet_igtv.architectures.cross_modal import CrossModalInteraction
from nnunet_igtv.architectures.decoder import Decoder
from nnunet_igtv.architectures.encoder import VMambaEncoder
from nnunet_igtv.architectures.layers import Blocks, pad_to_multiple
from nnunet_igtv.architectures.mixers import DEFAULT as SCAN
from nnunet_igtv.architectures.mixers import mixer_named
from nnunet_igtv.architectures.presets import preset_named
from nnunet_igtv.architectures.slice_interactions import DEFAULT, build_slice_interaction
from nnunet_igtv.architectures.strides import OUTPUT_STRIDES, STRIDE
from nnunet_igtv.errors import IGTVError


class IGTVNet(nn.Module):
    """Segmentation of stacks of PET/CT slices: (B, 2, S, H, W) -> logits (B, classes, S, H, W).

    Channel 0 is CT, channel 1 PET. Any S >= 1, H and W: slices are padded inside to multiples of 32 by
    repeating their last row and column, and the logits cropped back. No weight's shape depends on S, H or W.

    Args:
        input_channels: 2; nnU-Net passes the number of channels of the dataset.
        num_classes: classes with background, or regions.
        slice_interaction: how the slices of a stack see each other, a name of
            `slice_interactions.SLICE_INTERACTIONS`. The first plans hold true for `stages`, false for `none`.
        mixer: how the positions of a map see each other, a name of `mixers.MIXERS`: by scans, or by
            convolutions of equal size.
        auxiliary_heads: with further heads at 1/4, 1/8 and 1/16 of the size, for deep supervision.
        deep_supervision: ask them: the result is a list of logits, finest first. nnU-Net passes it, true in
            training and false at prediction, and switches it later as `decoder.deep_supervision`.
        optional_pet: for models that are trained without a PET too: a stack whose PET channel is constant has
            none (`absent_pet`), and the logits do not depend on its value.
        checkpointing: recompute the activations of every block in the backward pass: less memory, more time.

    The other arguments are the fields of `presets.Preset`.

    Raises:
        IGTVError: the dataset does not have two channels, or no slice interaction or mixer has that name.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        width: int,
        encoder_depths: Sequence[int],
        decoder_depths: Sequence[int],
        expansion: int,
        encoder_states: int,
        decoder_states: int,
        gate_width: int,
        gate_grid: int,
        encoder_drop_path: float,
        decoder_drop_path: float,
        slice_interaction: str | bool = DEFAULT,
        mixer: str = SCAN,
        auxiliary_heads: bool = False,
        deep_supervision: bool = False,
        optional_pet: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if input_channels != 2:
            raise IGTVError(
                f"the network takes 2 image channels, CT then PET, and this dataset has {input_channels}",
                remedy="convert the cases with both modalities, CT as _0000 and PET as _0001",
            )
        blocks = mixer_named(mixer)
        self.encoder = VMambaEncoder(
            width, encoder_depths, encoder_states, expansion, encoder_drop_path, blocks
        )
        widths = [width * 2**i for i in range(len(encoder_depths))]
        self.cross_modal = nn.ModuleList(
            CrossModalInteraction(
                w, encoder_states, expansion, gate_width, max(1, gate_grid // 2**i), blocks, optional_pet
            )
            for i, w in enumerate(widths)
        )
        self.optional_pet = optional_pet
        self.slice_interaction = build_slice_interaction(slice_interaction, widths, auxiliary_heads)
        self.decoder = Decoder(
            width,
            decoder_depths,
            decoder_states,
            expansion,
            decoder_drop_path,
            num_classes,
            auxiliary_heads,
            blocks,
        )
        self.decoder.deep_supervision = deep_supervision and auxiliary_heads
        for module in self.modules():
            if isinstance(module, Blocks):
                module.checkpointing = checkpointing

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        B, modalities, S, H, W = x.shape
        if modalities != 2:
            raise ValueError(f"expected (B, 2, S, H, W) with CT and PET, got {tuple(x.shape)}")
        absent = is_absent(x[:, 1]).repeat_interleave(S) if self.optional_pet else None
        x = x.transpose(0, 1).reshape(2 * B * S, H, W, 1)  # one encoder call for both modalities, CT first
        maps = self.encoder(pad_to_multiple(x, STRIDE))
        fused = [cross(m, absent) for cross, m in zip(self.cross_modal, maps, strict=True)]
        fused = _slices(self.slice_interaction.after_fusion(_stacks(fused, S)))
        features = self.decoder(fused)
        features = _slices(self.slice_interaction.before_heads(_stacks(features, S)))
        logits = [
            y.permute(0, 4, 1, 2, 3)[..., : round(H / stride), : round(W / stride)]
            for y, stride in zip(_stacks(self.decoder.heads(features), S), OUTPUT_STRIDES, strict=False)
        ]
        return logits if self.decoder.deep_supervision else logits[0]


def _stacks(maps: list[Tensor], slices: int) -> list[Tensor]:
    """(M, H, W, C) each -> (B, S, H, W, C) each."""
    return [x.unflatten(0, (-1, slices)) for x in maps]


def _slices(maps: list[Tensor]) -> list[Tensor]:
    """(B, S, H, W, C) each -> (M, H, W, C) each."""
    return [x.flatten(0, 1) for x in maps]


def build_network(preset: str, num_classes: int, slice_interaction: str = DEFAULT) -> IGTVNet:
    """A network of a named size with fresh weights.

    Args:
        preset: a key of `presets.PRESETS`.
        num_classes: classes with background.
        slice_interaction: a name of `slice_interactions.SLICE_INTERACTIONS`; `none`: slices are independent.

    Raises:
        IGTVError: no preset or slice interaction of that name.

    Examples:
        >>> import torch
        >>> from nnunet_igtv import build_network
        >>> network = build_network("nano", 2)
        >>> stack = torch.zeros(1, 2, 3, 64, 48)  # (B, CT and PET, slices, rows, columns)
        >>> tuple(network(stack).shape)  # logits
        (1, 2, 3, 64, 48)
    """
    return IGTVNet(2, num_classes, **preset_named(preset).kwargs(), slice_interaction=slice_interaction)
