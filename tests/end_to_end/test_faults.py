"""Runs that are killed by SIGKILL where it hurts most, and what `--c` makes of them."""

import signal

import pytest
import torch

pytestmark = pytest.mark.e2e

TRAINER = "IGTVTrainerMortal"  # of tests/end_to_end/trainers


def content(checkpoint):
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


def train(world, *extra, killed_while="", check=True):
    return world.run(
        *world.training(902, TRAINER, *extra), environment={"KILLED_WHILE": killed_while}, check=check
    )


def test_a_run_survives_a_kill_within_a_checkpoint_and_another_within_the_validation(nnunet_world):
    fold = nnunet_world.fold(902, TRAINER)
    latest, final, summary = (
        fold / name for name in ("checkpoint_latest.pth", "checkpoint_final.pth", "validation/summary.json")
    )

    # half of the second epoch's checkpoint is written
    assert train(nnunet_world, killed_while="writing", check=False).returncode == -signal.SIGKILL
    assert list(fold.glob(".*.partial"))
    kept = content(latest)
    assert kept["current_epoch"] == 1

    # it continues after the first epoch, ends, and is killed while it predicts the validation cases
    killed = train(nnunet_world, "--c", killed_while="validating", check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "Epoch 1" in killed.stdout
    assert "Epoch 0" not in killed.stdout
    assert not list(fold.glob(".*.partial"))  # what the first kill left is gone
    losses = content(final)["logging"]["train_losses"]
    assert len(losses) == 3
    assert losses[:1] == kept["logging"]["train_losses"]
    assert not summary.exists()

    # it trains no more and validates
    weights = content(final)["network_weights"]
    done = train(nnunet_world, "--c")
    assert "Epoch" not in done.stdout
    assert summary.exists()
    after = content(final)
    assert all(torch.equal(after["network_weights"][name], weights[name]) for name in weights)
    assert after["current_epoch"] == 3
