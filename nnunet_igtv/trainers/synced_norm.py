"""Batch normalisation over the batches of all processes, on GPUs and on the CPU."""

import torch
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from torch import Tensor, nn


class SyncedBatchNorm(nn.BatchNorm2d):
    """What `nn.SyncBatchNorm` is, which PyTorch has for GPUs only: in training, mean and variance are those
    of all processes' batches, (M, C, H, W) each and all of one size. In evaluation it is `nn.BatchNorm2d`.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        kind, x = x.dtype, x.to(self.weight.dtype)  # sums over all pixels need more than half precision
        here = torch.stack((x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)))  # (2, C)
        means, variances = AllGatherGrad.apply(here).unbind(1)  # (processes, C) each
        mean = means.mean(0)
        variance = (variances + (means - mean) ** 2).mean(0)
        self._remember(mean.detach(), variance.detach(), len(means) * x.numel() // x.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        return ((x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(kind)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, values: int) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * values / (values - 1), self.momentum)


def synchronise_norms(network: nn.Module, device: torch.device) -> None:
    """Makes every batch normalisation inside a network one over all processes; its tensors stay the same."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for parent in list(network.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm2d):
                synced = SyncedBatchNorm(norm.num_features, norm.eps, norm.momentum)
                synced.weight, synced.bias = norm.weight, norm.bias
                for buffer, tensor in norm.named_buffers():
                    setattr(synced, buffer, tensor)
                setattr(parent, name, synced)
