"""Trainers of a few steps, found by nnU-Net in this folder, next to the package's own."""

import os
import signal
import sys
from pathlib import Path
from unittest import mock

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_igtv.trainers import (
    GTVPretrainTrainerNano,
    IGTVTrainerNano,
    IGTVTrainerNanoDeepSupervision,
    IGTVTransferTrainerNano,
)

# not where a test imports this, nor where a forked process could not use the GPU
if Path(sys.argv[0]).name == "nnUNetv2_train" and not torch.cuda.is_available():
    sys.path.append(str(Path(__file__).parents[2]))
    from forking import fork_in_place_of_spawn

    fork_in_place_of_spawn()


class FewSteps:
    epochs, iterations, validation_iterations = 3, 2, 1
    transferred_factor = 0.1  # as the full-size trainers, so that the two rates differ


class OneStep:
    epochs, iterations, validation_iterations = 1, 1, 1


class Eager:
    """Finds its structure everywhere, where after one step chance decides whether there is any."""

    def on_train_start(self):
        super().on_train_start()
        decoder = self.network.decoder
        (head,) = decoder.seg_layers  # it has no bias: that of the norm before it does its work
        decoder.up.norm.bias.data = 2 * (head.weight[1] - head.weight[0]).detach().sign()


class GTVPretrainTrainerFewSteps(FewSteps, GTVPretrainTrainerNano): ...


class IGTVTransferTrainerFewSteps(FewSteps, IGTVTransferTrainerNano): ...


class GTVPretrainTrainerNanoOneStep(OneStep, GTVPretrainTrainerNano): ...


class IGTVTransferTrainerNanoOneStep(Eager, OneStep, IGTVTransferTrainerNano): ...


class IGTVTrainerNanoOneStep(OneStep, IGTVTrainerNano): ...


class IGTVTrainerNanoDeepSupervisionOneStep(OneStep, IGTVTrainerNanoDeepSupervision): ...


class IGTVTrainerEager(Eager, OneStep, IGTVTrainerNano): ...


class IGTVTrainerMortal(FewSteps, IGTVTrainerNano):
    """Is killed, as by SIGKILL, half-way through what the variable KILLED_WHILE says."""

    def save_checkpoint(self, filename):
        if os.environ.get("KILLED_WHILE") != "writing" or self.current_epoch == 0:
            return super().save_checkpoint(filename)
        save = torch.save

        def save_half(content, target):
            save(content, target)
            os.truncate(target, Path(target).stat().st_size // 2)
            _die()

        with mock.patch("torch.save", save_half):
            return super().save_checkpoint(filename)

    def perform_actual_validation(self, save_probabilities=False):
        if os.environ.get("KILLED_WHILE") != "validating":
            return super().perform_actual_validation(save_probabilities)
        with mock.patch.object(nnUNetPredictor, "predict_sliding_window_return_logits", _die):
            return super().perform_actual_validation(save_probabilities)


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
