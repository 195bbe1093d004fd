"""A foreign checkpoint becomes one for `nnUNetv2_train -pretrained_weights`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS, preset_named
from nnunet_igtv.atomic import refuse_existing, written_once
from nnunet_igtv.channels import described
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.mapping import rename
from nnunet_igtv.weights.pretrained import load_pretrained
from nnunet_igtv.weights.reading import load_checkpoint, state_dict_of
from nnunet_igtv.weights.recognition import architecture, mixer_of, preset_of

LARGEST_NETWORK = 2  # times the values in the file, or in the preset with two classes
HEAD = "decoder.seg_layers.0.weight"


def import_weights(
    source: Path,
    output: Path,
    preset: str | None = None,
    classes: int | None = None,
    *,
    overwrite: bool = False,
) -> str:
    """Read, transfer into a fresh network, write; returns the report as text.

    The same source gives the same file, byte by byte. It holds the default slice interaction too, at the
    identity where the source has none: networks with it and without one take the file.

    Args:
        source: checkpoint to read.
        output: checkpoint to write, whole or not at all.
        preset: size of the network; None recognises it from the weights.
        classes: classes with background; None takes the source's, or 2.
        overwrite: replace an output that exists.

    Raises:
        IGTVError: unreadable, unknown or unfit source, unknown preset, too few classes, or an output that
            exists or is the source.
    """
    if preset is not None:
        preset_named(preset)
    if os.path.realpath(output) == os.path.realpath(source):
        raise IGTVError("the output would replace the source", file=output, remedy="name another output")
    refuse_existing(output, overwrite=overwrite)
    if classes is not None and classes < 2:
        raise IGTVError("a network has two classes or more, background included", settings=["classes"])
    checkpoint = load_checkpoint(source)
    try:
        renamed = rename(state_dict_of(checkpoint))
        name = preset or preset_of(renamed.state)
        fields = preset_named(name).kwargs() if name else _own_fields(renamed.state)
        kind = fields | {"mixer": mixer_of(renamed.state)}
        count = classes or _classes_of(renamed.state)
        _refuse_much_larger(kind, count, renamed.state, is_preset=name is not None)
        with torch.random.fork_rng(devices=[]):  # what the source lacks begins alike in every run
            torch.manual_seed(0)
            network = IGTVNet(2, count, **kind)
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
    with written_once(output, overwrite) as unfinished, unfinished.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:
            cause = error.__context__  # torch hides what the system said
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror, str(output)) from error
            raise
    return f"preset: {name or 'none, an architecture of its own'}\n{report.table()}\nwritten: {output}"


def _own_fields(state: dict[str, Any]) -> dict[str, Any]:
    """Fields of a network that is no preset, where its weights show all of them."""
    fields = architecture(state)
    # what leaves no trace in weights
    no_drop_path: dict[str, Any] = {"encoder_drop_path": 0.0, "decoder_drop_path": 0.0}
    if set(fields) | set(no_drop_path) != set(PRESETS["tiny"].kwargs()):
        depths = "/".join(map(str, fields["encoder_depths"]))
        raise IGTVError(
            f"the encoder (width {fields['width']}, depths {depths}) is that of no preset",
            remedy="use weights of VMamba-T, -S or -B in their first version (state size 16, no MLP branch)",
        )
    return fields | no_drop_path


def _classes_of(state: dict[str, Any]) -> int:
    """Rows of the head's weights; 2 where the source has no head of ours."""
    head = state.get(HEAD)
    if head is None or head.ndim != 2:
        return 2
    if head.numel() == 0:
        raise IGTVError(
            f"{HEAD} has the shape {tuple(head.shape)}: a head without weights",
            remedy="take a file that was written whole, or one without a head",
        )
    return int(head.shape[0])


def _refuse_much_larger(kind: dict[str, Any], classes: int, state: dict[str, Any], is_preset: bool) -> None:
    """Before memory is taken: the shapes in a small file, or a wrong number, can ask for any amount of it."""
    with torch.device("meta"):
        needed = _values(IGTVNet(2, classes, **kind).state_dict())
        expected = max(_values(state), _values(IGTVNet(2, 2, **kind).state_dict()) if is_preset else 0)
    if needed > LARGEST_NETWORK * expected:
        given = _values(state)
        raise IGTVError(
            f"the network of these shapes has {needed} values with {classes} classes, the file {given}",
            remedy="take the file as its authors wrote it, and as many classes as the dataset has",
        )


def _values(state: Mapping[str, Any]) -> int:
    return sum(value.numel() for value in state.values())
