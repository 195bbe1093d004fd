"""The mixers by name: what lets the positions of one map, and of one sequence, see each other.

A trainer's `mixer` and a plan's `arch_kwargs` hold a name of the table `MIXERS`. A new mixer is a file in
this folder with a subclass of `base.GatedMap` and one of `base.GatedSequence`, and an entry there.
Names and memory are needed for planning, so importing this package does not import torch.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnunet_igtv.errors import IGTVError

if TYPE_CHECKING:
    from nnunet_igtv.architectures.mixers.base import GatedMap, GatedSequence


@dataclass(frozen=True)
class Mixer:
    """One mixer.

    Attributes:
        module: file in this folder.
        map_class: its class there for maps (M, H, W, C).
        sequence_class: its class there for sequences (M, L, C).
        mark: name of a tensor that these classes have, and those of no other mixer.
        stored: tensor elements that a training step keeps per weight of a block, and per element of a block's
            maps, as `benchmarks/network.py memory` measured it.
        checkpointed: the same in a network whose blocks recompute their activations.
        half: as `stored`, in half precision; still in elements of float32.
    """

    module: str
    map_class: str
    sequence_class: str
    mark: str
    stored: tuple[float, float]
    checkpointed: tuple[float, float]
    half: tuple[float, float]

    def map(self, width: int, states: int, expansion: int) -> "GatedMap":
        """A mixer of maps with C = `width`, d = `expansion * width`, as large as a scan with N = `states`."""
        return self._load(self.map_class)(width, states, expansion)

    def sequence(self, width: int) -> "GatedSequence":
        """A mixer of sequences with C = `width`."""
        return self._load(self.sequence_class)(width)

    def _load(self, name: str) -> Any:
        return getattr(import_module(f"{__name__}.{self.module}"), name)


MIXERS: dict[str, Mixer] = {
    "scan": Mixer("scan", "SS2D", "SS1D", "A_logs", (14.9, 9.25), (15.8, 0.94), (8.9, 1.32)),
    "convolution": Mixer(
        "convolution",
        "ConvolvedMap",
        "ConvolvedSequence",
        "depthwise.weight",
        (16.5, 10.2),
        (15.2, 1.34),
        (6.9, 7.15),
    ),
}
DEFAULT = "scan"  # what a plan without the word means


def mixer_named(name: object) -> Mixer:
    """The mixer of a name.

    Raises:
        IGTVError: there is none.
    """
    if not isinstance(name, str) or name not in MIXERS:
        raise IGTVError(f"no mixer named {name!r}", remedy=f"choose one of {', '.join(MIXERS)}")
    return MIXERS[name]
