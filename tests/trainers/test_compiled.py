"""A trainer compiles the parts of its network where nnU-Net would compile the whole."""

import dataclasses
import functools

import numpy as np
import torch
from torch._dynamo.utils import counters

from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.trainers import IGTVTrainerNano


def trained(trainer):
    """Losses and weights of two training steps with a validation step after each."""
    trainer.initialize()
    trainer.on_train_start()
    losses = []
    for _ in range(2):
        trainer.on_train_epoch_start()
        losses.append(trainer.train_step(next(trainer.dataloader_train))["loss"])
        with torch.no_grad():
            trainer.on_validation_epoch_start()
            losses.append(trainer.validation_step(next(trainer.dataloader_val))["loss"])
    return losses, trainer.bare_network.state_dict()


def test_a_trainer_compiles_regions_where_nnunet_compiles(make_trainer, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_igtv_seed", "0")
    few = dataclasses.replace(PRESETS["nano"], encoder_depths=(1, 0, 0, 0), decoder_depths=(0, 0, 1))
    monkeypatch.setitem(PRESETS, "nano", few)
    losses, weights = trained(make_trainer(IGTVTrainerNano))
    assert "torch.compile" not in capsys.readouterr().out
    monkeypatch.setattr(IGTVTrainerNano, "_do_i_compile", lambda self: True)  # nnU-Net does not, on a CPU
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    found, compiled = trained(make_trainer(IGTVTrainerNano))
    assert "compiled in the first training step" in capsys.readouterr().out
    assert counters["stats"]["unique_graphs"] > 0
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    assert list(compiled) == list(weights)
    for name, tensor in weights.items():
        assert torch.allclose(compiled[name], tensor, rtol=1e-3, atol=1e-4), name
