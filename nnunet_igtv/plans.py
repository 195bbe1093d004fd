"""Standard nnU-Net plans -> 2.5D plans: a stack of S slices is a 3D patch that is S slices thin.

nnU-Net knows 2D (one slice) and 3D patches. A network that reads a slice together with its neighbours is a
3D network whose patch is `[S, H, W]`; given such a plan, nnU-Net's own loader, sliding window and export do
the rest. Only what a plan says about the network changes here. What it says about the data (spacing with two
entries in `2d`, resampling, normalisation, `data_identifier`) stays, so that the preprocessed data stay
valid: in `2d` they keep their native slice spacing, which is the natural configuration for a stack.

Three keys of a configuration may be set in the plans file, as in nnU-Net's own workflow of editing plans:
    "igtv": {"slices": 5, "gpu_memory_target_in_gb": 80, "batch_size": 8}
A configuration that already names our network is taken as it stands, whatever the trainer's name says.
"""

import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from nnunet_igtv.architectures.memory import planned_bytes
from nnunet_igtv.architectures.mixers import DEFAULT as SCAN
from nnunet_igtv.architectures.mixers import mixer_named
from nnunet_igtv.architectures.presets import preset_named
from nnunet_igtv.architectures.slice_interactions import interaction_name
from nnunet_igtv.errors import IGTVError

NETWORK = "nnunet_igtv.architectures.igtv_net.IGTVNet"
SLICES = 3  # the smallest stack in which a slice has a neighbour on either side
GPU_MEMORY_GB = 24.0
SMALLEST_BATCH = 2  # nnU-Net's own minimum: one stack with and one without tumour
LARGEST_BATCH = 4  # stacks of 3 slices: the 12 slices that nnU-Net plans for a 2D patch of 512 x 512


def rewrite_plans(
    plans: dict[str, Any],
    configuration: str,
    preset: str,
    slice_interaction: str,
    auxiliary_heads: bool = False,
    slices: int = SLICES,
    optional_pet: bool = False,
    mixer: str = SCAN,
    half_precision: bool = False,
) -> dict[str, Any]:
    """The same plans with `configuration` turned into 2.5D; everything else is copied.

    Pure and idempotent: the argument is not touched, and plans that went through here before come back equal.

    Args:
        plans: content of a plans file.
        configuration: its configuration to rewrite, `2d`, `3d_fullres` or another without a cascade.
        preset: name of the network's size, a key of `PRESETS`.
        slice_interaction: name of the network's slice interaction, a key of `SLICE_INTERACTIONS`.
        auxiliary_heads: whether it has the heads that deep supervision trains.
        slices: slices in a stack, unless the plans' "igtv" entry names a number; fewer where not even the
            smallest batch of them fits the memory.
        optional_pet: whether it is to know stacks without a PET. A plan without the word means no.
        mixer: name of what its blocks mix maps with, a key of `MIXERS`. A plan without the word means scans.
        half_precision: whether it is trained in half precision, as on a GPU: more stacks fit the memory, or
            they fit without recomputing activations (`memory.planned_bytes`).

    Raises:
        IGTVError: unknown configuration, preset, slice interaction or mixer, inheritance in a circle, a
            cascade, a bad "igtv" entry.
    """
    plans = deepcopy(plans)
    resolved = _resolve(plans, configuration)
    if resolved.get("previous_stage") is not None:
        raise IGTVError(
            f"{configuration!r} is the second stage of a cascade, which these trainers do not do",
            remedy="train the configuration 2d or 3d_fullres",
        )
    if not is_stack_plan(resolved):
        parts: dict[str, Any] = {
            "slice_interaction": interaction_name(slice_interaction),
            "auxiliary_heads": auxiliary_heads,
        }
        if optional_pet:
            parts["optional_pet"] = True
        if mixer_named(mixer) is not mixer_named(SCAN):
            parts["mixer"] = mixer
        resolved = _as_stack(resolved, preset, parts, slices, half_precision)
    plans["configurations"][configuration] = resolved
    return plans


def is_stack_plan(configuration: dict[str, Any]) -> bool:
    """Whether a resolved configuration names our network already."""
    return bool(configuration.get("architecture", {}).get("network_class_name") == NETWORK)


def _resolve(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """The configuration `name` with all that it inherits, as nnU-Net's PlansManager resolves it."""
    configurations = plans["configurations"]
    chain: list[str] = []
    parent: str | None = name
    while parent is not None:
        if parent not in configurations:
            raise IGTVError(
                f"the plans have no configuration {parent!r}; they have {', '.join(configurations)}",
                remedy="name one of them",
            )
        if parent in chain:
            raise IGTVError(f"the plans' configurations inherit in a circle: {' -> '.join([*chain, parent])}")
        chain.append(parent)
        parent = configurations[parent].get("inherits_from")
    resolved: dict[str, Any] = {}
    for ancestor in reversed(chain):
        resolved.update(deepcopy(configurations[ancestor]))
    resolved.pop("inherits_from", None)
    return resolved


def _as_stack(
    configuration: dict[str, Any], preset: str, parts: dict[str, Any], most_slices: int, half_precision: bool
) -> dict[str, Any]:
    stacks, memory_gb, wanted_batch = _wishes(configuration, most_slices)
    plane = [*map(int, configuration["patch_size"][-2:])]
    kwargs: dict[str, Any] = preset_named(preset).kwargs() | parts
    configuration = {key: value for key, value in configuration.items() if key != "next_stage"}  # no cascade
    slices, batch, kwargs["checkpointing"] = fitting(kwargs, stacks, plane, memory_gb, half_precision)
    return configuration | {
        "patch_size": [slices, *plane],
        "batch_size": wanted_batch or batch,
        "batch_dice": True,  # most thin stacks hold no tumour, so Dice is taken over the batch, as in 2d
        "architecture": {"network_class_name": NETWORK, "arch_kwargs": kwargs, "_kw_requires_import": []},
    }


def fitting(
    kwargs: dict[str, Any],
    stacks: Sequence[int],
    plane: Sequence[int],
    memory_gb: float,
    half_precision: bool,
) -> tuple[int, int, bool]:
    """Slices per stack, stacks per batch, and whether they need checkpointing (slower, much smaller).

    The first of `stacks` of which the smallest batch fits the memory, in the largest batch that does; where
    none does, the last, in the smallest batch and with checkpointing.
    """
    for slices in stacks:
        for checkpointing in (False, True):
            fields = kwargs | {"checkpointing": checkpointing}
            for batch in range(LARGEST_BATCH, SMALLEST_BATCH - 1, -1):
                if planned_bytes(fields, batch, slices, *plane, half=half_precision) <= memory_gb * 1e9:
                    return slices, batch, checkpointing
    return stacks[-1], SMALLEST_BATCH, True


def _wishes(configuration: dict[str, Any], most_slices: int) -> tuple[Sequence[int], float, int | None]:
    """Slices per stack, best first, GB of GPU memory, and stacks per batch over all devices (None = as many
    as fit one device): what the plans file asks for, else what the trainer does and the defaults."""
    wishes = configuration.get("igtv", {})
    unknown = sorted(set(wishes) - {"slices", "gpu_memory_target_in_gb", "batch_size"})
    slices, memory = wishes.get("slices", most_slices), wishes.get("gpu_memory_target_in_gb", GPU_MEMORY_GB)
    batch = wishes.get("batch_size")
    if (
        unknown
        or not isinstance(slices, int)
        or slices < 1
        or not isinstance(memory, int | float)
        or memory <= 0
        or not (batch is None or (isinstance(batch, int) and batch >= SMALLEST_BATCH))
    ):
        raise IGTVError(
            f'the plans\' entry "igtv": {json.dumps(wishes)} is not understood',
            remedy='write "igtv": {"slices": a whole number >= 1, "gpu_memory_target_in_gb": a number > 0, '
            f'"batch_size": a whole number >= {SMALLEST_BATCH}}}',
        )
    return (slices,) if "slices" in wishes else range(slices, 0, -1), float(memory), batch
