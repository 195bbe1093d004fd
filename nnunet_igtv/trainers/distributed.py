"""nnU-Net's trainer in several processes: on the CPU too, over several machines, and never out of step.

In nnU-Net's words `local_rank` is the rank among all processes. Which device is whose comes from outside: in
`device` (from `nnunet-igtv train`), or as the current CUDA device (from `nnUNetv2_train -num_gpus`).
"""

import tempfile
import warnings
from collections.abc import Iterable
from hashlib import sha256
from inspect import signature
from typing import Any, cast

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.devices import require_device
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.seeded import SeededTrainer
from nnunet_igtv.trainers.synced_norm import synchronise_norms
from nnunet_igtv.weights.wrappers import bare

# The norms keep the buffers equal; a broadcast would hang where one process runs forward more often.
# The second is the older name, which newer versions of PyTorch warn of.
NO_BUFFER_SYNC: dict[str, Any] = {
    next(
        name
        for name in ("forward_sync_buffers", "broadcast_buffers")
        if name in signature(DistributedDataParallel).parameters
    ): False
}
SMALLEST_WEIGHT = 1e-6  # nnU-Net's, of an output that must have a gradient


class DistributedTrainer(SeededTrainer):
    """nnU-Net's trainer, which supposes one machine with GPUs where there are several processes.

    Where there is one process, it is nnU-Net's trainer unchanged.
    """

    network: Any
    is_ddp: bool
    output_folder_base: Any

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        require_device(device.type)
        if distributed.is_available() and distributed.is_initialized():
            _require_equal_shares(plans["configurations"][configuration]["batch_size"])
        with warnings.catch_warnings():  # nnU-Net makes a GradScaler for CUDA in every process group
            warnings.filterwarnings("ignore", message=".*GradScaler is enabled, but CUDA is not available")
            super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp:
            self.device = _own(device)
            if self.device.type != "cuda":
                self.grad_scaler = None

    # ------------------------------------------------------------------ network

    @property
    def bare_network(self) -> IGTVNet:
        """The network without the wrappers of DDP and torch.compile."""
        return cast(IGTVNet, bare(self.network))

    def initialize(self) -> None:
        together, self.is_ddp = self.is_ddp, False  # nnU-Net would take `local_rank` for the device
        super().initialize()
        self.is_ddp = together
        if together:
            self._set_batch_size_and_oversample()
            synchronise_norms(self.bare_network, self.device)
            self.network = DistributedDataParallel(
                self.network,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                **NO_BUFFER_SYNC,
            )
            self.loss = self._build_loss()

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        if self.is_ddp and isinstance(loss, DeepSupervisionWrapper):
            # where nnU-Net compiles, the last output has none: DDP stops at parameters without a gradient
            loss.weight_factors = tuple(weight or SMALLEST_WEIGHT for weight in loss.weight_factors)
        return loss

    # ------------------------------------------------------------------ agreement

    def everywhere(self, flag: torch.Tensor) -> bool:
        """Whether a flag (a tensor of one element) is true in every process; all of them must ask."""
        if self.is_ddp:
            flag = flag.to(self.device, torch.int32)  # nccl reaches no other
            distributed.all_reduce(flag, distributed.ReduceOp.MIN)
        return bool(flag)

    def of_all_ranks(self, items: Iterable[Any]) -> list[Any]:
        """The items of every process, by rank; all of them must ask."""
        lists: list[list[Any]] = [list(items)]
        if self.is_ddp:
            lists = lists * distributed.get_world_size()
            distributed.all_gather_object(lists, list(items))
        return [item for each in lists for item in each]

    def _require_one_start(self) -> None:
        """Raises IGTVError in every process where their epochs or weights are not the same."""
        digest = sha256()
        for tensor in self.bare_network.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        if len(set(self.of_all_ranks([(self.current_epoch, digest.hexdigest())]))) > 1:
            raise IGTVError(
                "the processes did not read the same checkpoint or weights",
                file=self.output_folder,
                remedy="keep nnUNet_results and the weights to start from where every machine sees them",
            )

    # ------------------------------------------------------------------ files

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split; rank 0 makes it and its file, and sends it to the others."""
        if not self.is_ddp:
            return super().do_split()
        split: list[Any] = [super().do_split() if self.local_rank == 0 else None]
        distributed.broadcast_object_list(split, src=0)
        return split[0]

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if self.is_ddp:
            self._require_one_start()
        if self.local_rank == 0:
            super().on_train_start()
            return
        results = self.output_folder_base
        with tempfile.TemporaryDirectory() as self.output_folder_base:  # plans.json is for rank 0 to write
            super().on_train_start()
        self.output_folder_base = results

    def on_train_end(self) -> None:
        super().on_train_end()
        if self.is_ddp:  # from here on every process can read the checkpoints
            distributed.barrier()

    def print_to_log_file(self, *args: Any, **options: Any) -> None:
        if self.local_rank == 0:
            super().print_to_log_file(*args, **options)


def _own(device: torch.device) -> torch.device:
    """The device of this process, with its number where it is a GPU."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def _require_equal_shares(batch: int) -> None:
    processes = distributed.get_world_size()
    if batch % processes:
        possible = [str(number) for number in range(1, batch + 1) if batch % number == 0]
        raise IGTVError(
            f"a batch of {batch} stacks cannot be shared equally by {processes} processes",
            remedy=f"start {' or '.join(possible)}, or set another batch in the plans file, "
            f'"igtv": {{"batch_size": {-(-batch // processes) * processes}}}',
        )
