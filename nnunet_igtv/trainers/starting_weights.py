"""What a run starts from: whether nnU-Net has loaded `-pretrained_weights`, and what those were trained on.

nnU-Net does not say so to a trainer. Between `initialize()` and `run_training()` it calls `load_state_dict`
on the bare network, with the file's tensors, and with the network's own where it takes none (the head).
PyTorch shows a hook what is loaded: a tensor that is not the network's own memory came from a file.
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor, nn

from nnunet_igtv.channels import Channel, mismatch, values_of
from nnunet_igtv.errors import IGTVError

OPTION = "-pretrained_weights"  # of nnUNetv2_train


class LoadedTensors:
    """The tensors that were loaded into a network from elsewhere since this was made.

    Args:
        network: without wrappers.

    Attributes:
        names: of these tensors in the network's state_dict.
    """

    def __init__(self, network: nn.Module) -> None:
        self.names: set[str] = set()
        self._hook = network.register_load_state_dict_pre_hook(self._note)

    def _note(self, network: nn.Module, given: Mapping[str, Any], prefix: str, *_: Any) -> None:
        for name, own in network.state_dict().items():
            tensor = given.get(prefix + name)
            if isinstance(tensor, Tensor) and tensor.data_ptr() != own.data_ptr():
                self.names.add(name)

    def stop(self) -> None:
        """No longer look at what is loaded."""
        self._hook.remove()


def file_on_command_line(words: Sequence[str]) -> str | None:
    """The value of `-pretrained_weights` among the words of a command line; None if it is not there."""
    for word, following in zip_longest(words, words[1:]):
        option, _, value = word.partition("=")
        if option == OPTION:
            return value or following
    return None


def file_of_the_caller() -> str | None:
    """The file that a program gave to nnU-Net's `run_training(…, pretrained_weights=…)`, among the functions
    that are running; None where there is none. nnU-Net does not tell a trainer."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if Path(frame.f_code.co_filename).name == "run_training.py" and OPTION[1:] in frame.f_locals:
            return frame.f_locals[OPTION[1:]]
        frame = frame.f_back
    return None


def require_same_data(
    channels: Sequence[Channel] | None, own: Sequence[Channel], source: str, other_units: bool
) -> str:
    """Compares what weights were trained on with what they will be trained on now.

    Args:
        channels: of the data that the weights were trained on; None where they do not say.
        own: of the dataset.
        source: of the weights, to be named in messages.
        other_units: whether other units are accepted.

    Returns:
        A line for the log.

    Raises:
        IGTVError: the data had other units, which are not accepted.
    """
    if channels is None:
        return f"{source} does not say what it was trained on; this dataset holds {values_of(own)}"
    difference = mismatch(channels, own)
    if difference and not other_units:
        raise IGTVError(
            f"the weights were trained on other data than these: {difference}",
            file=source,
            remedy="take weights of data in the same units; to transfer from other units anyway, train "
            "IGTVTransferTrainerOtherUnits",
        )
    return f"{source} was trained on {values_of(channels)}; this dataset holds {values_of(own)}"
