"""Every trainer with a budget of its own, and nnU-Net's with a seed: what a fair comparison needs.

`nnUNet_igtv_budget=40x50` gives each trainer here, whose name ends in `_budget`, 40 epochs of 50 steps. With
`nnUNet_igtv_validation=f` it predicts no case at its end, which takes a third of a short training's time.
"""

import os
from typing import Any

import torch

from nnunet_igtv.trainers import TRAINERS
from nnunet_igtv.trainers.seeded import SeededTrainer

BUDGET, VALIDATION = "nnUNet_igtv_budget", "nnUNet_igtv_validation"


class nnUNetTrainerSeeded(SeededTrainer):  # noqa: N801  as nnU-Net writes its trainers
    """nnU-Net's default trainer; `nnUNet_igtv_seed` makes it reproducible."""


def with_budget(trainer: type) -> type:
    """The trainer under the name `…_budget`, with the epochs and steps that the environment names."""

    class Budgeted(trainer):  # type: ignore[misc]
        def __init__(
            self,
            plans: dict,
            configuration: str,
            fold: int,
            dataset_json: dict,
            device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            epochs, steps = map(int, os.environ[BUDGET].split("x"))
            self.num_epochs, self.num_iterations_per_epoch = epochs, steps
            self.num_val_iterations_per_epoch = max(1, steps // 5)
            self.save_every = max(1, epochs // 50)

        def perform_actual_validation(self, save_probabilities: bool = False) -> None:
            # with fold "all" it would be on the cases of the training itself
            if self.fold != "all" and os.environ.get(VALIDATION) != "f":
                super().perform_actual_validation(save_probabilities)

    Budgeted.__name__ = Budgeted.__qualname__ = f"{trainer.__name__}_budget"
    return Budgeted


def with_part(part: type, base: type) -> dict[str, type]:
    """By name: a trainer with a part that changes one thing of it, and the same with a budget."""
    trainer = type(f"{base.__name__}{part.__name__}", (part, base), {"__module__": part.__module__})
    return {each.__name__: each for each in (trainer, with_budget(trainer))}


found: dict[str, Any] = {trainer.__name__: trainer for trainer in (nnUNetTrainerSeeded, *TRAINERS.values())}
globals().update({f"{name}_budget": with_budget(trainer) for name, trainer in found.items()})
