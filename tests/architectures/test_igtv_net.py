"""The network as a whole: any size; what must not matter does not, what must matter does."""

import re

import pytest
import torch

from nnunet_igtv.architectures import build_network
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.architectures.slice_interactions import DEFAULT, SLICE_INTERACTIONS
from nnunet_igtv.errors import IGTVError

INTERACTIONS = [name for name in SLICE_INTERACTIONS if name != "none"]


def close(a, b):
    return torch.allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.law
@pytest.mark.parametrize("size", [(1, 32, 32), (1, 33, 70), (2, 64, 31), (3, 5, 40), (5, 1, 1), (4, 65, 32)])
def test_any_number_of_slices_rows_and_columns(small_net, noise, size):
    with torch.no_grad():
        logits = small_net(num_classes=3).double()(noise(2, 2, *size))
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


@pytest.mark.law
def test_batch_size_and_order_do_not_matter_in_eval_mode(small_net, noise):
    net, x = small_net().double(), noise(3, 2, 2, 40, 33)
    with torch.no_grad():
        together = net(x)
        assert close(torch.cat([net(stack[None]) for stack in x]), together)
        assert close(net(x.flip(0)).flip(0), together)


@pytest.mark.law
def test_modalities_are_told_apart(small_net, noise):
    net, x = small_net().double(), noise(1, 2, 2, 32, 32)
    with torch.no_grad():
        assert (net(x) - net(x.flip(1))).abs().max() > 1e-3


@pytest.mark.law
@pytest.mark.parametrize("interaction", SLICE_INTERACTIONS)
def test_slices_interact_through_the_slice_interaction_only(small_net, noise, interaction):
    net, x = small_net(slice_interaction=interaction).double(), noise(1, 2, 4, 32, 32)
    changed = x.clone()
    changed[:, :, 1] += noise(1, 2, 32, 32, seed=2)
    with torch.no_grad():
        difference = (net(x) - net(changed)).abs().amax(dim=(0, 1, 3, 4))  # per slice
    assert difference[1] > 1e-3
    for neighbour in (0, 2):
        assert difference[neighbour] > 1e-6 if interaction != "none" else difference[neighbour] == 0


@pytest.mark.law
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_a_stack_upside_down_with_flipped_weights_gives_the_result_upside_down(small_net, noise, interaction):
    net, x = small_net(slice_interaction=interaction).double(), noise(1, 2, 3, 32, 40)
    with torch.no_grad():
        expected = net(x).flip(2)
        assert not close(net(x.flip(2)), expected)
        net.load_state_dict({key: upside_down(key, value) for key, value in net.state_dict().items()})
        assert close(net(x.flip(2)), expected)


def upside_down(key, value):
    """A weight of the network that takes what is above for what is below."""
    if key.endswith(".offsets"):  # (heads, offsets)
        return value.flip(1)
    across = r"\.(channel_)?across\.|\.spatial_gate\.|\.distribution\."
    return value.flip(2) if key.endswith("weight") and re.search(across, key) else value


@pytest.mark.law
@pytest.mark.parametrize(
    ("size", "interaction"),
    [*(((72, 40), name) for name in INTERACTIONS), ((32, 96), DEFAULT), ((129, 33), DEFAULT)],
)
def test_transposed_input_with_transposed_weights_gives_transposed_output(
    small_net, noise, size, interaction
):
    net, x = small_net(slice_interaction=interaction).double(), noise(1, 2, 2, *size)
    with torch.no_grad():
        expected = net(x).transpose(-1, -2)
        assert not close(net(x.transpose(-1, -2)), expected)  # the weights do have directions
        net.load_state_dict({key: transposed(key, value).clone() for key, value in net.state_dict().items()})
        assert close(net(x.transpose(-1, -2)), expected)


def transposed(key, value):
    """A weight of the network that takes rows for columns: directions, kernels, grids, orders of pixels."""
    if ".rectification.scan." in key:  # along channels, not over pixels
        return value
    if key.endswith(("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")):
        return value.unflatten(0, (4, value.shape[0] // 4))[[1, 0, 3, 2]].flatten(0, 1)
    if ".rectification.norm_" in key or key.endswith("rectification.embed_weight"):
        return value.transpose(-1, -2)
    if ".interaction.inner_norm." in key:  # (4 rows, 4 columns, C)
        return value.unflatten(0, (4, 4, -1)).transpose(0, 1).flatten()
    if ".downsample." in key:  # the 4 pixels of a 2x2 patch
        return value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].flatten(-2)
    if key == "decoder.expand.linear.weight":  # (2 rows, 2 columns, C/2)
        return value.unflatten(0, (2, 2, -1)).transpose(0, 1).flatten(0, 2)
    if value.ndim >= 4 and ".across." not in key:  # whose kernel is (slices, 1)
        return value.transpose(-1, -2)
    return value


@pytest.mark.law
@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_a_fresh_slice_interaction_changes_nothing(small_net, noise, interaction):
    without = small_net(slice_interaction="none")
    net, x = small_net(fresh=True, slice_interaction=interaction), noise(2, 2, 3, 40, 33).float()
    fresh = {key: value for key, value in net.state_dict().items() if key.startswith("slice_interaction.")}
    net.load_state_dict(without.state_dict() | fresh)
    with torch.no_grad():
        assert torch.equal(net(x), without(x))


def test_no_shape_of_a_weight_depends_on_the_input(small_net, noise):
    net = small_net()
    before = {key: value.shape for key, value in net.state_dict().items()}
    with torch.no_grad():
        net(noise(1, 2, 1, 50, 90).float())
    assert {key: value.shape for key, value in net.state_dict().items()} == before


def test_deep_supervision_gives_a_list_of_logits_while_it_is_on(small_net, noise):
    net, x = small_net(auxiliary_heads=True, deep_supervision=True), noise(1, 2, 2, 64, 32).float()
    with torch.no_grad():
        outputs = net(x)
        net.decoder.deep_supervision = False
        alone = net(x)
    assert [tuple(y.shape[2:]) for y in outputs] == [(2, 64, 32), (2, 16, 8), (2, 8, 4), (2, 4, 2)]
    assert torch.equal(outputs[0], alone)
    plain = small_net().state_dict()
    more = {key for key in net.state_dict() if key not in plain}
    assert {key for key in more if key.startswith("decoder.")} == {
        f"decoder.seg_layers.{i}.weight" for i in (1, 2, 3)
    }
    assert all(".seg_layers." in key for key in more)  # so weights without them pass nnU-Net's strict loader


def test_the_auxiliary_heads_see_the_neighbours_too(small_net, noise):
    net = small_net(auxiliary_heads=True, deep_supervision=True).double()
    x = noise(1, 2, 3, 64, 64)
    changed = x.clone()
    changed[:, :, 0] += noise(1, 2, 64, 64, seed=2)
    with torch.no_grad():
        for before, after in zip(net(x), net(changed), strict=True):
            assert (before - after)[:, :, 1].abs().max() > 1e-6


@pytest.mark.parametrize(("old", "name"), [(True, "stages"), (False, "none")])
def test_what_the_first_plans_hold_builds_the_network_that_it_did(small_net, noise, old, name):
    net, x = small_net(slice_interaction=old), noise(1, 2, 3, 32, 32).float()
    same = small_net(slice_interaction=name, fresh=True)
    same.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(net(x), same(x))


def test_prediction_builds_the_network_that_deep_supervision_trained(small_net, noise):
    trained = small_net(auxiliary_heads=True, deep_supervision=True)
    net, x = small_net(auxiliary_heads=True, deep_supervision=False, fresh=True), noise(1, 2, 2, 32, 32)
    net.load_state_dict(trained.state_dict())  # strictly, as nnU-Net's predictor does
    with torch.no_grad():
        assert torch.equal(net(x.float()), trained(x.float())[0])


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_every_parameter_learns(small_net, noise, interaction):
    net = small_net(slice_interaction=interaction).train()
    net(noise(2, 2, 2, 64, 64).float()).square().sum().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # a window's token has no neighbour on the two coarsest maps of this small image, so its decay is unused
    assert still == [f"cross_modal.{stage}.interaction.outer_scan.A_logs" for stage in (2, 3)]


def test_one_small_slice_is_enough_to_train_on(small_net, noise):
    net = small_net().train()
    net(noise(1, 2, 1, 32, 32).float()).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def test_checkpointing_changes_memory_not_results(small_net, noise):
    x = noise(2, 2, 2, 32, 32).float()
    gradients = []
    for checkpointing in (False, True):
        net = small_net(checkpointing=checkpointing).train()
        net(x).square().mean().backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4, atol=1e-6), name


def test_stochastic_depth_acts_in_training_only_and_keeps_the_mean(small_net, noise):
    net, x = small_net(encoder_drop_path=0.5), noise(1, 2, 1, 32, 32).float()
    block = net.encoder.stages[-1].blocks[-1]
    assert block.drop_path.rate == 0.5
    with torch.no_grad():
        assert torch.equal(net(x), net(x))
        ones = torch.ones(2000, 1, 1, 1)
        dropped = block.drop_path.train()(ones)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert dropped.mean() == pytest.approx(1, abs=0.1)


def test_wrong_channels_and_presets_are_refused(small_net, noise):
    with pytest.raises(IGTVError, match="2 image channels"):
        IGTVNet(1, 2, **PRESETS["nano"].kwargs())
    with pytest.raises(IGTVError, match="no slice interaction named 'attention'"):
        build_network("nano", 2, "attention")
    with pytest.raises(IGTVError, match="nano, tiny, small, base"):
        build_network("huge", 2)
    with pytest.raises(ValueError, match="CT and PET"):
        small_net()(noise(1, 3, 1, 32, 32).float())


# ------------------------------------------------------------------------------------------ without a PET


def with_pet(x, value):
    """The same stacks, the second of which has a constant PET."""
    x = x.clone()
    x[1, 1] = value
    return x


@pytest.mark.law
@pytest.mark.parametrize("value", [3.7, -0.61803, 1e4])
def test_the_result_without_a_pet_does_not_depend_on_the_value_that_stands_for_it(small_net, noise, value):
    net, x = small_net(optional_pet=True).double(), noise(3, 2, 2, 40, 33)
    padded = with_pet(x, value)
    padded[1, 1, :, 30:] = 0  # nnU-Net pads with zeros
    rounded = with_pet(x, value)
    rounded[1, 1] *= 1 + 1e-6 * noise(2, 40, 33)  # as resampling does
    with torch.no_grad():
        expected, with_it = net(with_pet(x, 0)), net(x)
        for other in (with_pet(x, value), padded, rounded):
            assert torch.equal(net(other), expected)
    assert torch.equal(expected[[0, 2]], with_it[[0, 2]])  # the stacks beside it keep theirs
    assert (expected[1] - with_it[1]).abs().max() > 1e-3


@pytest.mark.law
def test_a_stack_with_a_pet_gives_what_it_gave_without_the_option(small_net, noise):
    x = noise(2, 2, 2, 32, 40)
    plain, optional = small_net().double(), small_net(optional_pet=True).double()
    state = plain.state_dict()
    missing = optional.load_state_dict(state, strict=False).missing_keys
    assert missing == [f"cross_modal.{k}.no_pet" for k in range(4)]
    with torch.no_grad():
        assert torch.equal(plain(x), optional(x))
        assert not torch.equal(plain(with_pet(x, 0)), plain(with_pet(x, 3.7)))


def test_what_stands_for_the_pet_is_learned(small_net, noise):
    net = small_net(optional_pet=True, fresh=True).train()
    net(with_pet(noise(2, 2, 2, 32, 32), 1.5).float()).square().mean().backward()
    gradients = [cross.no_pet.grad for cross in net.cross_modal]
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)
