"""A foreign checkpoint becomes one for `nnUNetv2_train -pretrained_weights`."""

from pathlib import Path
from typing import Any

import torch

from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.atomic import written_whole
from nnunet_igtv.channels import described
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.mapping import rename
from nnunet_igtv.weights.pretrained import load_pretrained
from nnunet_igtv.weights.reading import load_checkpoint, state_dict_of
from nnunet_igtv.weights.recognition import architecture, preset_of


def import_weights(source: Path, output: Path, preset: str | None = None, classes: int | None = None) -> str:
    """Read, transfer into a fresh network, write; returns the report as text.

    The file holds the default slice interaction too, at the identity where the source has none: networks
    with it and without one take the file.

    Args:
        source: checkpoint to read.
        output: checkpoint to write, whole or not at all.
        preset: size of the network; None recognises it from the weights.
        classes: classes with background; None takes the source's, or 2.

    Raises:
        IGTVError: unreadable, unknown or unfit source, unknown preset, or an output that would replace the
            source.
    """
    if preset not in (None, *PRESETS):
        raise IGTVError(f"unknown preset {preset!r}", remedy=f"choose one of {', '.join(PRESETS)}")
    if output.resolve() == source.resolve():
        raise IGTVError("the output would replace the source", file=output, remedy="name another output")
    checkpoint = load_checkpoint(source)
    renamed = rename(state_dict_of(checkpoint, source), source)
    name = preset or preset_of(renamed.state)
    fields = PRESETS[name].kwargs() if name else _own_fields(renamed.state, source)
    head = renamed.state.get("decoder.seg_layers.0.weight")
    network = IGTVNet(2, classes or (2 if head is None else head.shape[0]), **fields)
    try:
        report = load_pretrained(network, checkpoint)
    except IGTVError as error:
        raise error.but(file=source) from error
    content: dict[str, Any] = {
        "network_weights": {
            key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
        },
        "preset": name,
        "source": report.kind,
    }
    if report.channels:  # where a trainer's checkpoint says what its channels were
        content["init_args"] = {"dataset_json": described(report.channels)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output) as partial:
        torch.save(content, partial)
    return f"preset: {name or 'none, an architecture of its own'}\n{report.table()}\nwritten: {output}"


def _own_fields(state: dict[str, Any], source: Path) -> dict[str, Any]:
    """Fields of a network that is no preset, where its weights show all of them."""
    fields = architecture(state)
    no_drop_path = {"encoder_drop_path": 0.0, "decoder_drop_path": 0.0}  # leaves no trace in weights
    if set(fields) | set(no_drop_path) != set(PRESETS["tiny"].kwargs()):
        depths = "/".join(map(str, fields["encoder_depths"]))
        raise IGTVError(
            f"the encoder (width {fields['width']}, depths {depths}) is that of no preset",
            file=source,
            remedy="use weights of VMamba-T, -S or -B in their first version (state size 16, no MLP branch)",
        )
    return fields | no_drop_path
