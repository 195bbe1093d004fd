"""Presets are plain data that a plans file can carry."""

import json
import subprocess
import sys

import pytest

from nnunet_igtv.architectures import build_network
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS


def test_presets_and_memory_model_do_not_import_torch():
    code = (
        "import sys, nnunet_igtv.architectures.presets, nnunet_igtv.architectures.memory;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", PRESETS)
def test_fields_survive_json_and_are_arguments_of_the_network(name):
    kwargs = PRESETS[name].kwargs()
    assert json.loads(json.dumps(kwargs)) == kwargs
    if name == "nano":
        assert IGTVNet(2, 2, **json.loads(json.dumps(kwargs))).state_dict().keys()


def test_tiny_has_the_published_number_of_parameters():
    net = build_network("tiny", 2, slice_interaction="none")
    count = {name: sum(p.numel() for p in child.parameters()) / 1e6 for name, child in net.named_children()}
    assert count["encoder"] + count["cross_modal"] == pytest.approx(42.8, abs=0.05)
    assert count["decoder"] == pytest.approx(11.8, abs=0.05)
