"""The strict loader of `nnunet-igtv train -pretrained_weights`, held against nnU-Net's own."""

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_igtv.architectures import build_network
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.pretrained_flag import load_all_but_head


def checkpoint(path, **options):
    torch.save({"network_weights": build_network("nano", **options).state_dict()}, path)
    return path


def test_it_loads_what_nnunets_own_loads(tmp_path):
    path = checkpoint(tmp_path / "source.pth", num_classes=3)  # another head
    ours = build_network("nano", 2)
    theirs = build_network("nano", 2)
    theirs.load_state_dict(ours.state_dict())
    load_all_but_head(ours, path)
    load_pretrained_weights(theirs, str(path))
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_a_missing_layer_is_refused_and_nothing_is_loaded(tmp_path):
    path = checkpoint(tmp_path / "source.pth", num_classes=2, slice_interaction="none")
    network = build_network("nano", 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(IGTVError, match=r"first slice_interaction.*source\.pth.*import-weights"):
        load_all_but_head(network, path)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
