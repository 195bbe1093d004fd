"""What is expected of nnU-Net's commands: one function per row of docs/nnunet.md."""

import json
import re
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from unittest import mock

import torch
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.run import run_training
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from torch import nn
from trainers.nnunet_checks.lab import CPU, INIT, expected_of, refuses

from nnunet_igtv.trainers.starting_weights import LoadedTensors


@expected_of("get_trainer_from_args")
def _(lab):
    found = {}
    lab.patch.setattr(
        run_training, "recursive_find_trainer_class_by_name", lambda name: lambda **given: found.update(given)
    )
    run_training.get_trainer_from_args("902", "2d", 0, "Any", "nnUNetPlans", True, device=CPU)
    assert list(found) == INIT
    assert found["plans"] == lab.read("nnUNetPlans.json") | {"continue_training": True}
    assert found["dataset_json"] == lab.read("dataset.json")


@expected_of("maybe_load_checkpoint")
def _(lab):
    def loaded(resume, validate):
        trainer = mock.Mock(output_folder=str(lab.folder))
        run_training.maybe_load_checkpoint(trainer, resume, validate)
        return [Path(call.args[0]).stem for call in trainer.load_checkpoint.call_args_list]

    assert loaded(True, False) == []
    assert refuses(RuntimeError, loaded, False, True)
    for name in ("checkpoint_best", "checkpoint_latest", "checkpoint_final"):
        (lab.folder / f"{name}.pth").touch()
        assert loaded(True, False) == [name]
    assert loaded(False, True) == ["checkpoint_final"]
    assert loaded(False, False) == []

    trainer = mock.Mock(was_initialized=False)
    lab.patch.setattr(run_training, "load_pretrained_weights", trainer.load)
    run_training.maybe_load_checkpoint(trainer, False, False, "weights.pth")
    calls = [call[0] for call in trainer.mock_calls]
    assert calls == ["initialize", "load"]
    assert trainer.load.call_args.args == (trainer.network, "weights.pth")


@expected_of("load_pretrained_weights")
def _(lab):
    def network(classes):
        parts = {"encoder": nn.Linear(2, 2), "decoder": nn.Module()}
        parts["decoder"].seg_layers = nn.ModuleList([nn.Linear(2, classes)])
        return nn.ModuleDict(parts)

    file, source = lab.folder / "weights.pth", network(3)
    torch.save({"network_weights": source.state_dict()}, file)
    ours = network(4)
    loaded = LoadedTensors(ours)
    load_pretrained_weights(torch.compile(ours), str(file))
    assert loaded.names == {"encoder.weight", "encoder.bias"}
    assert torch.equal(ours["encoder"].weight, source["encoder"].weight)
    for broken in ({}, {"encoder.weight": torch.zeros(3, 3), "encoder.bias": torch.zeros(2)}):
        torch.save({"network_weights": broken}, file)
        assert refuses(AssertionError, load_pretrained_weights, ours, str(file))


@expected_of("nnUNetPredictor.initialize_from_trained_model_folder")
def _(lab):
    class NeverMade:
        def __init__(self, *arguments):
            raise AssertionError("a trainer was made")

        @staticmethod
        def build_network_architecture(
            plans_manager, configuration_manager, inputs, outputs, enable_deep_supervision
        ):
            assert not enable_deep_supervision
            return nn.Linear(inputs, outputs)

    named = []
    finder = "recursive_find_trainer_class_by_name"
    lab.patch.setattr(predict_from_raw_data, finder, lambda name: named.append(name) or NeverMade)
    (lab.folder / "fold_0").mkdir()
    for name, source in (("plans.json", "nnUNetPlans.json"), ("dataset.json", "dataset.json")):
        (lab.folder / name).write_text(json.dumps(lab.read(source)))
    source = nn.Linear(2, 2)
    content = {"trainer_name": "Any", "init_args": {"configuration": "2d"}}
    content |= {"network_weights": source.state_dict(), "inference_allowed_mirroring_axes": (1, 2)}
    torch.save(content, lab.folder / "fold_0" / "checkpoint_final.pth")
    predictor = predict_from_raw_data.nnUNetPredictor(device=CPU)
    predictor.initialize_from_trained_model_folder(str(lab.folder), (0,))
    assert named == ["Any"]
    assert predictor.allowed_mirroring_axes == (1, 2)
    assert torch.equal(predictor.network.weight, source.weight)


@expected_of("predict_entry_point")
def _(lab):
    lab.patch.setattr(sys, "argv", ["nnUNetv2_predict", "-h"])
    printed = StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        predict_from_raw_data.predict_entry_point()
    options = {"-i", "-o", "-d", "-p", "-tr", "-c", "-f", "--disable_tta", "-chk", "-npp", "-nps", "-device"}
    assert options <= set(re.findall(r"(?<![\w-])--?\w+", printed.getvalue()))


@expected_of("generate_dataset_json")
def _(lab):
    generate_dataset_json(str(lab.folder), {0: "CT"}, {"background": 0}, 3, ".nii.gz", own={"a": 1})
    written = json.loads((lab.folder / "dataset.json").read_text())
    assert written["channel_names"] == {"0": "CT"}
    assert (written["numTraining"], written["file_ending"]) == (3, ".nii.gz")
    assert written["own"] == {"a": 1}
