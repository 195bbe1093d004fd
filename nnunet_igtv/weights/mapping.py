"""Names: a foreign network's state_dict becomes one with this package's keys and shapes.

Known: CIPA (the authors' segmentation network), VMamba (ImageNet encoders, old and new key names), and this
package's own network.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.reading import refuse_doubles

# VMamba, in newer files | in older files -> this package
_VMAMBA = {
    r"patch_embed\.(?:0|proj)": r"encoder.patch_embed.conv",
    r"patch_embed\.(?:2|norm)": r"encoder.patch_embed.norm",
    r"layers\.(\d+)\.blocks\.(\d+)\.(?:norm|ln_1)": r"encoder.stages.\1.blocks.\2.norm",
    r"layers\.(\d+)\.blocks\.(\d+)\.(?:op|self_attention)": r"encoder.stages.\1.blocks.\2.op",
    r"layers\.(\d+)\.downsample": r"encoder.stages.\1.downsample",
    r"outnorm(\d+)": r"encoder.out_norms.\1",
}
_CRM = r"backbone\.cross_mamba\.(\d+)\.channel_weights\.mlp"
_CIPA = {
    **{r"backbone\.vssm\." + theirs: ours for theirs, ours in _VMAMBA.items()},
    _CRM + r"\.0": r"cross_modal.\1.rectification.norm",
    _CRM + r"\.1": r"cross_modal.\1.rectification.embed",
    _CRM + r"\.3": r"cross_modal.\1.rectification.scan",
    _CRM + r"\.4": r"cross_modal.\1.rectification.out_norm",
    _CRM + r"\.5": r"cross_modal.\1.rectification.gate",
    r"backbone\.region_patch\.(\d+)\.(inner|outer)_convs": r"cross_modal.\1.interaction.\2_stem",
    r"backbone\.channel_attn_mamba\.(\d+)\.(inner|outer)_norm1": r"cross_modal.\1.interaction.\2_norm",
    r"backbone\.channel_attn_mamba\.(\d+)\.(inner|outer)_attn": r"cross_modal.\1.interaction.\2_scan",
    r"decode_head\.layers_up\.0\.expand": r"decoder.expand.linear",
    r"decode_head\.layers_up\.0\.norm": r"decoder.expand.norm",
    r"decode_head\.norm_up": r"decoder.norm",
    r"decode_head\.up": r"decoder.up",
    r"decode_head\.output": r"decoder.seg_layers.0",
}
for _stage in range(3):  # CIPA counts its expansion as the first decoder stage
    _theirs, _ours = rf"decode_head\.layers_up\.{_stage + 1}", f"decoder.stages.{_stage}"
    _CIPA |= {
        _theirs + r"\.blocks\.(\d+)\.conv_blk\.cab\.0": _ours + r".\1.conv1",
        _theirs + r"\.blocks\.(\d+)\.conv_blk\.cab\.2": _ours + r".\1.conv2",
        _theirs + r"\.blocks\.(\d+)\.conv_blk\.cab\.3\.fc\.0": _ours + r".\1.attention.squeeze",
        _theirs + r"\.blocks\.(\d+)\.conv_blk\.cab\.3\.fc\.2": _ours + r".\1.attention.excite",
        _theirs + r"\.blocks\.(\d+)": _ours + r".\1",
        _theirs + r"\.upsample": f"decoder.upsamples.{_stage}",
    }


@dataclass(frozen=True)
class Renamed:
    """A source in this package's terms.

    Attributes:
        kind: what the source was recognised as.
        state: the weights under this package's keys, in its shapes.
        notes: by key, what was converted exactly on the way.
        ignored: the source's keys that have no counterpart.
    """

    kind: str
    state: dict[str, Tensor]
    notes: dict[str, str]
    ignored: list[str]


def rename(source: dict[str, Tensor], file: str | Path | None = None) -> Renamed:
    """Recognise a state_dict and rename it; `file` is named in the error.

    Raises:
        IGTVError: it belongs to none of the known networks, or has two tensors for one of ours.
    """
    if "encoder.patch_embed.conv.weight" in source:
        return Renamed("nnunet-igtv", dict(source), {}, [])
    if any(key.startswith("backbone.vssm.") for key in source):
        return _translate("CIPA", source, _CIPA, file)
    if any(re.match(r"patch_embed\.(0|proj)\.", key) for key in source):
        return _translate("VMamba", source, _VMAMBA, file)
    raise IGTVError(
        "the weights are of no known network: not of this package, CIPA or VMamba "
        f"(their first key is {next(iter(source), None)!r})",
        file=file,
    )


def _translate(
    kind: str, source: dict[str, Tensor], names: dict[str, str], file: str | Path | None
) -> Renamed:
    rules = [(re.compile(rf"^{theirs}(?=\.)"), ours) for theirs, ours in names.items()]
    state, notes, ignored, new_keys = {}, {}, [], {}
    for key, value in source.items():
        translated = next((rule.sub(ours, key) for rule, ours in rules if rule.match(key)), None)
        if translated is None:
            ignored.append(key)
            continue
        new_key, value, note = _converted(translated, value)
        state[new_key], new_keys[key] = value, new_key
        if note:
            notes[new_key] = note
    refuse_doubles(new_keys, file)
    return Renamed(kind, state, notes, ignored)


def _converted(key: str, value: Tensor) -> tuple[str, Tensor, str]:
    """Key, weight and note: the shapes that differ between the reference and this package."""
    if key == "encoder.patch_embed.conv.weight" and value.ndim == 4 and value.shape[1] == 3:
        # an image repeated three times, or a grey one given as RGB: the kernel's sum sees the same
        return key, value.sum(dim=1, keepdim=True), "3 input channels summed to 1"
    if value.ndim == 0:
        return key, value, ""
    if key.startswith("decoder.seg_layers.") and value.ndim > 1 and value.shape[0] == 1:
        # softmax over (0, logit) is the sigmoid of the logit
        return key, torch.cat((torch.zeros_like(value), value)).flatten(1), "1 logit as 2 classes"
    if ".attention." in key and value.ndim > 1:
        return key, value.flatten(1), ""  # a 1x1 convolution is a linear layer
    grid_key = re.sub(r"\.(norm|embed)\.(weight|bias)$", r".\1_\2", key)
    if ".rectification." in key and grid_key != key:
        side = math.isqrt(value.shape[-1])
        is_grid = not key.endswith("embed.bias") and side * side == value.shape[-1]
        return grid_key, value.unflatten(-1, (side, side)) if is_grid else value, ""
    return key, value, ""
