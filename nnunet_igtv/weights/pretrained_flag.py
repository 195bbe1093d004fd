"""What nnU-Net's `-pretrained_weights` does, for files and processes of any device."""

from pathlib import Path

from torch import Tensor, nn

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.reading import channels_in, load_checkpoint, state_dict_of

HEAD = ".seg_layers."  # nnU-Net's own loader leaves out keys that contain this, and takes all others


def load_all_but_head(network: nn.Module, path: str | Path) -> None:
    """Loads every tensor but the head's from a checkpoint; the head stays as it is.

    nnU-Net's own loader puts a file's tensors where they came from, or on the GPU of the process's rank: it
    cannot serve a CPU, nor a second machine.

    Args:
        network: the network without wrappers.

    Raises:
        IGTVError: the file cannot be read, was not trained on CT then PET, or lacks a layer of that shape;
            the network is then unchanged.
    """
    checkpoint = load_checkpoint(path)
    channels_in(checkpoint, path)
    source, state = state_dict_of(checkpoint, path), network.state_dict()
    wanted = [key for key in state if HEAD not in key]
    unfit = [key for key in wanted if key not in source or not _fits(source[key], state[key])]
    if unfit:
        raise IGTVError(
            f"-pretrained_weights takes every layer but the head, and {len(unfit)} of {len(wanted)} tensors "
            f"are not in this file with their shape and kind of number, first {unfit[0]}",
            file=path,
            remedy="make a file that fits with `nnunet-igtv import-weights`, or name this one in "
            "nnUNet_igtv_gtv_weights, which takes what fits",
        )
    network.load_state_dict(state | {key: source[key] for key in wanted})


def _fits(given: Tensor, target: Tensor) -> bool:
    return given.shape == target.shape and given.is_floating_point() == target.is_floating_point()
