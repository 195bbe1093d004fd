"""Trainers for runs in several processes, found by nnU-Net in this folder."""

import atexit
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import IGTVTrainerNano, IGTVTransferTrainerNano

if "RANK" in os.environ:  # a process of torchrun's, not that of the tests
    sys.path.append(str(Path(__file__).parents[2]))
    from forking import fork_in_place_of_spawn

    fork_in_place_of_spawn()


class IGTVTransferTrainerSameBatches(IGTVTransferTrainerNano):
    """Sees the same samples in one process and in several, interrupted or not.

    Every process draws the whole batch, seeded by the epoch, augmentation and all, and keeps its share.
    """

    epochs, iterations, validation_iterations = 4, 2, 1
    transferred_factor = 0.1  # as the full-size trainers; at ten times the rate, so grows what rounding began

    def get_dataloaders(self):
        share, whole = self.batch_size, self.configuration_manager.batch_size
        own = slice(self.local_rank * share, (self.local_rank + 1) * share)
        self.batch_size, self.oversample_foreground_percent = whole, 0.33
        loaders = super().get_dataloaders()
        self.batch_size = share
        return tuple(shares(loader, own) for loader in loaders)

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        torch.manual_seed(self.current_epoch)
        np.random.seed(self.current_epoch)


def shares(loader, own):
    for batch in loader:
        yield {key: value[own] for key, value in batch.items()}


class IGTVTrainerFailsInOne(IGTVTrainerNano):
    """Rank 1 meets an error that rank 0 knows nothing of, and takes its time to end."""

    def get_dataloaders(self):
        if self.local_rank == 1:
            atexit.register(time.sleep, 3)
            raise IGTVError("something is wrong here alone", case="case_001", remedy="look at it")
        return super().get_dataloaders()
