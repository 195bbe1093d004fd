"""The 2.5D rewrite, on nnU-Net 2.8.1's own plans for CT+PET of 512 x 512 x 300 voxels, 0.98 x 0.98 x 3 mm."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_igtv.architectures.memory import planned_bytes, training_bytes
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.plans import LARGEST_BATCH, NETWORK, is_stack_plan, rewrite_plans

DATA = Path(__file__).parent / "data"
ABOUT_THE_DATA = (
    "data_identifier",
    "preprocessor_name",
    "median_image_size_in_voxels",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_seg",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg_kwargs",
    "resampling_fn_probabilities",
    "resampling_fn_probabilities_kwargs",
)


@pytest.fixture(params=["nnUNetPlans", "nnUNetResEncUNetMPlans"])
def plans(request):
    return json.loads((DATA / f"{request.param}.json").read_text())


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres", "3d_lowres"])
def test_a_plan_becomes_a_stack_of_three_slices_of_the_planned_size(plans, configuration):
    planned = plans["configurations"][configuration]
    rewritten = rewrite_plans(plans, configuration, "tiny", "before_head")["configurations"][configuration]
    assert rewritten["patch_size"] == [3, *planned["patch_size"][-2:]]
    assert rewritten["architecture"]["network_class_name"] == NETWORK
    kwargs = rewritten["architecture"]["arch_kwargs"]
    parts = {"slice_interaction": "before_head", "auxiliary_heads": False}
    assert kwargs.items() >= (PRESETS["tiny"].kwargs() | parts).items()
    assert kwargs.keys() == PRESETS["tiny"].kwargs().keys() | parts.keys() | {"checkpointing"}


def test_a_plan_names_its_mixer_where_it_is_not_the_scan(plans):
    """Plans of before there was a choice have no word for it, and stay as they are."""
    twin, ours = (rewrite_plans(plans, "2d", "nano", "before_head", mixer=m) for m in ("convolution", "scan"))
    kwargs = [p["configurations"]["2d"]["architecture"]["arch_kwargs"] for p in (twin, ours)]
    assert kwargs[0] == kwargs[1] | {"mixer": "convolution"}
    with pytest.raises(IGTVError, match="no mixer named 'mamba'"):
        rewrite_plans(plans, "2d", "nano", "before_head", mixer="mamba")


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_what_the_plan_says_about_the_data_stays(plans, configuration):
    rewritten = rewrite_plans(plans, configuration, "tiny", "before_head")
    for key in ABOUT_THE_DATA:
        assert rewritten["configurations"][configuration][key] == plans["configurations"][configuration][key]
    others = set(plans["configurations"]) - {configuration}
    assert all(rewritten["configurations"][name] == plans["configurations"][name] for name in others)
    assert {k: v for k, v in rewritten.items() if k != "configurations"} == {
        k: v for k, v in plans.items() if k != "configurations"
    }


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_rewrite_is_pure_idempotent_and_survives_its_file(plans, configuration):
    before = deepcopy(plans)
    once = rewrite_plans(plans, configuration, "nano", "none")
    assert plans == before
    assert json.loads(json.dumps(once)) == once
    # also for a trainer of another size: the plan that a run began with decides, as on --c
    assert rewrite_plans(once, configuration, "tiny", "before_head") == once


def test_nothing_of_the_rewritten_plan_is_shared_with_the_given_one(plans):
    rewritten = rewrite_plans(plans, "2d", "nano", "before_head")
    rewritten["configurations"]["2d"]["spacing"].append(1.0)
    rewritten["configurations"]["3d_fullres"]["patch_size"].clear()
    assert len(plans["configurations"]["2d"]["spacing"]) == 2
    assert plans["configurations"]["3d_fullres"]["patch_size"]


def test_inherited_entries_are_resolved_as_nnunet_resolves_them(plans):
    plans["configurations"]["mine"] = {"inherits_from": "3d_fullres", "patch_size": [40, 96, 80]}
    plans["configurations"]["grandchild"] = {"inherits_from": "mine", "batch_dice": False}
    resolved = PlansManager(plans).get_configuration("grandchild").configuration
    rewritten = rewrite_plans(plans, "grandchild", "nano", "before_head")["configurations"]["grandchild"]
    assert rewritten["patch_size"] == [3, 96, 80]
    assert all(rewritten[key] == resolved[key] for key in ABOUT_THE_DATA)


def test_nnunet_builds_our_network_from_the_plan(plans):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    rewritten = rewrite_plans(plans, "2d", "nano", "none")
    plan = PlansManager(rewritten).get_configuration("2d")
    network = get_network_from_plans(
        plan.network_arch_class_name,
        plan.network_arch_init_kwargs,
        plan.network_arch_init_kwargs_req_import,
        input_channels=2,
        output_channels=3,
        deep_supervision=False,
    )
    assert f"{type(network).__module__}.{type(network).__name__}" == NETWORK
    assert not list(network.slice_interaction.parameters())


def test_a_user_chooses_slices_and_memory_in_the_plans_file(plans):
    plans["configurations"]["2d"]["igtv"] = {"slices": 5, "gpu_memory_target_in_gb": 1000}
    roomy = rewrite_plans(plans, "2d", "tiny", "before_head")["configurations"]["2d"]
    plans["configurations"]["2d"]["igtv"] = {"slices": 5, "gpu_memory_target_in_gb": 1}
    tight = rewrite_plans(plans, "2d", "tiny", "before_head")["configurations"]["2d"]
    assert roomy["patch_size"] == [5, 512, 512]
    assert roomy["batch_size"] > tight["batch_size"] == 2


def test_a_user_chooses_the_batch_for_all_devices_and_the_rest_stays(plans):
    usual = rewrite_plans(plans, "2d", "tiny", "before_head")["configurations"]["2d"]
    plans["configurations"]["2d"]["igtv"] = {"batch_size": 16}
    wide = rewrite_plans(plans, "2d", "tiny", "before_head")["configurations"]["2d"]
    assert wide.pop("igtv")
    assert wide == usual | {"batch_size": 16}
    assert usual["batch_size"] != 16


def test_checkpointing_comes_before_a_batch_that_does_not_fit(plans):
    plans["configurations"]["2d"]["igtv"] = {"gpu_memory_target_in_gb": 200}
    roomy = rewrite_plans(plans, "2d", "tiny", "before_head")["configurations"]["2d"]
    plans["configurations"]["2d"]["igtv"] = {"gpu_memory_target_in_gb": 16}
    tight = rewrite_plans(plans, "2d", "tiny", "before_head")["configurations"]["2d"]
    for configuration, memory, checkpointing in ((roomy, 200, False), (tight, 16, True)):
        kwargs = configuration["architecture"]["arch_kwargs"]
        assert kwargs["checkpointing"] is checkpointing
        needed = training_bytes(kwargs, configuration["batch_size"], *configuration["patch_size"])
        assert needed <= memory * 1e9
    assert tight["batch_size"] >= 2


def test_a_stack_shrinks_only_where_nothing_else_fits_the_memory(plans):
    found = {}
    for memory in (24, 6, 1):
        plans["configurations"]["2d"]["igtv"] = {"gpu_memory_target_in_gb": memory}
        chosen = rewrite_plans(plans, "2d", "tiny", "before_head")["configurations"]["2d"]
        found[memory] = (chosen["patch_size"][0], chosen["batch_size"])
    assert found == {24: (3, found[24][1]), 6: (2, 2), 1: (1, 2)}


@pytest.mark.parametrize("memory", [8, 11, 24, 40, 80])
def test_half_precision_fits_more_stacks_of_the_same_slices(plans, memory):
    """As many as fit: neither a step nor its repetition exceeds the memory, and one more stack would."""
    for preset, slices in (("nano", 12), ("tiny", 3), ("tiny", 5), ("tiny", 12), ("base", 5)):
        plans["configurations"]["2d"]["igtv"] = {"gpu_memory_target_in_gb": memory}
        found = [
            rewrite_plans(plans, "2d", preset, "before_head", slices=slices, half_precision=half)
            for half in (False, True)
        ]
        single, half = (found["configurations"]["2d"] for found in found)
        assert half["patch_size"] == single["patch_size"]
        fields, batch = half["architecture"]["arch_kwargs"], half["batch_size"]
        assert not fields["checkpointing"]  # half precision keeps less than single precision recomputing
        assert batch >= single["batch_size"]
        assert planned_bytes(fields, batch, *half["patch_size"], half=True) <= memory * 1e9
        if batch < LARGEST_BATCH:
            assert planned_bytes(fields, batch + 1, *half["patch_size"], half=True) > memory * 1e9


@pytest.mark.parametrize(("memory", "slices"), [(24, 5), (10, 4), (1, 1)])
def test_a_trainer_asks_for_slices_and_gets_fewer_only_where_the_memory_is_small(plans, memory, slices):
    plans["configurations"]["2d"]["igtv"] = {"gpu_memory_target_in_gb": memory}
    chosen = rewrite_plans(plans, "2d", "tiny", "before_head", slices=5)["configurations"]["2d"]
    assert chosen["patch_size"][0] == slices


def test_the_slices_of_the_plans_file_come_before_those_of_the_trainer(plans):
    plans["configurations"]["2d"]["igtv"] = {"slices": 7}
    rewritten = rewrite_plans(plans, "2d", "nano", "before_head", slices=5)
    assert rewritten["configurations"]["2d"]["patch_size"][0] == 7


@pytest.mark.parametrize(("old", "same_as"), [(True, "stages"), (False, "none")])
def test_plans_of_the_first_version_pass_through_and_build_what_they_did(plans, old, same_as):
    """They say true or false where a name is now."""
    from nnunet_igtv.architectures.igtv_net import IGTVNet

    first = rewrite_plans(plans, "2d", "nano", same_as)
    arguments = first["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert arguments["slice_interaction"] == same_as
    expected = IGTVNet(2, 2, **arguments).state_dict()
    arguments["slice_interaction"] = old
    assert rewrite_plans(first, "2d", "nano", "before_head") == first
    assert IGTVNet(2, 2, **arguments).state_dict().keys() == expected.keys()
    needed = training_bytes(arguments, 2, 3, 128, 128)
    assert needed == training_bytes(arguments | {"slice_interaction": same_as}, 2, 3, 128, 128)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_no_batch_is_below_two(plans, preset):
    sizes = []
    for slices in (1, 3, 5, 9, 17):
        plans["configurations"]["2d"]["igtv"] = {"slices": slices}
        sizes.append(rewrite_plans(plans, "2d", preset, "before_head")["configurations"]["2d"]["batch_size"])
    assert min(sizes) >= 2


def test_a_plan_that_names_our_network_is_used_as_it_stands(plans):
    mine = rewrite_plans(plans, "2d", "nano", "before_head")
    mine["configurations"]["2d"]["architecture"]["arch_kwargs"]["width"] = 40
    mine["configurations"]["2d"]["patch_size"] = [7, 320, 256]
    assert rewrite_plans(mine, "2d", "tiny", "none") == mine
    assert is_stack_plan(mine["configurations"]["2d"])
    assert not is_stack_plan(plans["configurations"]["2d"])


@pytest.mark.parametrize(
    ("change", "configuration", "preset", "message"),
    [
        (lambda c: None, "3d_cascade_fullres", "tiny", "cascade"),
        (lambda c: None, "4d", "tiny", "no configuration '4d'.*2d"),
        (lambda c: None, "2d", "huge", "huge.*nano"),
        (
            lambda c: c["2d"].update(inherits_from="a") or c.update(a={"inherits_from": "2d"}),
            "2d",
            "tiny",
            "circle",
        ),
        (lambda c: c["2d"].update(igtv={"slices": 0}), "2d", "tiny", "igtv"),
        (lambda c: c["2d"].update(igtv={"slice": 5}), "2d", "tiny", "igtv"),
        (lambda c: c["2d"].update(igtv={"batch_size": 1}), "2d", "tiny", "batch_size"),
        (lambda c: c["2d"].update(igtv={"gpu_memory_target_in_gb": "24"}), "2d", "tiny", "igtv"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_sentence(plans, change, configuration, preset, message):
    change(plans["configurations"])
    with pytest.raises(IGTVError, match=message):
        rewrite_plans(plans, configuration, preset, "before_head")


def test_an_unknown_slice_interaction_is_refused_with_those_that_exist(plans):
    existing = "before_head, stages, cross_slice_attention, csam, none"
    with pytest.raises(IGTVError, match=f"'attention'.*{existing}"):
        rewrite_plans(plans, "2d", "nano", "attention")
