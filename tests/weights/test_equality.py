"""The network computes what the reference computes, with weights as the importer takes them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_igtv.architectures import build_network
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.slice_interactions import SLICE_INTERACTIONS
from nnunet_igtv.weights import load_pretrained

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


def relative_error(logits, expected):
    """Two-class logits (B, 2, S, H, W) against the reference's single logit (B*S, H, W)."""
    assert not logits[:, 0].any()  # background: exactly 0
    return float((logits[:, 1].flatten(0, 1) - expected).norm() / expected.norm())


def miniature_network(slice_interaction):
    return IGTVNet(
        2,
        2,
        width=32,
        encoder_depths=(1, 1, 2, 1),
        decoder_depths=(2, 1, 1),
        expansion=2,
        encoder_states=3,
        decoder_states=2,
        gate_width=8,
        gate_grid=32,
        encoder_drop_path=0.0,
        decoder_drop_path=0.0,
        slice_interaction=slice_interaction,
    ).eval()


@pytest.mark.parametrize("slice_interaction", SLICE_INTERACTIONS)
def test_equals_the_reference_in_float64(miniature_cipa, reference, slice_interaction):
    net = miniature_network(slice_interaction).double()
    load_pretrained(net, {"model": miniature_cipa})
    x = torch.randn(1, 2, 2, 128, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ct, pet = (x[0, modality, :, None].expand(-1, 3, -1, -1) for modality in (0, 1))  # (slices, 3, H, W)
    with torch.no_grad():
        error = relative_error(net(x), reference(miniature_cipa)(ct, pet))
    assert error < 1e-12


@pytest.mark.golden
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the stored outputs of the reference are not here")
@pytest.mark.parametrize("seed", [0])
def test_equals_the_stored_outputs_of_the_reference_at_512(tiny_cipa_shapes, monkeypatch, seed):
    monkeypatch.syspath_prepend(str(GOLDEN))
    import fill

    state = {key: torch.from_numpy(np.asarray(v)) for key, v in fill.fill(tiny_cipa_shapes, seed).items()}
    sys.modules.pop("fill")
    stored = np.load(GOLDEN / f"golden_tiny_seed{seed}.npz")
    assert fill.state_hash({key: value.numpy() for key, value in state.items()}) == str(
        stored["weights_sha256"]
    )
    net = build_network("tiny", 2).eval()
    load_pretrained(net, {"model": state})
    _, _, ct, pet = fill.inputs(seed)
    x = torch.from_numpy(np.stack((ct[:, 0], pet[:, 0]), axis=1)).unsqueeze(2)  # (1, 2, 1, 512, 512)
    with torch.no_grad():
        error = relative_error(net(x), torch.from_numpy(stored["logits"])[None])
    assert error < 1e-5


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the list of the reference's weights is not here")
def test_the_synthetic_file_has_the_names_and_shapes_of_the_authors(tiny_cipa_shapes):
    rows = [row.split("\t")[:2] for row in (GOLDEN / "keys_tiny.tsv").read_text().splitlines()[1:]]
    theirs = {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in rows}
    assert tiny_cipa_shapes == theirs
