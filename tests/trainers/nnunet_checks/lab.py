"""What the checks share: nnU-Net's own trainer in a folder of the test, and the table of checks."""

import json
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed

TABLE = Path(__file__).parents[3] / "docs" / "nnunet.md"
CPU = torch.device("cpu")
INIT = ["plans", "configuration", "fold", "dataset_json", "device"]
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
CHECKS = {}


def expected_of(name):
    def keep(function):
        CHECKS[name] = function
        return function

    return keep


class Lab:
    """nnU-Net's own trainer, of a small U-Net, in the test's own folder."""

    def __init__(self, world, patch, folder):
        self.world, self.patch, self.folder = world, patch, folder
        for name in ("raw", "preprocessed"):
            patch.setenv(f"nnUNet_{name}", str(world.folder(name)))
        patch.setenv("nnUNet_results", str(folder / "results"))
        patch.setenv("nnUNet_n_proc_DA", "0")

    @property
    def preprocessed(self):
        return self.world.preprocessed(902)

    def read(self, name):
        return json.loads((self.preprocessed / name).read_text())

    def stock(self, base=nnUNetTrainer, fold=0, description=None, **attributes):
        plans = self.read("nnUNetPlans.json") | {"continue_training": False}
        trainer = base(plans, "2d", fold, self.read("dataset.json") | (description or {}), CPU)
        for name, value in attributes.items():
            setattr(trainer, name, value)
        return trainer

    def in_a_group(self, rank, size):
        """nnU-Net believes that there are several processes."""
        for name, value in {"is_initialized": True, "get_rank": rank, "get_world_size": size}.items():
            self.patch.setattr(distributed, name, lambda value=value: value)


def refuses(kind, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except kind:
        return True
    return False


def recorder(*names):
    """nnU-Net's trainer with these methods replaced; `called` lists their calls."""

    def replacement(name):
        def method(self, *arguments):
            self.called.append((name, *arguments))

        return method

    return type("Recorder", (nnUNetTrainer,), {"called": [], **{name: replacement(name) for name in names}})
