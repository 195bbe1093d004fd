"""What DataParallel, DistributedDataParallel and torch.compile put around a network and before its keys."""

from torch import nn
from torch.nn.parallel import DistributedDataParallel

PREFIXES = ("module.", "_orig_mod.")  # of the keys that they save


def bare(network: nn.Module) -> nn.Module:
    """The network without its wrappers, in whatever order they were put around it."""
    while True:
        if isinstance(network, nn.DataParallel | DistributedDataParallel):
            network = network.module
        elif hasattr(network, "_orig_mod"):  # torch.compile's class has no public name
            network = network._orig_mod  # type: ignore[assignment]
        else:
            return network


def bare_key(key: str) -> str:
    """The name of a tensor in a state_dict without the prefixes of wrappers."""
    while key.startswith(PREFIXES):
        key = key.split(".", 1)[1]
    return key
