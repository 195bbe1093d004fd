"""Sizes of the network, as plain data (no torch): what a plans file carries as `arch_kwargs`."""

from dataclasses import asdict, dataclass
from typing import Any

from nnunet_igtv.errors import IGTVError


@dataclass(frozen=True)
class Preset:
    """One size of `IGTVNet`; the fields are its keyword arguments.

    Attributes:
        width: channels C of the first stage; the stages have C, 2C, 4C and 8C.
        encoder_depths: VSS blocks per encoder stage, widest map first.
        decoder_depths: channel-aware blocks per decoder stage, from 4C (coarse) down to C (fine).
        expansion: inner channels of a scan block per model channel.
        encoder_states: states N per inner channel in encoder and cross-modal blocks.
        decoder_states: the same in the decoder.
        gate_width: width of the channel tokens in the channel-wise rectification.
        gate_grid: side of the canonical grid of the rectification's weights at stage 1 (halved per stage).
        encoder_drop_path: stochastic depth of the last encoder block (linear from 0).
        decoder_drop_path: stochastic depth of the last (coarsest) decoder block (linear from 0).
    """

    width: int
    encoder_depths: tuple[int, int, int, int]
    decoder_depths: tuple[int, int, int]
    expansion: int = 2
    encoder_states: int = 16
    decoder_states: int = 4
    gate_width: int = 96
    gate_grid: int = 128
    encoder_drop_path: float = 0.0
    # the reference: linear from 0 to 0.1 over 16 blocks, of which its decoder uses the first twelve
    decoder_drop_path: float = 0.1 * 11 / 15

    def kwargs(self) -> dict[str, Any]:
        """The fields as JSON-able keyword arguments of `IGTVNet`."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


PRESETS: dict[str, Preset] = {
    # for CPUs, tests and the demo
    "nano": Preset(
        width=24,
        encoder_depths=(1, 1, 2, 1),
        decoder_depths=(1, 1, 1),
        expansion=1,
        encoder_states=4,
        gate_width=32,
        gate_grid=32,
        decoder_drop_path=0.0,
    ),
    # the published sizes: Mei et al., "Cross-modal interactive perception network with Mamba", CVPR 2025
    "tiny": Preset(width=96, encoder_depths=(2, 2, 9, 2), decoder_depths=(4, 4, 4)),
    "small": Preset(width=96, encoder_depths=(2, 2, 27, 2), decoder_depths=(4, 4, 4), encoder_drop_path=0.3),
    "base": Preset(width=128, encoder_depths=(2, 2, 27, 2), decoder_depths=(4, 4, 4), encoder_drop_path=0.6),
}


def preset_named(name: str) -> Preset:
    """The preset of a name. Raises IGTVError if there is none."""
    if name not in PRESETS:
        raise IGTVError(f"no preset named {name!r}", remedy=f"choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
