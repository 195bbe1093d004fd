"""Memory of a training step, by a formula fitted to measurements (no torch).

A map of a stage with n pixels keeps a multiple of n * d elements for every block that works on it (d inner
channels), and the last upsampling a multiple of the full-size map. Each mixer declares its own multiples
(`mixers/__init__.py`), and each slice interaction its own term (`slice_interactions/__init__.py`). Weights
count with their gradients, AdamW's two moments and temporaries.

The multiples are fitted to the peaks of traced training steps (all presets, patches of 96x96 to 512x512, 1 to
12 slices a stack):

- in single precision, errors of at most 9.0 %, root mean square 2.1 %; with checkpointing 9.5 and 3.4 %
  (`benchmarks/network.py memory`, results/network-memory.csv). The largest are those of nano below 0.1 GB. A
  run on a CPU took 5 % more (nano) and 5 % less (tiny) than its trace. Since then the CPU's scan, and no
  GPU's, keeps states for its backward pass, up to a tenth of the activations, which the formula leaves out.
- in half precision, as on a GPU with the scan's backend `cuda`, never below a trace, and above by at most
  6 % where a step takes more than 2 GB, 17 % below that (`benchmarks/network.py half`,
  results/network-half.csv). The scratch space of the scan, less than 1 %, is not in the traces.
"""

from collections.abc import Mapping
from typing import Any

from nnunet_igtv.architectures.mixers import DEFAULT as SCAN
from nnunet_igtv.architectures.mixers import mixer_named
from nnunet_igtv.architectures.slice_interactions import DEFAULT, SLICE_INTERACTIONS, interaction_name
from nnunet_igtv.architectures.strides import STAGE_STRIDES, padded, slices_at_once

ELEMENT = 4  # bytes of a float32

# elements per element of: convolutions' weights, full-size map, full-size maps made at once
STORED = (56.9, 7.6, 0.0)
CHECKPOINTED = (60.9, 7.3, 0.0)
HALF = (104.6, 3.62, 2.31)
MARGIN = 1.1  # with checkpointing the formula is up to 9.5 % below a measurement
INTERACTION_IN_HALF = 0.65  # of what a slice interaction keeps in single precision


def planned_bytes(
    fields: Mapping[str, Any], batch: int, slices: int, height: int, width: int, *, half: bool
) -> float:
    """Bytes to keep free for a training, with the arguments of `training_bytes`.

    A step in half precision may have to be repeated in single precision. Then its blocks recompute their
    activations (`trainers/step.py`), which usually takes more memory than half precision. Beyond 3 GB, what
    fits in single precision fits in half precision too, and as many slices fit in both.
    """
    shape = batch, slices, height, width
    step = training_bytes(fields, *shape, half=half)
    recomputing = MARGIN * training_bytes({**fields, "checkpointing": True}, *shape)
    if fields.get("checkpointing", False):
        return recomputing
    return max(step, recomputing) if half else step


def training_bytes(
    fields: Mapping[str, Any], batch: int, slices: int, height: int, width: int, *, half: bool = False
) -> float:
    """Bytes at the peak of a training step: weights, optimiser, activations and gradients.

    Args:
        fields: keyword arguments of `IGTVNet`, as `Preset.kwargs()` gives them or a plans file holds them.
        batch: stacks in a batch.
        slices: slices in a stack.
        height: rows of the patch.
        width: columns of the patch.
        half: in half precision, as on a GPU. With checkpointing it counts as single precision, which is more.
    """
    interaction = SLICE_INTERACTIONS[interaction_of(fields)]
    mixer = mixer_named(fields.get("mixer", SCAN))
    if fields.get("checkpointing", False):
        of_blocks, shared, own = mixer.checkpointed, CHECKPOINTED, interaction.checkpointed
    elif half:
        of_blocks, shared, own = mixer.half, HALF, INTERACTION_IN_HALF * interaction.stored
    else:
        of_blocks, shared, own = mixer.stored, STORED, interaction.stored
    terms = elements(fields, batch, slices, height, width)
    multiples = *of_blocks, *shared, own
    return ELEMENT * sum(multiple * term for multiple, term in zip(multiples, terms, strict=True))


def interaction_of(fields: Mapping[str, Any]) -> str:
    """Name of the slice interaction of a network with these fields."""
    return interaction_name(fields.get("slice_interaction", DEFAULT))


def elements(
    fields: Mapping[str, Any], batch: int, slices: int, height: int, width: int
) -> tuple[float, ...]:
    """What the formula's multiples multiply: blocks' weights, blocks' maps, convolutions' weights, full-size
    map, full-size maps that half precision makes at once, then what the slice interaction declares."""
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
    at_once = min(maps, slices_at_once(full_size))
    return (
        block_weights,
        maps * block_maps,
        convolution_weights,
        maps * full_size,
        at_once * full_size,
        interaction,
    )
