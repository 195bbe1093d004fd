"""Transfer: every tensor accounted for, misfits refused by name, foreign networks recognised."""

import json

import pytest
import torch

from nnunet_igtv.architectures import build_network
from nnunet_igtv.architectures.igtv_net import IGTVNet
from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights import load_pretrained
from nnunet_igtv.weights.mapping import rename
from nnunet_igtv.weights.recognition import preset_of


@pytest.fixture(scope="module")
def tiny():
    return build_network("tiny", 2)


def nano(num_classes=2, **changes):
    return IGTVNet(2, num_classes, **(PRESETS["nano"].kwargs() | changes))


def old_names(vmamba):
    """The same encoder as older files name it."""
    renames = (
        (".norm.", ".ln_1."),
        (".op.out_ln_1.", ".op.out_norm."),
        (".downsample.ln_1.", ".downsample.norm."),
        ("classifier.ln_1.", "classifier.norm."),
        (".op.", ".self_attention."),
        ("patch_embed.0.", "patch_embed.proj."),
        ("patch_embed.2.", "patch_embed.norm."),
    )
    result = {}
    for key, value in vmamba.items():
        for new, old in renames:
            key = key.replace(new, old)
        result[key] = value
    return result


def test_the_whole_of_cipa_is_taken_and_only_the_slice_interaction_is_left(tiny, tiny_cipa):
    report = load_pretrained(tiny, {"model": tiny_cipa, "epoch": 50})
    assert report.kind == "CIPA"
    assert report.ignored == ()
    assert report.keys("resampled") == []
    assert all(key.startswith("slice_interaction.") for key in report.keys("initial"))
    assert sum(e.size for e in report.entries) == sum(v.numel() for v in tiny.state_dict().values())
    state = tiny.state_dict()
    kernel = tiny_cipa["backbone.vssm.patch_embed.0.weight"].sum(1, keepdim=True)
    assert torch.equal(state["encoder.patch_embed.conv.weight"], kernel)
    head = state["decoder.seg_layers.0.weight"]
    assert not head[0].any()
    assert torch.equal(head[1], tiny_cipa["decode_head.output.weight"].flatten())


@pytest.mark.parametrize("names", ["new", "old"])
def test_an_imagenet_encoder_is_taken_under_either_naming(tiny, tiny_vmamba, names):
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    source = tiny_vmamba if names == "new" else old_names(tiny_vmamba)
    report = load_pretrained(tiny, {"model": source})
    assert report.kind == "VMamba"
    assert set(report.ignored) == {"classifier.norm.weight", "classifier.head.weight"}
    assert report.share("encoder") > 0.99
    untouched = [key for key in report.keys("initial") if key.startswith("encoder.")]
    assert all(key.startswith("encoder.out_norms.") for key in untouched)
    assert all(torch.equal(tiny.state_dict()[key], before[key]) for key in report.keys("initial"))


def test_the_table_counts_by_module_and_names_what_was_ignored(tiny, tiny_vmamba):
    report = load_pretrained(tiny, tiny_vmamba)
    table = report.table()
    rows = {line[:26].strip(): line[26:].split() for line in table.splitlines()}
    assert rows["slice interaction"] == [
        "0",
        "0",
        f"{sum(p.numel() for p in tiny.slice_interaction.parameters()):,}",
    ]
    assert "3 input channels summed to 1" in table
    assert "ignored in the source: 2 tensors (classifier.norm.weight, classifier.head.weight)" in table
    assert json.loads(json.dumps(report.to_dict()))["kind"] == "VMamba"


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_the_size_is_recognised_from_the_shapes(name, tiny_cipa):
    preset = PRESETS[name]
    with torch.device("meta"):
        net = build_network(name, 2)
    assert preset_of(dict(net.state_dict())) == name
    encoder = {k: v for k, v in net.state_dict().items() if k.startswith("encoder.")}
    assert preset_of(encoder) == name
    assert preset.width == encoder["encoder.patch_embed.conv.weight"].shape[0]
    assert preset_of(rename(tiny_cipa).state) == "tiny"


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_on_either_side_do_not_matter(prefix):
    source, target = nano(), nano()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    wrapped = torch.nn.DataParallel(target) if prefix else target
    report = load_pretrained(wrapped, {"network_weights": state})
    assert report.keys("initial") == []
    assert all(
        torch.equal(a, b)
        for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_pretrained_without_slice_interaction(noise_stack):
    source = nano(slice_interaction="none").eval()
    target = nano().eval()
    report = load_pretrained(target, source.state_dict())
    assert all(key.startswith("slice_interaction.") for key in report.keys("initial"))
    with torch.no_grad():
        assert torch.equal(target(noise_stack), source(noise_stack))


def test_slice_interaction_that_the_network_has_no_place_for_is_said_to_be_ignored():
    report = load_pretrained(nano(slice_interaction="none"), nano().state_dict())
    assert report.ignored
    assert all(key.startswith("slice_interaction.") for key in report.ignored)


def test_another_number_of_classes_leaves_the_head_alone():
    report = load_pretrained(nano(num_classes=4), nano().state_dict())
    assert report.keys("initial") == ["decoder.seg_layers.0.weight"]
    assert "other classes: (2, 24) to (4, 24)" in report.table()


def test_another_grid_is_resampled(noise_stack):
    source = nano(gate_grid=32)
    with torch.no_grad():
        for module in source.cross_modal:
            module.rectification.embed_weight.add_(1.0)
    target = nano(gate_grid=64)
    report = load_pretrained(target, source.state_dict())
    assert len(report.keys("resampled")) == 12  # scale, shift and templates at four stages
    for theirs, ours in zip(source.cross_modal, target.cross_modal, strict=True):
        sums = [module.rectification.embed_weight.sum((1, 2)) for module in (theirs, ours)]
        assert torch.allclose(*sums, rtol=1e-3, atol=1e-2)


def test_another_depth_is_taken_as_far_as_it_goes():
    report = load_pretrained(nano(encoder_depths=[1, 1, 3, 1]), nano().state_dict())
    missing = [key for key in report.keys("initial") if key.startswith("encoder.")]
    assert missing
    assert all(key.startswith("encoder.stages.2.blocks.2.") for key in missing)


def test_another_width_is_refused_by_name_and_changes_nothing(tiny_cipa):
    net = nano()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(IGTVError, match=r"0% of the encoder .* CIPA source .its width is 96, .* 24"):
        load_pretrained(net, tiny_cipa)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_half_an_encoder_is_refused():
    state = nano().state_dict()
    partial = {k: v for k, v in state.items() if not k.startswith(("encoder.stages.2", "encoder.stages.3"))}
    with pytest.raises(IGTVError, match="depths or shapes differ"):
        load_pretrained(nano(), partial)


def test_unknown_and_broken_weights_are_refused():
    with pytest.raises(IGTVError, match=r"no known network.*conv1"):
        load_pretrained(nano(), {"conv1.weight": torch.ones(3)})
    with pytest.raises(IGTVError, match="no weights found"):
        load_pretrained(nano(), {"epoch": 3})
    state = nano().state_dict()
    state["decoder.norm.weight"][3] = float("nan")
    with pytest.raises(IGTVError, match=r"not finite.*decoder\.norm\.weight"):
        load_pretrained(nano(), state)


@pytest.mark.parametrize("prefixes", [("", "module."), ("_orig_mod.", "module._orig_mod.")])
def test_two_names_that_become_one_are_refused_by_both(prefixes):
    state = nano().state_dict()
    twice = {prefix + key: value * 0 for prefix in prefixes for key, value in state.items()}
    key = next(iter(state))
    with pytest.raises(IGTVError, match=rf"{prefixes[0]}{key} and {prefixes[1]}{key}".replace(".", r"\.")):
        load_pretrained(nano(), twice)


def test_two_namings_of_one_encoder_in_a_file_are_refused(tiny_vmamba):
    both = tiny_vmamba | {key: value * 0 for key, value in old_names(tiny_vmamba).items()}
    with pytest.raises(IGTVError, match=r"patch_embed\.0\.weight and patch_embed\.proj\.weight .*both\.pth"):
        rename(both, "both.pth")


@pytest.mark.parametrize("other", ["vmamba_tiny", {}, {"name": "tiny"}, None, 3])
def test_an_entry_without_tensors_is_passed_over(other):
    source = nano()
    for entry in ("network_weights", "model"):
        target = nano()
        load_pretrained(target, {entry: other, "state_dict": source.state_dict()})
        assert all(torch.equal(target.state_dict()[k], v) for k, v in source.state_dict().items())


@pytest.fixture
def noise_stack():
    return torch.randn(1, 2, 2, 33, 40, generator=torch.Generator().manual_seed(0))
