"""How a trainer learns: AdamW, one learning rate for new layers and one for transferred layers, the schedule.

Which layers are transferred is known to `IGTVTransferTrainer`, and to a checkpoint: its optimiser state names
the parameters of each group.
"""

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from nnunet_igtv.trainers.distributed import DistributedTrainer

FUSED = ("cuda", "cpu")  # devices on which AdamW is one kernel for all tensors
WARM_UP_FRACTION, LONGEST_WARM_UP = 0.05, 10.0  # of the epochs; in epochs


class TwoRateTrainer(DistributedTrainer):
    """A trainer with one learning rate; with a second one for transferred layers, where there are any.

    A variant sets some of the attributes `learning_rate` to `frozen_share`.
    """

    learning_rate, decay = 5e-4, 1e-2
    transferred_factor = 0.1  # learning rate of transferred layers, relative to new ones
    own_factors: Mapping[str, float] = {}  # on top of that, of parameters whose names start with a key
    frozen_share = 0.0  # of the run, at its beginning, in which a transferred encoder does not learn
    fresh: set[str] | None = None  # names of the parameters that were not transferred; None = all

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, "WarmUpCosine"]:
        groups = parameter_groups(
            self.bare_network,
            self.fresh,
            self.initial_lr,
            self.transferred_factor,
            self.frozen_share * self.num_epochs,
            self.own_factors,
        )
        optimizer = torch.optim.AdamW(
            groups, weight_decay=self.weight_decay, fused=self.device.type in FUSED or None
        )
        return optimizer, WarmUpCosine(optimizer, self.num_epochs)

    def use_two_rates(self, fresh: Iterable[str]) -> None:
        """A new optimiser: parameters with these names learn as new layers do, all others as transferred."""
        self.fresh = set(fresh)
        self.optimizer, self.lr_scheduler = self.configure_optimizers()


def parameter_groups(
    network: nn.Module,
    new: Container[str] | None,
    learning_rate: float,
    transferred_factor: float,
    frozen_epochs: float = 0.0,
    own_factors: Mapping[str, float] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Parameters by origin (new or transferred), start, whether they decay, and a factor of their own.

    Matrices and kernels decay; biases, norms, scales and the state matrices of the scans do not. Each group
    names its parameters, so that the optimiser state in a checkpoint says which they were.

    Args:
        new: names of the parameters that start from scratch; None = all of them.
        learning_rate: of the new parameters; the transferred ones learn at `transferred_factor` of it.
        frozen_epochs: how long the transferred part of the encoder keeps its weights.
        own_factors: what the learning rate is multiplied with, by the beginning of a parameter's name.
    """
    groups: dict[tuple[bool, float, bool, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        is_new = new is None or name in new
        last = name.rsplit(".", 1)[-1]
        decays = parameter.ndim > 1 and last.endswith("weight") and "norm" not in last
        start = frozen_epochs if name.startswith("encoder.") and not is_new else 0.0
        factor = math.prod(own for prefix, own in own_factors.items() if name.startswith(prefix))
        group = groups.setdefault(
            (not is_new, start, not decays, factor),
            {
                "params": [],
                "names": [],
                "origin": "new" if is_new else "transferred",
                "lr": learning_rate * (1.0 if is_new else transferred_factor) * factor,
                "start": start,
            }
            | ({} if decays else {"weight_decay": 0.0}),
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups)]


def new_parameters(optimizer_state: dict[str, Any]) -> set[str]:
    """Names of the parameters that were new in a run, from the optimiser state of its checkpoint."""
    groups: Iterator[dict[str, Any]] = iter(optimizer_state["param_groups"])
    return {name for group in groups if group.get("origin", "new") == "new" for name in group["names"]}


class WarmUpCosine:
    """Linear warm-up, then half a cosine to zero, as a function of the (fractional) epoch.

    A group with a later `start` has a learning rate of zero until then, which leaves its weights untouched
    (AdamW's decay follows the rate), and its warm-up there. Its gradients are still computed: what that
    costs is little over a run, and DistributedDataParallel and torch.compile see the same network throughout.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        self.optimizer, self.epochs = optimizer, epochs
        self.warm_up = min(LONGEST_WARM_UP, WARM_UP_FRACTION * epochs)
        self.rates = [(group["lr"], group.get("start", 0.0)) for group in optimizer.param_groups]

    def factor(self, epoch: float, start: float = 0.0) -> float:
        """The share of its learning rate that a parameter has at `epoch` if it learns from `start` on."""
        if epoch < start:
            return 0.0
        ramp = min(max((epoch - start) / self.warm_up, 0.01), 1.0)
        progress = max(epoch - self.warm_up, 0.0) / max(self.epochs - self.warm_up, 1e-9)
        return ramp * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def step(self, epoch: float) -> None:
        for group, (rate, start) in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.factor(epoch, start)
