"""Reading files of unknown origin: data yes, anything that could run no."""

import argparse
import os
import pickle
import zipfile
from copy import copy

import numpy as np
import pytest
import torch

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.reading import load_checkpoint


class Elsewhere:
    """Stands for a class of somebody's training code."""


class Payload:
    def __reduce__(self):
        return os.mkdir, ("this-folder-must-not-appear",)


def test_a_parsed_command_line_is_data(tmp_path):
    arguments = argparse.Namespace(lr=6e-5, name="sigma_tiny")
    torch.save({"model": {"w": torch.ones(2)}, "args": arguments}, tmp_path / "cipa.pth")
    assert load_checkpoint(tmp_path / "cipa.pth")["args"] == arguments


def test_what_nnunet_keeps_is_data(tmp_path):
    """The numbers, arrays and settings in a checkpoint of nnU-Net's trainer."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    checkpoint = {
        "network_weights": {"w": torch.ones(2)},
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {
            "ema_fg_dice": [np.float64(0.5)],
            "dice_per_class": [np.float32(0.5), np.int64(3), np.bool_(1)],
        },
        "array": np.arange(3.0),
        "_best_ema": np.float64(0.25),
        "init_args": {"plans": {"a": [1]}, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "IGTVTrainer",
        "inference_allowed_mirroring_axes": (1, 2),
    }
    torch.save(checkpoint, tmp_path / "checkpoint_final.pth")
    read = load_checkpoint(tmp_path / "checkpoint_final.pth")
    assert read["_best_ema"] == 0.25
    assert read["array"].tolist() == [0, 1, 2]
    assert read["init_args"] == checkpoint["init_args"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("content", "name"), [(Elsewhere(), "Elsewhere"), (Payload(), "mkdir")])
def test_a_file_that_needs_more_is_refused_by_name(tmp_path, monkeypatch, zipped, content, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    checkpoint = {"model": {"w": torch.ones(2)}, "extra": content}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(IGTVError, match=f"more than data.*{name}"):
        load_checkpoint(path)
    assert not (tmp_path / "this-folder-must-not-appear").exists()


def test_tensors_in_old_files_are_read_too(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_checkpoint(tmp_path / "old.pth")["w"].tolist() == [1, 1]


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_truncated_file_is_named(tmp_path, kept):
    path = tmp_path / "model.pth"
    torch.save({"w": torch.ones(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(IGTVError, match=r"incomplete.*model\.pth"):
        load_checkpoint(path)


def test_weights_that_changed_since_they_were_saved_are_refused(tmp_path):
    """torch.load does not compare the sums that torch.save keeps."""
    path = tmp_path / "model.pth"
    torch.save({"w": torch.full((1000,), 0.7)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((4,), 0.7).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    assert not torch.equal(torch.load(path, weights_only=True)["w"], torch.full((1000,), 0.7))
    with pytest.raises(IGTVError, match=r"incomplete.*model\.pth"):
        load_checkpoint(path)


def test_weights_that_were_saved_without_sums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(1000)}, tmp_path / "model.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load_checkpoint(tmp_path / "model.pth")["w"], torch.ones(1000))


@pytest.mark.parametrize("content", [b"not a checkpoint at all", pickle.dumps([1, 2])])
def test_other_files_are_named(tmp_path, content):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(IGTVError, match=r"notes\.txt"):
        load_checkpoint(tmp_path / "notes.txt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(IGTVError, match=r"no such checkpoint .*missing\.pth"):
        load_checkpoint(tmp_path / "missing.pth")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, method):
    torch.save({"w": torch.zeros(1_000_000)}, tmp_path / "sound.pth")
    with (
        zipfile.ZipFile(tmp_path / "sound.pth") as sound,
        zipfile.ZipFile(tmp_path / "w.pth", "w", method) as packed,
    ):
        for name in sound.namelist():
            packed.writestr(name, sound.read(name))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(IGTVError, match=r"unpack to more than its size.*w\.pth.*torch\.save"):
        load_checkpoint(tmp_path / "w.pth")


def test_entries_that_share_a_place_in_the_file_are_refused(tmp_path):
    torch.save({"w": torch.zeros(100_000)}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "a") as archive:
        archive.writestr("archive/more", b"")
        values = max(archive.infolist(), key=lambda entry: entry.file_size)
        archive.filelist += [copy(values) for _ in range(3)]
    with pytest.raises(IGTVError, match=r"unpack to more than its size.*w\.pth"):
        load_checkpoint(tmp_path / "w.pth")
