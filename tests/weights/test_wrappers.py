import pytest
import torch
from torch import nn

from nnunet_igtv.weights.wrappers import bare, bare_key


def test_a_network_comes_out_of_its_wrappers_in_any_order():
    network = nn.Linear(2, 2)
    for wrapped in (
        network,
        nn.DataParallel(network),
        torch.compile(network),
        nn.DataParallel(torch.compile(network)),
        torch.compile(nn.DataParallel(network)),
    ):
        assert bare(wrapped) is network


def test_a_part_of_a_network_that_is_called_module_is_no_wrapper():
    network = nn.Module()
    network.module = nn.Linear(2, 2)
    assert bare(network) is network


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_keys_lose_the_prefixes_of_wrappers(prefix):
    assert bare_key(prefix + "encoder.module.weight") == "encoder.module.weight"
