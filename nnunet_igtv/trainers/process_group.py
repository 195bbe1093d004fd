"""The processes of a run, as torchrun starts them: who this one is, its device, and how they end together."""

import os
from datetime import timedelta
from functools import cached_property
from types import TracebackType

import torch
from torch import distributed

from nnunet_igtv.errors import IGTVError

LONGEST_WAIT = timedelta(minutes=30)  # for another process; then the run ends instead of hanging
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessGroup:
    """The group that this process belongs to, while the `with` statement lasts: none where it is alone.

    Args:
        kind: "cpu" (processes talk by gloo), "cuda" (by nccl) or "mps" (one process only).

    Attributes:
        rank: of this process among all; `local_rank` among those of its machine.
        size: how many processes there are, on all machines.
        device: of this process.

    Raises:
        IGTVError: torchrun's variables are not understood, the processes do not meet, or no device is left.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rank, self.local_rank, size = (_number(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
        self.size = max(size, 1)
        self._store: distributed.Store | None = None
        missing = [name for name in TORCHRUN if not os.environ.get(name)]
        if self.size > 1 and missing:
            raise IGTVError(
                f"WORLD_SIZE={self.size}, but {', '.join(missing)} is not set",
                remedy="start several processes with torchrun; for one, unset WORLD_SIZE",
            )

    @cached_property
    def device(self) -> torch.device:
        return own_device(self.kind, self.local_rank, self.size)

    def __enter__(self) -> "ProcessGroup":
        if self.size == 1:
            return self
        try:
            self._store, *_ = next(
                distributed.rendezvous("env://", self.rank, self.size, timeout=LONGEST_WAIT)
            )
            on_gpu = self.device.type == "cuda"
            if on_gpu:
                torch.cuda.set_device(self.device)
            distributed.init_process_group(
                "nccl" if on_gpu else "gloo",
                store=self._store,
                rank=self.rank,
                world_size=self.size,
                timeout=LONGEST_WAIT,
                device_id=self.device if on_gpu else None,
            )
        except distributed.DistError as error:
            raise IGTVError(
                f"the {self.size} processes did not find each other: {error}",
                remedy="give torchrun the same --nnodes, --rdzv-id and --rdzv-endpoint on every machine",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # after an error the others may be anywhere; waiting for them could hang
        if error is None and distributed.is_initialized():
            distributed.destroy_process_group()

    def first_to_fail(self) -> bool:
        """Whether no other process has asked this before: the first has the cause, the others follow."""
        if self._store is None:
            return self.rank == 0  # before there is a group, every process has the same error
        try:
            return self._store.add("nnunet_igtv/failed", 1) == 1
        except RuntimeError:  # the store went with the machine that held it
            return True

    def lost_another(self, error: BaseException) -> bool:
        """Whether an error says that another process is gone or does not answer."""
        return self._store is not None and (
            isinstance(error, distributed.DistError)
            or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
        )


def _number(name: str) -> int:
    text = os.environ.get(name) or "0"
    if not text.isdecimal():
        raise IGTVError(f"{name}={text!r} is not a number", remedy="start several processes with torchrun")
    return int(text)


def own_device(kind: str, local_rank: int, processes: int) -> torch.device:
    """The device of the process with that rank on its machine.

    Raises:
        IGTVError: there is none for it.
    """
    if kind == "mps" and processes > 1:
        raise IGTVError("several processes cannot share mps", remedy="start one, or use -device cpu")
    if kind != "cuda":
        return torch.device(kind)
    here = torch.cuda.device_count()
    if here == 0:
        raise IGTVError(
            "PyTorch finds no CUDA device on this machine", remedy="use a machine with a GPU, or -device cpu"
        )
    if local_rank >= here:
        raise IGTVError(
            f"this machine has {here} CUDA devices, and process {local_rank + 1} on it wants one of its own",
            remedy="start fewer with torchrun --nproc-per-node",
        )
    return torch.device("cuda", local_rank)
