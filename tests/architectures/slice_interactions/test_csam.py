"""CSAM's slice gate: drawn in training, its mean at prediction."""

import pytest
import torch

from nnunet_igtv.architectures.slice_interactions.csam import SliceGate


def test_a_fresh_gate_is_drawn_near_one_in_training_only(noise):
    gate, x = SliceGate(), noise(400, 5, 2, 2, 8).float()
    torch.manual_seed(0)
    drawn = (gate(x) / x).detach()[:, :, 0, 0, 0]
    assert drawn.mean() == pytest.approx(1, abs=0.005)
    assert drawn.std() == pytest.approx(0.025, rel=0.1)
    assert torch.equal(gate.eval()(x), x)


def test_draws_have_the_mean_and_the_covariance_that_the_layers_say(noise):
    gate = SliceGate()
    parts = 0.5 * noise(1, 7, 3)  # mean, log variance, five factors; three slices
    drawn = gate._logits(parts.expand(40000, 7, 3))
    mean, factors = parts[0, 0], parts[0, 2:]
    expected = factors.T @ factors + (parts[0, 1] - 6).exp().diag()
    assert torch.allclose(drawn.mean(0), mean, atol=0.02)
    assert torch.allclose(drawn.T.cov(), expected, atol=0.05)
