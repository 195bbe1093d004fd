"""A trainer's name says all that is different about it."""

import re

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_igtv import trainers
from nnunet_igtv.environment import FOLDER
from nnunet_igtv.trainers import TRAINERS

PARTS = {
    "NoSIM": {"slice_interaction": "none"},
    "NoMamba": {"mixer": "convolution"},
    "StagesSIM": {"slice_interaction": "stages"},
    "CrossSliceAttention": {"slice_interaction": "cross_slice_attention"},
    "DiceCE": {"loss_function": "dice_ce"},
    "DeepSupervision": {"deep_supervision": True},
    "Scale": {"pet_scale": (0.4, 1.6)},
    "ModalityDropout": {"modality_dropout": 0.3},
    "FrozenEncoder": {"frozen_share": 0.1},
    "OtherUnits": {"other_units": True},
}
BASES = ("IGTVTrainer", "GTVPretrainTrainer", "IGTVTransferTrainer")
RECIPE = (
    *("preset", "slices", "slice_interaction", "mixer", "deep_supervision", "loss_function", "other_units"),
    *("modality_dropout", "pet_scale"),
    *("epochs", "iterations", "validation_iterations", "checkpoint_every"),
    *("learning_rate", "decay", "transferred_factor", "frozen_share", "mirror_axes"),
)
NAME = re.compile(
    r"(?P<base>.*Trainer)(?P<size>Nano|Small|Base)?"
    r"(?P<part>NoSIM|NoMamba|StagesSIM|CrossSliceAttention|DiceCE|DeepSupervision|Scale|ModalityDropout|FrozenEncoder|OtherUnits)?"
    r"(_(?P<n>\d+)epochs?)?"
)


def recipe(trainer):
    return {key: getattr(trainer, key) for key in RECIPE}


@pytest.mark.parametrize("name", list(TRAINERS))
def test_a_variant_differs_in_what_its_name_says_and_in_nothing_else(name):
    parts = NAME.fullmatch(name)
    assert parts["base"] in BASES
    expected = recipe(TRAINERS[parts["base"] + (parts["size"] or "")])
    if parts["size"]:
        changed = {"preset"}
        if parts["size"] == "Nano":
            changed |= {"epochs", "iterations", "validation_iterations", "checkpoint_every", "learning_rate"}
            changed |= {"transferred_factor"}
        full = recipe(TRAINERS[parts["base"]])
        assert {key for key in RECIPE if expected[key] != full[key]} == changed
        assert expected["preset"] == parts["size"].lower()
    expected |= PARTS.get(parts["part"], {})
    if parts["n"]:
        expected["epochs"] = int(parts["n"])
    assert recipe(TRAINERS[name]) == expected
    assert TRAINERS[name].__name__ == name
    assert issubclass(TRAINERS[name], TRAINERS[parts["base"]])


def test_the_three_tasks_have_the_same_variants_and_the_same_recipe():
    suffixes = [
        {name.removeprefix(base) for name in TRAINERS if NAME.fullmatch(name)["base"] == base}
        for base in BASES
    ]
    assert suffixes[0] == suffixes[1]
    of_a_transfer = {"FrozenEncoder", "OtherUnits"}
    assert suffixes[2] - suffixes[0] == of_a_transfer | {f"Nano{suffix}" for suffix in of_a_transfer}
    assert suffixes[0] < suffixes[2]
    assert {
        "",
        "Nano",
        "Small",
        "Base",
        "NoSIM",
        "NoMamba",
        "StagesSIM",
        "CrossSliceAttention",
        "DiceCE",
        "NanoNoSIM",
        "NanoNoMamba",
        "NanoStagesSIM",
        "NanoCrossSliceAttention",
        "Nano_1epoch",
        "_5epochs",
    } <= suffixes[0]
    assert recipe(TRAINERS[BASES[0]]) == recipe(TRAINERS[BASES[1]]) == recipe(TRAINERS[BASES[2]])


def test_nnunet_finds_the_very_classes_of_the_installed_package(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(FOLDER))
    for name in ("IGTVTransferTrainerNano_1epoch", "GTVPretrainTrainer"):
        assert recursive_find_trainer_class_by_name(name) is getattr(trainers, name) is TRAINERS[name]


def test_the_table_in_the_docs_names_every_part_of_a_name(request):
    text = (request.config.rootpath / "docs" / "training.md").read_text()
    for name in BASES:
        assert f"`{name}`" in text
    for suffix in (
        "Nano",
        "Small",
        "Base",
        "NoSIM",
        "NoMamba",
        "StagesSIM",
        "CrossSliceAttention",
        "DiceCE",
        "DeepSupervision",
        "FrozenEncoder",
        "OtherUnits",
        "_1epoch",
        "_5epochs",
        "_100epochs",
        "_250epochs",
    ):
        assert f"`…{suffix}`" in text
