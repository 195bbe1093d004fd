"""How a trainer notices what was loaded into its network."""

import inspect

import pytest
import torch
from nnunetv2.run import run_training
from torch import nn

from nnunet_igtv.trainers.starting_weights import LoadedTensors, file_of_the_caller, file_on_command_line


def network():
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def test_a_tensor_of_the_networks_own_was_not_loaded_and_an_equal_one_of_another_file_was():
    ours = network()
    loaded = LoadedTensors(ours)
    state = ours.state_dict()
    ours.load_state_dict(state)
    assert loaded.names == set()
    ours.load_state_dict(state | {"0.weight": state["0.weight"].clone()})
    assert loaded.names == {"0.weight"}


@pytest.mark.parametrize(
    "wrap", [torch.compile, nn.DataParallel, lambda n: torch.compile(nn.DataParallel(n))]
)
def test_what_is_loaded_through_wrappers_is_noticed(wrap):
    ours = network()
    loaded = LoadedTensors(ours)
    wrapped = wrap(ours)
    wrapped.load_state_dict({key: value.clone() for key, value in wrapped.state_dict().items()})
    assert loaded.names == set(ours.state_dict())


def test_after_the_start_nothing_is_noticed():
    ours = network()
    loaded = LoadedTensors(ours)
    loaded.stop()
    ours.load_state_dict(network().state_dict())
    assert loaded.names == set()


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["nnUNetv2_train", "902", "2d", "0", "-pretrained_weights", "a b.pth", "--npz"], "a b.pth"),
        (["nnUNetv2_train", "-pretrained_weights=w.pth", "-p", "plans"], "w.pth"),
        (["nnUNetv2_train", "902", "-p", "nnUNetPlans"], None),
        (["nnUNetv2_train", "-pretrained_weights"], None),
        ([], None),
    ],
)
def test_the_file_is_read_from_the_command_line(words, file):
    assert file_on_command_line(words) == file


@pytest.mark.parametrize("name", ["run_training", "run_ddp"])
def test_the_file_that_a_program_gives_to_nnunets_own_function(name):
    """Its parameter has this name in both; nothing else tells a trainer."""
    assert "pretrained_weights" in inspect.signature(getattr(run_training, name)).parameters
    scope = {}
    exec(compile("def run(pretrained_weights, go): return go()", run_training.__file__, "exec"), scope)
    assert scope["run"]("gtv.pth", lambda: file_of_the_caller()) == "gtv.pth"
    assert scope["run"](None, lambda: file_of_the_caller()) is None
    assert file_of_the_caller() is None
