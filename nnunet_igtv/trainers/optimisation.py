"""AdamW with two learning rates, and the schedule that they follow."""

import math
from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import nn

WARM_UP_FRACTION, LONGEST_WARM_UP = 0.05, 10.0  # of the epochs; in epochs


def parameter_groups(
    network: nn.Module, new: Container[str] | None, learning_rate: float, transferred_factor: float
) -> list[dict[str, Any]]:
    """Parameters by origin (new or transferred) and by whether they decay; empty groups are left out.

    Matrices and kernels decay; biases, norms, scales and the state matrices of the scans do not. Each group
    names its parameters, so that the optimiser state in a checkpoint says which they were.

    Args:
        new: names of the parameters that start from scratch; None = all of them.
        learning_rate: of the new parameters; the transferred ones learn at `transferred_factor` of it.
    """
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        is_new = new is None or name in new
        last = name.rsplit(".", 1)[-1]
        decays = parameter.ndim > 1 and last.endswith("weight") and "norm" not in last
        group = groups.setdefault(
            (not is_new, not decays),
            {
                "params": [],
                "names": [],
                "origin": "new" if is_new else "transferred",
                "lr": learning_rate * (1.0 if is_new else transferred_factor),
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
    """Linear warm-up, then half a cosine to zero, as a function of the (fractional) epoch."""

    def __init__(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        self.optimizer, self.epochs = optimizer, epochs
        self.warm_up = min(LONGEST_WARM_UP, WARM_UP_FRACTION * epochs)
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def factor(self, epoch: float) -> float:
        """The share of its learning rate that a parameter has at `epoch`."""
        if epoch < self.warm_up:
            return max(epoch / self.warm_up, 0.01)
        progress = (epoch - self.warm_up) / max(self.epochs - self.warm_up, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def step(self, epoch: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.factor(epoch)
