"""The slice interactions by name: modules through which the slices of a stack see each other.

A trainer's `slice_interaction` and a plan's `arch_kwargs` hold a name of the table `SLICE_INTERACTIONS`.
A new interaction is a file in this folder with a subclass of `base.SliceInteraction`, and an entry there.
Names and memory are needed for planning, so importing this package does not import torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnunet_igtv.architectures.strides import STAGE_STRIDES
from nnunet_igtv.errors import IGTVError

if TYPE_CHECKING:
    from nnunet_igtv.architectures.slice_interactions.base import SliceInteraction


@dataclass(frozen=True)
class Entry:
    """One slice interaction.

    Attributes:
        module: file in this folder.
        name: its class there, called with the widths of the stages and whether there are auxiliary heads.
        elements: what its memory in training is proportional to; called with the fields of the network,
            stacks in a batch, slices in a stack, and rows and columns after padding.
        stored: tensor elements that a training step keeps per one of `elements`, as
            `benchmarks/network.py memory` measured it.
        checkpointed: the same in a network whose blocks recompute their activations.
    """

    module: str
    name: str
    elements: Callable[[Mapping[str, Any], int, int, int, int], float]
    stored: float
    checkpointed: float

    def load(self) -> "type[SliceInteraction]":
        """The class; imports torch."""
        return getattr(import_module(f"{__name__}.{self.module}"), self.name)


def _maps(fields: Mapping[str, Any], stage: int, batch: int, slices: int, rows: int, columns: int) -> float:
    """Elements of the maps of a stage, for all slices of a batch."""
    return batch * slices * rows * columns / STAGE_STRIDES[stage] ** 2 * fields["width"] * 2**stage


def _no_maps(fields: Mapping[str, Any], *shape: int) -> float:
    return 0.0


def _maps_of_the_stages(fields: Mapping[str, Any], *shape: int) -> float:
    return sum(_maps(fields, stage, *shape) for stage in range(4))


def _maps_before_the_heads(fields: Mapping[str, Any], *shape: int) -> float:
    stages = (0, 0, 1, 2) if fields.get("auxiliary_heads", False) else (0,)
    return sum(_maps(fields, stage, *shape) for stage in stages)


SLICE_INTERACTIONS: dict[str, Entry] = {
    "before_head": Entry("before_head", "BeforeHead", _maps_before_the_heads, 9.7, 11.3),
    "stages": Entry("stages", "Stages", _maps_of_the_stages, 8.5, 9.1),
    "cross_slice_attention": Entry(
        "cross_slice_attention", "CrossSliceAttention", _maps_of_the_stages, 14.0, 15.3
    ),
    "csam": Entry("csam", "CSAM", _maps_of_the_stages, 1.9, 2.8),
    "none": Entry("base", "SliceInteraction", _no_maps, 0.0, 0.0),
}
DEFAULT = "before_head"
OF_OLD_PLANS = {True: "stages", False: "none"}  # what the first plans held instead of a name


def interaction_name(value: object) -> str:
    """The name that a plan or a caller means; plans of the first version hold true or false.

    Raises:
        IGTVError: no slice interaction of that name.
    """
    name = OF_OLD_PLANS[value] if isinstance(value, bool) else value
    if not isinstance(name, str) or name not in SLICE_INTERACTIONS:
        raise IGTVError(
            f"no slice interaction named {name!r}", remedy=f"choose one of {', '.join(SLICE_INTERACTIONS)}"
        )
    return name


def build_slice_interaction(
    value: object, widths: Sequence[int], auxiliary_heads: bool
) -> "SliceInteraction":
    """A slice interaction by name, for a network with these channels per stage."""
    return SLICE_INTERACTIONS[interaction_name(value)].load()(widths, auxiliary_heads)
