import pytest
import torch

from nnunet_igtv.architectures import build_network
from nnunet_igtv.trainers.optimisation import WarmUpCosine, new_parameters, parameter_groups


@pytest.fixture(scope="module")
def network():
    return build_network("nano", 2)


def test_every_parameter_is_in_exactly_one_group(network):
    new = {name for name, _ in network.named_parameters() if name.startswith("slice_interaction")}
    groups = parameter_groups(network, new, 1e-3, 0.1)
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    for group in groups:
        assert group["start"] == 0
        assert group["lr"] == pytest.approx(1e-3 if group["origin"] == "new" else 1e-4)
        assert (set(group["names"]) <= new) == (group["origin"] == "new")


def test_from_scratch_there_is_one_learning_rate(network):
    assert {group["lr"] for group in parameter_groups(network, None, 1e-3, 0.1)} == {1e-3}


@pytest.mark.parametrize("new", [None, {"decoder.seg_layers.0.weight"}])
def test_layers_with_a_factor_of_their_own_learn_so_much_faster_than_others_of_their_origin(network, new):
    groups = parameter_groups(network, new, 1e-3, 0.1, own_factors={"slice_interaction.": 5.0})
    for group in groups:
        own = {name.startswith("slice_interaction.") for name in group["names"]}
        rate = 1e-3 if group["origin"] == "new" else 1e-4
        assert group["lr"] == pytest.approx(rate * (5 if own == {True} else 1))
        assert len(own) == 1


def test_matrices_decay_and_biases_norms_and_state_matrices_do_not(network):
    groups = parameter_groups(network, None, 1e-3, 0.1)
    decaying = {name for group in groups if "weight_decay" not in group for name in group["names"]}
    for name, parameter in network.named_parameters():
        last = name.rsplit(".", 1)[-1]
        if parameter.ndim == 1 or last in ("A_logs", "Ds", "dt_projs_bias", "norm_weight", "norm_bias"):
            assert name not in decaying
        elif ".conv." in name or last in ("x_proj_weight", "embed_weight"):
            assert name in decaying


def test_a_checkpoints_optimiser_state_says_what_was_new(network):
    new = {"decoder.seg_layers.0.weight", "encoder.patch_embed.conv.bias"}
    optimizer = torch.optim.AdamW(parameter_groups(network, new, 1e-3, 0.1))
    assert new_parameters(optimizer.state_dict()) == new


def test_only_the_transferred_part_of_the_encoder_starts_later(network):
    new = {"encoder.patch_embed.conv.bias", "decoder.seg_layers.0.weight"}
    late = {
        name
        for group in parameter_groups(network, new, 1e-3, 0.1, 5)
        for name in group["names"]
        if group["start"]
    }
    assert late == {
        name for name, _ in network.named_parameters() if name.startswith("encoder.") and name not in new
    }


def test_a_group_that_starts_later_keeps_its_weights_until_then(network):
    frozen, free = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = torch.optim.AdamW(
        [{"params": [frozen], "start": 4.0}, {"params": [free]}], 0.1, weight_decay=1.0
    )
    schedule = WarmUpCosine(optimizer, 40)
    for step in range(8):
        schedule.step(step / 2)
        (frozen * free).sum().backward()
        optimizer.step()
    assert torch.equal(frozen, torch.ones(3))
    assert not torch.equal(free, torch.ones(3))
    assert schedule.factor(4, 4) < schedule.factor(5, 4) < schedule.factor(6, 4) == schedule.factor(6)
    schedule.step(5)
    optimizer.step()
    assert not torch.equal(frozen, torch.ones(3))


@pytest.mark.law
@pytest.mark.parametrize("epochs", [1, 5, 100, 1000])
def test_the_schedule_rises_to_one_then_falls_to_zero(epochs):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmUpCosine(optimizer, epochs)
    factors = [schedule.factor(epochs * i / 200) for i in range(201)]
    peak = factors.index(max(factors))
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert 0 < factors[0] < 0.1
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert factors[-1] == pytest.approx(0, abs=1e-9)
    schedule.step(epochs / 2)
    assert optimizer.param_groups[0]["lr"] == 2.0 * schedule.factor(epochs / 2)
