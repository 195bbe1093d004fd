"""One training step: in half precision on a GPU, and again in single precision where that was not finite.

In single precision a step needs up to four times the memory of half precision, for which the plan chose the
batch. A step that is repeated therefore recomputes the activations of the blocks: `architectures/memory.py`
counts it, so that there is room for it.

The GPU works while Python prepares what comes next, so a step waits for it once, at its end, for the loss.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nnunet_igtv.architectures.layers import recomputing
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.optimisation import TwoRateTrainer

LARGEST_GRADIENT_NORM = 1.0
SMALLEST_SCALE = 2.0**-10  # of the loss; below, its gradient is not finite at any scale: nothing is learned
Target = torch.Tensor | list[torch.Tensor]  # a list, finest first, with deep supervision


class StepTrainer(TwoRateTrainer):
    """A trainer's step; in half precision where there is a `grad_scaler`, which nnU-Net makes for GPUs."""

    grad_scaler: Any
    iteration = 0  # of the epoch

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.iteration = 0

    def train_step(self, batch: dict) -> dict:
        """Raises IGTVError where loss or gradient are not finite, in single precision either, and where the
        memory of the device is too small."""
        self.lr_scheduler.step(self.current_epoch + self.iteration / self.num_iterations_per_epoch)
        self.iteration += 1
        data = batch["data"].to(self.device, non_blocking=True)
        target = _on(self.device, batch["target"])
        loss: np.ndarray | None
        try:
            if self.grad_scaler is None:
                loss = self._step_in_single_precision(data, target, batch["keys"])
            elif (loss := self._step_in_half_precision(data, target)) is None:
                with recomputing(self.bare_network):
                    loss = self._step_in_single_precision(data, target, batch["keys"])
        except torch.OutOfMemoryError as error:
            raise _too_large(data.shape, self.configuration_name) from error
        return {"loss": loss}

    def _step_in_half_precision(self, data: torch.Tensor, target: Target) -> np.ndarray | None:
        """The loss; None where it is not finite in a process, or its gradient has not been for long: then
        weights and norms are as before."""
        statistics = [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]
        before = [torch.empty_like(buffer) for buffer in statistics]
        torch._foreach_copy_(before, statistics)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type):
            loss = self.loss(self.network(data), target)
        # a loss that is not finite makes every gradient so, and the scaler leaves out such a step
        poison = torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan)
        self.grad_scaler.scale(loss * poison).backward()
        self.grad_scaler.unscale_(self.optimizer)
        self._clip()
        self.grad_scaler.step(self.optimizer)
        value = loss.detach().cpu()  # here the step waits for the GPU
        if self.everywhere(torch.isfinite(value)):
            self.grad_scaler.update()
            if self.grad_scaler.get_scale() >= SMALLEST_SCALE:
                return np.asarray(value)
        # another scale would not help; one of 0 would stay
        self.grad_scaler.update(max(self.grad_scaler.get_scale(), SMALLEST_SCALE))
        torch._foreach_copy_(statistics, before)  # a NaN would stay in the running means
        return None

    def _step_in_single_precision(
        self, data: torch.Tensor, target: Target, cases: Sequence[str]
    ) -> np.ndarray:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.network(data), target)
        if not self.everywhere(torch.isfinite(loss)):
            raise _not_finite("loss", self.of_all_ranks(cases))
        loss.backward()
        if not torch.isfinite(self._clip()):
            raise _not_finite("gradient", self.of_all_ranks(cases))
        self.optimizer.step()
        return np.asarray(loss.detach().cpu())

    def _clip(self) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT_NORM)


def _on(device: torch.device, target: Target) -> Target:
    if isinstance(target, list):
        return [scale.to(device, non_blocking=True) for scale in target]
    return target.to(device, non_blocking=True)


def _not_finite(what: str, cases: Sequence[str]) -> IGTVError:
    return IGTVError(
        f"the {what} is NaN or infinite, in single precision too; the last checkpoint is kept",
        case=", ".join(map(str, cases)),
        remedy="look at these cases' images; if nothing is wrong there, continue with --c, or train with a "
        "lower learning rate",
    )


def _too_large(shape: Sequence[int], configuration: str) -> IGTVError:
    batch, _, *patch = shape
    return IGTVError(
        f"a batch of {batch} stacks of {' x '.join(map(str, patch))} voxels does not fit the GPU's memory",
        remedy=f'set "igtv": {{"gpu_memory_target_in_gb": …}} below what is free on it, or "igtv": '
        f'{{"batch_size": …}}, in the configuration {configuration} of the plans file; end other programs '
        "on the GPU",
    )
