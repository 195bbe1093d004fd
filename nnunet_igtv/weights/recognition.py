"""Which network a state_dict belongs to, read from its shapes."""

import re
from typing import Any

from torch import Tensor

from nnunet_igtv.architectures.mixers import DEFAULT as SCAN
from nnunet_igtv.architectures.mixers import MIXERS
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.errors import IGTVError


def architecture(state: dict[str, Tensor]) -> dict[str, Any]:
    """The fields of `Preset` that weights under our names show: with a decoder, all but the drop paths.

    Raises:
        IGTVError: a tensor that shows one is absent, has not as many axes as in our network, or contradicts
            the others.
    """

    def shape(key: str, axes: int) -> tuple[int, ...]:
        found = tuple(state[key].shape) if key in state else ()
        if len(found) != axes or 0 in found:
            raise IGTVError(f"weights of no known network: {key} has the shape {found}, not {axes} axes")
        return found

    def depths(pattern: str, stages: int) -> list[int]:
        found = [re.match(pattern, key) for key in state]
        blocks = {match.groups() for match in found if match}
        return [sum(stage == str(i) for stage, _ in blocks) for i in range(stages)]

    width = shape("encoder.patch_embed.conv.weight", 4)[0]
    fields: dict[str, Any] = {
        "width": width,
        "encoder_depths": depths(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.", 4),
    }
    scan = "encoder.stages.0.blocks.0.op"
    if f"{scan}.A_logs" in state:
        fields["expansion"] = shape(f"{scan}.out_norm.weight", 1)[0] // width
        fields["encoder_states"] = shape(f"{scan}.A_logs", 2)[1]
    if "decoder.stages.0.0.op.A_logs" in state:
        fields["decoder_depths"] = depths(r"decoder\.stages\.(\d+)\.(\d+)\.", 3)
        fields["decoder_states"] = shape("decoder.stages.0.0.op.A_logs", 2)[1]
    templates = "cross_modal.0.rectification.embed_weight"
    if templates in state:
        fields["gate_width"], fields["gate_grid"] = shape(templates, 3)[:2]
    numbers = [
        number for value in fields.values() for number in (value if isinstance(value, list) else [value])
    ]
    if min(numbers) < 1:
        raise IGTVError(f"weights of no known network: their shapes lead to {fields}")
    return fields


def preset_of(state: dict[str, Tensor]) -> str | None:
    """The preset that the weights belong to, or None."""
    seen = architecture(state)
    for name, preset in PRESETS.items():
        fields = preset.kwargs()
        if all(fields[key] == value for key, value in seen.items()):
            return name
    return None


def mixer_of(state: dict[str, Tensor]) -> str:
    """Name of the mixer that the weights belong to; the scan where they show none."""
    last = {key.split(".op.")[-1] for key in state if ".op." in key}
    return next((name for name, mixer in MIXERS.items() if mixer.mark in last), SCAN)
