"""Plans and dataset.json may name code of nnU-Net, PyTorch's layers and this package, and no other."""

import json

import pytest
from small_model import planned

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.plans import NETWORK
from nnunet_igtv.weights.trust import check_model


def with_network(model, name):
    """nnU-Net's own plans in the model folder, with another network."""

    def change(_, stock):
        stock["architecture"]["network_class_name"] = name

    return planned(model, change)


@pytest.mark.parametrize(
    "architecture",
    [
        {"network_class_name": "subprocess.check_call", "arch_kwargs": {"args": ["true"]}},
        {"network_class_name": "os.system"},
        {"network_class_name": NETWORK, "arch_kwargs": {"a": "os.system"}, "_kw_requires_import": ["a"]},
    ],
)
def test_plans_name_networks_only(model, architecture):
    plans = {"configurations": {"2d": {"architecture": architecture}}}
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(IGTVError, match="called"):
        check_model(model)


@pytest.mark.parametrize(
    "network",
    [
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        # where older versions had it: nnU-Net finds it in the newer file
        "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet",
    ],
)
def test_nnunets_own_plans_are_taken(model, network):
    assert check_model(with_network(model, network)).network == {"2d": network}


NOT_NAMES_OF_LAYERS = [
    "torch.nn.functional.torch.os.system",  # by way of what a module imports
    "torch.nn.modules.torch.nn.Conv2d",
    "torch.nn.functional.relu",
    "torch.nn.Module.__init__",
    "torch.nn.parallel.DataParallel",
    "torch.nn.modules.conv",
    "torch.nn.modules.conv.",
    "torch.nn.modules.conv.Conv9d",
    "torch..nn.Conv2d",
    "torch.nn" + ".conv" * 5000,
    "torch.nn.modules.activation.\N{CYRILLIC CAPITAL LETTER ER}ReLU",
    "exec",
    ["torch.nn.Conv2d"],
    5,
]


@pytest.mark.parametrize("name", NOT_NAMES_OF_LAYERS)
@pytest.mark.parametrize("field", ["nonlin", "conv_op"])
def test_what_a_layers_name_leads_to_counts(model, field, name):
    def change(_, stock):
        stock["architecture"]["arch_kwargs"][field] = name
        # nnUNetTrainerBN looks it up all the same
        stock["architecture"]["_kw_requires_import"].remove("conv_op")

    with pytest.raises(IGTVError, match=r"would have .* called.*plans\.json"):
        check_model(planned(model, change))


@pytest.mark.parametrize(
    "name",
    [
        "dynamic_network_architectures.architectures.unet.nn.Sequential",
        "dynamic_network_architectures.architectures.unet.np.load",
        "dynamic_network_architectures.architectures.unet.PlainConvUNet.forward",
        "dynamic_network_architectures.building_blocks.helper.convert_dim_to_conv_op",
        "dynamic_network_architectures.architectures.gone.Sequential",
        "dynamic_network_architectures.architectures.__path__.PlainConvUNet",
        "nnunet_igtv.architectures.igtv_net.torch.load",
        "torch.nn.Conv2d",
    ],
)
def test_what_a_networks_name_leads_to_counts(model, name):
    with pytest.raises(IGTVError, match=r"would have .* called.*plans\.json"):
        check_model(with_network(model, name))


def test_a_name_that_nnunet_would_call_runs_nothing_in_the_examination(model, tmp_path):
    marker = tmp_path / "executed"

    def change(_, stock):
        stock["architecture"]["arch_kwargs"] |= {
            "nonlin": "torch.nn.functional.torch.os.system",
            "nonlin_kwargs": {"command": f"touch {marker}"},
        }

    with pytest.raises(IGTVError, match="called"):
        check_model(planned(model, change))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("image_reader_writer", "recursive_find_python_class"),  # a function, imported there
        ("image_reader_writer", "SomebodysReader"),
        ("label_manager", "partial"),
        ("label_manager", ["LabelManager"]),
        ("preprocessor_name", "recursive_find_python_class"),
        ("normalization_schemes", ["CTNormalization", "Type"]),
        ("normalization_schemes", "np"),
        ("resampling_fn_data", "map_coordinates"),
        ("resampling_fn_seg", "join"),
        ("resampling_fn_probabilities", {"a": 1}),
    ],
)
def test_single_names_are_those_that_nnunet_defines(model, field, name):
    def change(plans, stock):
        (plans if field in plans else stock)[field] = name

    with pytest.raises(IGTVError, match=r"would have .* called.*plans\.json"):
        check_model(planned(model, change))


def test_a_reader_that_dataset_json_names_is_nnunets_own(model):
    description = json.loads((model / "dataset.json").read_text())
    for name in ("None", "NibabelIOWithReorient"):
        (model / "dataset.json").write_text(json.dumps(description | {"overwrite_image_reader_writer": name}))
        check_model(model)
    (model / "dataset.json").write_text(json.dumps(description | {"overwrite_image_reader_writer": "glob"}))
    with pytest.raises(IGTVError, match=r"would have 'glob' called.*dataset\.json"):
        check_model(model)
