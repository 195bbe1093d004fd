"""Batches of stacks: reproducible where a seed is set, and no worker that outlives its run."""

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from nnunet_igtv.errors import IGTVError

SEED_VARIABLE = "nnUNet_igtv_seed"
WATCH_SECONDS = 1.0


class StackLoader(nnUNetDataLoader):
    """nnU-Net's loader of patches, safe in a forked worker.

    A worker ends when the training process is gone (killed, say). It computes in one thread: a second would
    hang, waiting for OpenMP threads that only the process it was forked from has. PyTorch's random numbers,
    which a fork inherits, follow NumPy's there, which batchgenerators has seeded for each worker.
    """

    def set_thread_id(self, thread_id: int) -> None:
        super().set_thread_id(thread_id)
        torch.set_num_threads(1)
        torch.manual_seed(int(np.random.randint(2**31)))
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """Runs in a worker: ends it as soon as another process than `parent` has adopted it."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


class OrderedAugmenter(MultiThreadedAugmenter):
    """batchgenerators' ordered augmenter, which would hang where a worker is killed at a bad moment.

    Its thread that fetches the batches ends without a message when a worker is gone in the middle of one.
    """

    def _start(self) -> None:
        super()._start()
        threading.Thread(target=_end_without, args=(self._processes, self.abort_event), daemon=True).start()


def _end_without(workers: Sequence[Any], abort: Any) -> None:
    """Makes an augmenter end with an error as soon as one of its workers is gone."""
    while not abort.is_set():
        if not all(worker.is_alive() for worker in workers):
            abort.set()
        time.sleep(WATCH_SECONDS)


def seed_from_environment() -> int | None:
    """The seed in `nnUNet_igtv_seed`; None (every run differs, as nnU-Net's do) where it is not set.

    Raises:
        IGTVError: it is not a whole number >= 0.
    """
    text = os.environ.get(SEED_VARIABLE, "")
    if not text:
        return None
    if not text.isdecimal():
        raise IGTVError(
            f"{SEED_VARIABLE}={text!r} is not a seed", remedy="set a whole number >= 0, or unset it"
        )
    return int(text)


def batches(loader: nnUNetDataLoader, workers: int, cached: int, seed: int | None, pin_memory: bool) -> Any:
    """An endless iterator of batches that `workers` processes prepare ahead.

    With a seed, batches come in a fixed order with fixed content for that number of workers.
    """
    if workers == 0:
        return SingleThreadedAugmenter(loader, None)
    if seed is None:
        return NonDetMultiThreadedAugmenter(
            loader, None, num_processes=workers, num_cached=cached, pin_memory=pin_memory, wait_time=0.002
        )
    return OrderedAugmenter(
        loader,
        None,
        num_processes=workers,
        num_cached_per_queue=max(1, cached // workers),
        seeds=[seed + worker for worker in range(workers)],
        pin_memory=pin_memory,
        wait_time=0.002,
    )
