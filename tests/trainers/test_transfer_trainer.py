"""Where the weights of a transfer come from, in this process; the commands are in tests/end_to_end."""

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_igtv.architectures import build_network
from nnunet_igtv.channels import CT_PET, GREY, described
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers import (
    GTVPretrainTrainerNano,
    GTVPretrainTrainerNanoNoSIM,
    IGTVTrainerNano,
    IGTVTransferTrainerNano,
    IGTVTransferTrainerNanoDeepSupervision,
    IGTVTransferTrainerNanoFrozenEncoder,
    IGTVTransferTrainerNanoNoSIM,
    IGTVTransferTrainerNanoOtherUnits,
)


@pytest.fixture
def checkpoint(make_trainer, tmp_path):
    """A function that saves the checkpoint of a GTV trainer's fresh network."""

    def save(base=GTVPretrainTrainerNano, description=None):
        trainer = make_trainer(base, dataset=901)
        trainer.initialize()
        trainer.my_init_kwargs["dataset_json"] = trainer.dataset_json | (description or {})
        path = tmp_path / f"{base.__name__}.pth"
        trainer.save_checkpoint(str(path))
        return path, trainer.network.state_dict()

    return save


def load_by_flag(trainer, path):
    """What nnUNetv2_train does for -pretrained_weights."""
    load_pretrained_weights(trainer.network, str(path))


def report_of(trainer):
    report = json.loads((Path(trainer.output_folder) / "transfer_report.json").read_text())
    return report, {entry["key"]: entry["status"] for entry in report["entries"]}


def origins(trainer):
    return {name: group["origin"] for group in trainer.optimizer.param_groups for name in group["names"]}


def test_the_variable_takes_every_layer_that_fits(make_trainer, checkpoint, monkeypatch):
    path, weights = checkpoint()
    monkeypatch.setenv("nnUNet_igtv_gtv_weights", str(path))
    trainer = make_trainer(IGTVTransferTrainerNano)
    trainer.on_train_start()
    assert all(torch.equal(trainer.network.state_dict()[key], weights[key]) for key in weights)
    report, status = report_of(trainer)
    assert report["source"] == str(path)
    assert set(status.values()) == {"taken"}
    assert set(origins(trainer).values()) == {"transferred"}


def test_a_new_slice_interaction_is_named_and_learns_faster(make_trainer, checkpoint, monkeypatch):
    path, weights = checkpoint(GTVPretrainTrainerNanoNoSIM)
    monkeypatch.setenv("nnUNet_igtv_gtv_weights", str(path))
    trainer = make_trainer(IGTVTransferTrainerNano)
    trainer.on_train_start()
    _, status = report_of(trainer)
    new = {key for key, value in status.items() if value == "initial"}
    assert new == {key for key in status if key.startswith("slice_interaction.")}
    assert {name for name, origin in origins(trainer).items() if origin == "new"} == new
    # untrained, the new module changes nothing: the network computes what the GTV network did
    gtv = build_network("nano", 2, slice_interaction="none")
    gtv.load_state_dict(weights)
    x = torch.randn(1, 2, 3, 32, 32)
    torch.testing.assert_close(trainer.network.eval()(x), gtv.eval()(x))


@pytest.mark.parametrize("wrap", [lambda network: network, torch.compile])
def test_the_flag_is_noticed_and_reported(make_trainer, checkpoint, wrap):
    path, weights = checkpoint()
    trainer = make_trainer(IGTVTransferTrainerNano)
    trainer.initialize()
    network = trainer.network
    trainer.network = wrap(network)  # as nnU-Net does, where it compiles
    load_by_flag(trainer, path)
    trainer.network = network
    trainer.on_train_start()
    report, status = report_of(trainer)
    assert report["source"] == "-pretrained_weights"
    new = {key for key, value in status.items() if value == "initial"}
    assert new == {key for key in weights if ".seg_layers." in key}
    assert {name for name, origin in origins(trainer).items() if origin == "new"} == new


def test_the_flag_is_noticed_where_the_file_holds_what_the_network_holds(make_trainer, tmp_path):
    trainer = make_trainer(IGTVTransferTrainerNano)
    trainer.initialize()
    torch.save({"network_weights": trainer.network.state_dict()}, tmp_path / "same.pth")
    load_by_flag(trainer, tmp_path / "same.pth")
    trainer.on_train_start()
    assert report_of(trainer)[0]["source"] == "-pretrained_weights"


def test_the_flag_counts_more_than_the_variable(make_trainer, checkpoint, monkeypatch):
    monkeypatch.setenv("nnUNet_igtv_gtv_weights", "/nowhere.pth")
    trainer = make_trainer(IGTVTransferTrainerNano)
    trainer.initialize()
    load_by_flag(trainer, checkpoint()[0])
    trainer.on_train_start()
    assert report_of(trainer)[0]["source"] == "-pretrained_weights"


def test_a_network_without_slice_interaction_takes_one_with_it_by_the_flag(make_trainer, checkpoint):
    path, _ = checkpoint()
    trainer = make_trainer(IGTVTransferTrainerNanoNoSIM)
    trainer.initialize()
    load_by_flag(trainer, path)
    trainer.on_train_start()
    assert "slice_interaction" not in " ".join(report_of(trainer)[1])


def test_where_the_strict_flag_refuses_the_log_names_what_helps(make_trainer, checkpoint, capsys):
    path, _ = checkpoint(GTVPretrainTrainerNanoNoSIM)
    trainer = make_trainer(IGTVTransferTrainerNano)
    trainer.initialize()
    with pytest.raises(AssertionError, match="slice_interaction"):
        load_by_flag(trainer, path)
    shown = capsys.readouterr().out
    assert "nnunet-igtv import-weights" in shown
    assert "nnUNet_igtv_gtv_weights" in shown


def test_weights_of_another_size_are_refused_by_name(make_trainer, monkeypatch, tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save({"network_weights": build_network("tiny", 2).state_dict()}, path)
    monkeypatch.setenv("nnUNet_igtv_gtv_weights", str(path))
    trainer = make_trainer(IGTVTransferTrainerNano)
    with pytest.raises(IGTVError, match=r"tiny\.pth"):
        trainer.on_train_start()
    assert trainer.dataloader_train is None


@pytest.mark.parametrize("initialised", [False, True])
def test_without_weights_it_stops_before_the_data_are_touched(make_trainer, initialised):
    trainer = make_trainer(IGTVTransferTrainerNano)
    if initialised:
        trainer.initialize()
    with pytest.raises(IGTVError, match=r"none were given.*-pretrained_weights.*IGTVTrainerNano"):
        trainer.on_train_start()
    assert trainer.dataloader_train is None


def test_from_scratch_ignores_the_variable(make_trainer, monkeypatch):
    monkeypatch.setenv("nnUNet_igtv_gtv_weights", "/nowhere.pth")
    trainer = make_trainer(GTVPretrainTrainerNano, dataset=901)
    trainer.on_train_start()
    assert set(origins(trainer).values()) == {"new"}


def test_what_was_new_stays_new_when_a_run_is_continued(make_trainer, checkpoint, monkeypatch):
    path, _ = checkpoint(GTVPretrainTrainerNanoNoSIM)
    monkeypatch.setenv("nnUNet_igtv_gtv_weights", str(path))
    first = make_trainer(IGTVTransferTrainerNano)
    first.on_train_start()
    first.on_train_epoch_start()
    first.train_step(next(first.dataloader_train))
    latest = str(Path(first.output_folder) / "checkpoint_latest.pth")
    first.save_checkpoint(latest)
    monkeypatch.delenv("nnUNet_igtv_gtv_weights")
    second = make_trainer(IGTVTransferTrainerNano, continuing=True)
    second.load_checkpoint(latest)
    second.on_train_start()  # asks for no weights
    assert origins(second) == origins(first)


def test_weights_without_auxiliary_heads_pass_the_flag_into_deep_supervision(make_trainer, checkpoint):
    path, _ = checkpoint()
    trainer = make_trainer(IGTVTransferTrainerNanoDeepSupervision)
    trainer.initialize()
    load_by_flag(trainer, path)
    trainer.on_train_start()
    new = {key for key, value in report_of(trainer)[1].items() if value == "initial"}
    heads = {f"decoder.seg_layers.{i}.weight" for i in range(4)}
    # with each auxiliary head, the slice interaction before it is new
    assert {key for key in new if not key.startswith("slice_interaction.seg_layers.")} == heads
    assert new == {name for name in trainer.network.state_dict() if ".seg_layers." in name}


def test_a_frozen_encoder_stays_as_it_came_and_then_learns_also_across_an_interruption(
    make_trainer, checkpoint, monkeypatch
):
    path, source = checkpoint(GTVPretrainTrainerNanoNoSIM)
    monkeypatch.setenv("nnUNet_igtv_gtv_weights", str(path))
    base, frozen_for_two = IGTVTransferTrainerNanoFrozenEncoder, {"epochs": 8, "frozen_share": 0.25}
    first = make_trainer(base, **frozen_for_two)
    first.on_train_start()

    def train(trainer, epoch):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        for _ in range(trainer.num_iterations_per_epoch):
            trainer.train_step(next(trainer.dataloader_train))
        state = trainer.network.state_dict()
        changed = {
            key
            for key in source
            if source[key].is_floating_point() and not torch.equal(state[key], source[key])
        }
        assert any(key.startswith("decoder.") for key in changed)
        return {key for key in changed if key.startswith("encoder.")}

    assert not train(first, 0)
    latest = str(Path(first.output_folder) / "checkpoint_latest.pth")
    first.save_checkpoint(latest)
    second = make_trainer(base, continuing=True, **frozen_for_two)
    second.load_checkpoint(latest)
    second.on_train_start()
    assert not train(second, 1)
    assert train(second, 2)


# -------------------------------------------------------------------------- what the weights were trained on


@pytest.fixture(params=["flag", "variable"])
def started(request, make_trainer, monkeypatch):
    """A function that starts a trainer on calibrated data from a file of weights, in either way."""

    def start(base, path):
        trainer = make_trainer(base, description=described(CT_PET))
        if request.param == "variable":
            monkeypatch.setenv("nnUNet_igtv_gtv_weights", str(path))
        else:
            trainer.initialize()
            load_by_flag(trainer, path)
            monkeypatch.setattr("sys.argv", ["nnUNetv2_train", "902", "-pretrained_weights", str(path)])
        trainer.start_from_weights() if trainer.was_initialized else trainer.on_train_start()
        return trainer

    return start


@pytest.mark.parametrize("description", [described(CT_PET), None])
def test_weights_of_the_same_data_are_taken(started, checkpoint, capsys, description):
    path, _ = checkpoint(description=description)
    assert started(IGTVTransferTrainerNano, path).fresh is not None
    assert "this dataset holds CT in HU and PET in SUVbw" in capsys.readouterr().out


def test_weights_of_data_in_other_units_are_refused_unless_they_are_wanted(started, checkpoint, capsys):
    path, _ = checkpoint(description=described(GREY))
    with pytest.raises(IGTVError, match=r"8-bit grey levels, not in HU .*Nano\.pth.*OtherUnits"):
        started(IGTVTransferTrainerNano, path)
    started(IGTVTransferTrainerNanoOtherUnits, path)
    assert "was trained on CT in 8-bit grey levels" in capsys.readouterr().out


def test_weights_that_changed_since_they_were_saved_are_refused(started, checkpoint):
    """nnU-Net's loader takes them: it does not compare the sums in the file."""
    path, state = checkpoint()
    data = bytearray(path.read_bytes())
    data[data.index(state["encoder.patch_embed.conv.weight"].numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(IGTVError, match=r"incomplete or damaged .*Nano\.pth"):
        started(IGTVTransferTrainerNano, path)


def test_weights_of_pet_then_ct_are_refused_even_then(started, checkpoint):
    path, _ = checkpoint(description={"channel_names": {"0": "PET", "1": "CT"}})
    for trainer in (IGTVTransferTrainerNano, IGTVTransferTrainerNanoOtherUnits):
        with pytest.raises(IGTVError, match=r"channel 0 is PET, not CT.*Nano\.pth"):
            started(trainer, path)


def test_a_trainer_from_scratch_too_asks_what_the_flag_loaded(make_trainer, checkpoint, monkeypatch):
    path, _ = checkpoint(description=described(GREY))
    trainer = make_trainer(IGTVTrainerNano, description=described(CT_PET))
    trainer.initialize()
    load_by_flag(trainer, path)
    monkeypatch.setattr("sys.argv", ["nnUNetv2_train", f"-pretrained_weights={path}"])
    with pytest.raises(IGTVError, match="8-bit grey levels, not in HU"):
        trainer.on_train_start()
    assert trainer.dataloader_train is None


def test_weights_that_do_not_say_what_they_were_trained_on_are_taken_and_that_is_said(
    started, tmp_path, capsys
):
    torch.save({"network_weights": build_network("nano", 2).state_dict()}, tmp_path / "w.pth")
    started(IGTVTransferTrainerNano, tmp_path / "w.pth")
    assert "does not say what it was trained on" in capsys.readouterr().out
