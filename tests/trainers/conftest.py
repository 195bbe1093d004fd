import json

import pytest
import torch


@pytest.fixture
def make_trainer(nnunet_world, monkeypatch, tmp_path):
    """Builds a trainer of a few steps in this process; its results go to the test's own folder.

    `make_trainer(base, dataset=902, configuration="2d", fold=0, plans=…, description=…, **attributes)`;
    `description` replaces parts of dataset.json
    """
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(nnunet_world.folder(name)))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # batches are made in this process
    monkeypatch.delenv("nnUNet_igtv_gtv_weights", raising=False)

    def make(
        base,
        dataset=902,
        configuration="2d",
        fold=0,
        plans=None,
        description=None,
        continuing=False,
        device="cpu",
        **attributes,
    ):
        folder = nnunet_world.preprocessed(dataset)
        plans = plans or json.loads((folder / "nnUNetPlans.json").read_text())
        description = json.loads((folder / "dataset.json").read_text()) | (description or {})
        short = {"epochs": 2, "iterations": 2, "validation_iterations": 1, "checkpoint_every": 1}
        trainer = type(base.__name__, (base,), short | attributes)
        plans = plans | {"continue_training": continuing}
        return trainer(plans, configuration, fold, description, torch.device(device))

    return make
