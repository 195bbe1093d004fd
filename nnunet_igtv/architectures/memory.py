"""Memory of a training step, by a formula fitted to measurements (no torch).

A map of a stage with n pixels keeps a multiple of n * d elements for every block that works on it (d inner
channels), and the last upsampling a multiple of the full-size map. Each mixer declares its own multiples
(`mixers/__init__.py`), and each slice interaction its own term (`slice_interactions/__init__.py`). Weights
count with their gradients, AdamW's two moments and temporaries.

The multiples are fitted to the peaks of traced training steps in float32 (all presets, patches of 96x96 to
512x512, 1 to 12 slices; `benchmarks/network.py memory`, results/network-memory.csv). The largest error is
9.0 %, the root mean square 2.1 % (with checkpointing 9.5 and 3.4 %). The largest errors are those of nano
below 0.1 GB. A run on a CPU took 5 % more (nano) and 5 % less (tiny) than its trace. Since then the CPU's
scan, and no GPU's, keeps states for its backward pass, up to a tenth of the activations, which the formula
leaves out. Autocast to 16 bit needs about a quarter less than the formula says.
"""

from collections.abc import Mapping
from typing import Any

from nnunet_igtv.architectures.mixers import DEFAULT as SCAN
from nnunet_igtv.architectures.mixers import mixer_named
from nnunet_igtv.architectures.slice_interactions import DEFAULT, SLICE_INTERACTIONS, interaction_name
from nnunet_igtv.architectures.strides import STAGE_STRIDES, padded

ELEMENT = 4  # bytes of a float32

# elements per element of: convolutions' weights, full-size map
STORED = (56.9, 7.6)
CHECKPOINTED = (60.9, 7.3)


def training_bytes(fields: Mapping[str, Any], batch: int, slices: int, height: int, width: int) -> float:
    """Bytes at the peak of a training step: weights, optimiser, activations and gradients.

    Args:
        fields: keyword arguments of `IGTVNet`, as `Preset.kwargs()` gives them or a plans file holds them.
        batch: stacks in a batch.
        slices: slices in a stack.
        height: rows of the patch.
        width: columns of the patch.
    """
    checkpointing = bool(fields.get("checkpointing", False))
    interaction = SLICE_INTERACTIONS[interaction_of(fields)]
    mixer = mixer_named(fields.get("mixer", SCAN))
    weights, maps = mixer.checkpointed if checkpointing else mixer.stored
    convolutions, full_size = CHECKPOINTED if checkpointing else STORED
    own = interaction.checkpointed if checkpointing else interaction.stored
    multiples = weights, convolutions, maps, full_size, own
    terms = elements(fields, batch, slices, height, width)
    return ELEMENT * sum(multiple * term for multiple, term in zip(multiples, terms, strict=True))


def interaction_of(fields: Mapping[str, Any]) -> str:
    """Name of the slice interaction of a network with these fields."""
    return interaction_name(fields.get("slice_interaction", DEFAULT))


def elements(
    fields: Mapping[str, Any], batch: int, slices: int, height: int, width: int
) -> tuple[float, ...]:
    """What the formula's multiples multiply: blocks' weights, convolutions' weights, blocks' maps, full-size
    map, then what the slice interaction declares."""
    rows, columns = padded(height), padded(width)
    encoder = list(fields["encoder_depths"])
    decoder = [*reversed(fields["decoder_depths"]), 0]  # by stage, finest first; none on the coarsest maps
    kept = 1 if fields.get("checkpointing", False) else fields["expansion"]  # a block keeps its input only
    block_weights = convolution_weights = block_maps = 0.0
    for stage, (encoder_depth, decoder_depth) in enumerate(zip(encoder, decoder, strict=True)):
        channels = fields["width"] * 2**stage
        pixels = rows * columns / STAGE_STRIDES[stage] ** 2
        block_weights += (encoder_depth + decoder_depth + 2) * channels * fields["expansion"] * channels
        convolution_weights += (decoder_depth + 1) * channels**2
        # the encoder's blocks see CT and PET; one more block mixes the windows of the interaction
        block_maps += (2 * encoder_depth + decoder_depth + 1) * pixels * kept * channels
    interaction = SLICE_INTERACTIONS[interaction_of(fields)].elements(fields, batch, slices, rows, columns)
    full_size = rows * columns * fields["width"]
    maps = batch * slices
    return block_weights, convolution_weights, maps * block_maps, maps * full_size, interaction
