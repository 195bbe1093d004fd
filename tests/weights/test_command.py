"""`nnunet-igtv import-weights` from a file to a file that nnU-Net's own loader takes."""

import argparse
import resource
import signal

import pytest
import torch
from kills import completes_after_every_kill
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_igtv.architectures import build_network
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.channels import GREY, described
from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.importing import import_weights
from nnunet_igtv.weights.reading import channels_in, load_checkpoint


def differing(net, expected):
    """Keys at which a network differs from a state dict; not the head, which nnU-Net leaves alone."""
    return [
        key
        for key, value in net.state_dict().items()
        if "seg_layers" not in key and not torch.equal(value, expected[key])
    ]


@pytest.fixture
def cipa_file(tmp_path, tiny_cipa):
    path = tmp_path / "CIPA.pth"
    torch.save({"model": tiny_cipa, "optimizer": {}, "epoch": 50, "args": argparse.Namespace(lr=6e-5)}, path)
    return path


def test_cipa_to_a_file_that_nnunet_takes_strictly(tmp_path, cipa_file, capsys):
    output = tmp_path / "new" / "gtv.pth"
    assert main(["import-weights", str(cipa_file), "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "preset: tiny" in printed
    assert "source: CIPA" in printed
    written = torch.load(output, weights_only=True)["network_weights"]
    assert {tensor.device.type for tensor in written.values()} == {"cpu"}
    for classes, interaction in ((2, "before_head"), (3, "none")):
        net = build_network("tiny", classes, slice_interaction=interaction)
        load_pretrained_weights(net, output)
        assert differing(net, written) == []
    assert list(output.parent.iterdir()) == [output]


def test_vmamba_to_a_file(tmp_path, tiny_vmamba, capsys):
    torch.save({"model": tiny_vmamba}, tmp_path / "vssm_tiny.pth")
    assert main(["import-weights", str(tmp_path / "vssm_tiny.pth"), "-o", str(tmp_path / "gtv.pth")]) == 0
    assert "preset: tiny" in capsys.readouterr().out


def test_a_checkpoint_of_our_trainers_of_a_size_of_its_own(tmp_path, capsys):
    fields = PRESETS["nano"].kwargs() | {"width": 16, "encoder_depths": [1, 2, 1, 1]}
    source = IGTVNet(2, 5, **fields, slice_interaction="none")
    torch.save(
        {"network_weights": source.state_dict(), "current_epoch": 3}, tmp_path / "checkpoint_final.pth"
    )
    output = tmp_path / "gtv.pth"
    assert main(["import-weights", str(tmp_path / "checkpoint_final.pth"), "-o", str(output)]) == 0
    assert "preset: none" in capsys.readouterr().out
    net = IGTVNet(2, 5, **fields)
    load_pretrained_weights(net, output)
    assert differing(net, torch.load(output, weights_only=True)["network_weights"]) == []
    assert (
        torch.load(output, weights_only=True)["network_weights"]["decoder.seg_layers.0.weight"].shape[0] == 5
    )


def test_weights_of_the_twin_without_mamba_stay_its_own(tmp_path):
    source = IGTVNet(2, 2, **PRESETS["nano"].kwargs(), mixer="convolution")
    torch.save({"network_weights": source.state_dict()}, tmp_path / "twin.pth")
    assert main(["import-weights", str(tmp_path / "twin.pth"), "-o", str(tmp_path / "gtv.pth")]) == 0
    assert differing(source, torch.load(tmp_path / "gtv.pth", weights_only=True)["network_weights"]) == []


def test_the_wrong_size_is_refused_and_nothing_is_written(tmp_path, cipa_file, capsys):
    output = tmp_path / "gtv.pth"
    assert main(["import-weights", str(cipa_file), "-o", str(output), "--preset", "nano"]) == 1
    assert "its width is 96, the network's 24" in capsys.readouterr().err
    assert not output.exists()


def test_the_source_is_never_replaced(cipa_file, capsys):
    before = cipa_file.read_bytes()
    assert main(["import-weights", str(cipa_file), "-o", str(cipa_file)]) == 1
    assert "would replace the source" in capsys.readouterr().err
    assert cipa_file.read_bytes() == before


def test_an_encoder_of_no_preset_is_named(tmp_path, tiny_vmamba, capsys):
    later = {
        k: v[:, :1] if k.endswith("A_logs") else v for k, v in tiny_vmamba.items()
    }  # VMamba's later version
    torch.save({"model": later}, tmp_path / "vssm1.pth")
    assert main(["import-weights", str(tmp_path / "vssm1.pth"), "-o", str(tmp_path / "gtv.pth")]) == 1
    assert "width 96, depths 2/2/9/2) is that of no preset" in capsys.readouterr().err


@pytest.fixture
def trained(tmp_path):
    """A function that writes a checkpoint as a trainer on data with these channels leaves it."""

    def write(dataset_json):
        path = tmp_path / "checkpoint_final.pth"
        state = build_network("nano", 2).state_dict()
        torch.save({"network_weights": state, "init_args": {"dataset_json": dataset_json}}, path)
        return path

    return write


def test_what_the_channels_were_is_passed_on(tmp_path, trained, capsys):
    source = trained({"channel_names": {"0": "CT", "1": "CT"}} | described(GREY))
    assert main(["import-weights", str(source), "-o", str(tmp_path / "gtv.pth")]) == 0
    assert "trained on CT in 8-bit grey levels and PET in 8-bit grey levels" in capsys.readouterr().out
    assert channels_in(load_checkpoint(tmp_path / "gtv.pth")) == GREY


def test_weights_of_pet_then_ct_are_refused(tmp_path, trained, capsys):
    source = trained({"channel_names": {"0": "PET", "1": "CT"}})
    assert main(["import-weights", str(source), "-o", str(tmp_path / "gtv.pth")]) == 1
    said = capsys.readouterr().err
    assert "not trained on CT then PET: channel 0 is PET, not CT" in said
    assert str(source) in said
    assert not (tmp_path / "gtv.pth").exists()


def test_an_unknown_preset_is_named_from_python_too(tmp_path, cipa_file):
    with pytest.raises(IGTVError, match=r"'tinny'.*nano, tiny, small, base"):
        import_weights(cipa_file, tmp_path / "gtv.pth", preset="tinny")


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_killed_at_every_file_event_the_same_command_completes_it(tmp_path, trained, capsys, options):
    source, output = trained({"channel_names": {"0": "CT", "1": "CT"}}), tmp_path / "out" / "gtv.pth"
    output.parent.mkdir()
    if options:
        output.write_bytes(b"mine")
    command = ["import-weights", str(source), "-o", str(output), *options]
    assert completes_after_every_kill(output.parent, lambda: main(command)) >= (5, 2)


def test_an_existing_output_is_replaced_only_where_asked_for(tmp_path, cipa_file, capsys):
    output = tmp_path / "gtv.pth"
    output.write_bytes(b"mine")
    assert main(["import-weights", str(cipa_file), "-o", str(output)]) == 1
    assert "the output exists already" in (said := capsys.readouterr().err)
    assert "--overwrite" in said
    assert output.read_bytes() == b"mine"
    assert main(["import-weights", str(cipa_file), "-o", str(output), "--overwrite"]) == 0
    assert torch.load(output, weights_only=True)["preset"] == "tiny"


STEM, DEEP = "encoder.patch_embed.conv.weight", "encoder.stages.2.blocks.0.op.x_proj_weight"
HOSTILE = {
    "without values": lambda value: torch.empty(value.shape, device="meta"),
    "sparse": lambda value: value.to_sparse(),
    "quantised": lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    "complex": lambda value: value.to(torch.complex64),
    "larger than what the file holds": lambda value: torch.zeros(1).expand(2**40),
    "not finite": lambda value: value.double() * 1e300,
    "holds torch.int64": lambda value: (value * 100).long(),
    "holds torch.bool": lambda value: value > 0,
    "the shape": lambda value: value.reshape(-1),
    "the shape ()": lambda value: torch.tensor(1.0),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of kinds of tensors that it will no longer have
@pytest.mark.parametrize(
    ("message", "key"),
    # a deep layer of another shape is left at its start, and reported
    [(kind, key) for kind in HOSTILE for key in (STEM, DEEP) if key == STEM or "shape" not in kind],
)
def test_what_is_no_weight_is_refused_by_the_name_of_file_and_tensor(tmp_path, capsys, message, key):
    state = build_network("nano", 2).state_dict()
    torch.save({"network_weights": state | {key: HOSTILE[message](state[key])}}, tmp_path / "w.pth")
    assert main(["import-weights", str(tmp_path / "w.pth"), "-o", str(tmp_path / "gtv.pth")]) == 1
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert message in said
    assert key in said
    assert "w.pth" in said
    assert not (tmp_path / "gtv.pth").exists()


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_half_and_double_precision_are_taken(tmp_path, kind):
    state = build_network("nano", 2).state_dict()
    given = {key: value.to(kind) if value.is_floating_point() else value for key, value in state.items()}
    torch.save({"network_weights": given}, tmp_path / "w.pth")
    assert main(["import-weights", str(tmp_path / "w.pth"), "-o", str(tmp_path / "gtv.pth")]) == 0
    written = torch.load(tmp_path / "gtv.pth", weights_only=True)["network_weights"]
    assert all(torch.allclose(written[key], value, atol=1e-2) for key, value in state.items())


def test_a_network_much_larger_than_its_file_is_refused_before_it_is_made(tmp_path, capsys):
    state = IGTVNet(2, 2, **PRESETS["nano"].kwargs()).state_dict()
    state[STEM] = torch.zeros(20_000, 1, 4, 4)  # a width of 20,000: some hundred GB of layers
    state["encoder.stages.0.blocks.0.op.out_norm.weight"] = torch.zeros(40_000)
    torch.save({"network_weights": state}, tmp_path / "w.pth")
    assert main(["import-weights", str(tmp_path / "w.pth"), "-o", str(tmp_path / "gtv.pth")]) == 1
    said = capsys.readouterr().err
    assert "the network of these shapes has" in said
    assert "w.pth" in said


HEAD = "decoder.seg_layers.0.weight"


@pytest.mark.parametrize(
    ("shape", "message"), [((10**9, 0), "head without weights"), ((1_000_000, 1), "with 1000000 classes")]
)
@pytest.mark.parametrize("preset", [[], ["--preset", "nano"]])
def test_a_head_of_more_classes_than_the_file_holds_is_refused_before_it_is_made(
    tmp_path, capsys, monkeypatch, shape, message, preset
):
    state = IGTVNet(2, 2, **PRESETS["nano"].kwargs()).state_dict()
    torch.save({"network_weights": state | {HEAD: torch.zeros(shape)}}, tmp_path / "w.pth")
    monkeypatch.setattr(torch.random, "fork_rng", lambda **_: pytest.fail("made"))
    assert main(["import-weights", str(tmp_path / "w.pth"), "-o", str(tmp_path / "gtv.pth"), *preset]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "w.pth" in said


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, cipa_file, capsys):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        assert main(["import-weights", str(cipa_file), "-o", str(tmp_path / "out" / "w.pth")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "File too large" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
