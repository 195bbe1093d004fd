"""Models of unknown origin: what would run code is refused before anything is loaded."""

import errno
import os
import shutil
import zipfile

import pytest
from small_model import Call, save

from nnunet_igtv.commands.main import main
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights import trust
from nnunet_igtv.weights.trust import check_model


def test_a_sound_model_is_described(model, capsys):
    facts = check_model(model)
    assert (facts.dataset, facts.labels) == ("Dataset902_IGTV", ("background", "IGTV"))
    assert facts.checkpoints[0].trainer == "T"
    assert main(["check-model", str(model)]) == 0
    assert facts.checkpoints[0].digest in capsys.readouterr().out


@pytest.mark.parametrize("zipped", [True, False])
def test_a_call_in_a_checkpoint_never_runs(model, tmp_path, capsys, zipped):
    save(model, zipped, remark=Call(tmp_path / "executed"))
    assert main(["check-model", str(model)]) == 1
    assert "holds more than data" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "more", [{"trainer_name": 3}, {"init_args": [1]}, {"init_args": {"configuration": 2}}]
)
def test_fields_of_a_checkpoint_of_another_type_are_named(model, more):
    save(model, **more)
    with pytest.raises(IGTVError, match=r"no texts.*checkpoint_final\.pth"):
        check_model(model)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_named(tmp_path, capsys, method):
    with zipfile.ZipFile(tmp_path / "m.zip", "w", method) as archive:
        archive.writestr("notes.txt", "".join(str(i * 7919) for i in range(4000)))
    sound = (tmp_path / "m.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        size = archive.infolist()[0].compress_size
    for at in range(39, 39 + size, size // 60):
        damaged = bytearray(sound)
        damaged[at] ^= 0xFF
        (tmp_path / "damaged.zip").write_bytes(damaged)
        assert main(["check-model", str(tmp_path / "damaged.zip")]) == 1
        assert "damaged.zip" in capsys.readouterr().err


def test_an_archive_stays_in_its_folder(model, tmp_path, capsys):
    sound = tmp_path / "sound.zip"
    with zipfile.ZipFile(sound, "w") as archive:
        for path in model.rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    assert main(["check-model", str(sound)]) == 0
    for name in ("../evil", "/tmp/evil", "a/../../evil"):
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.writestr(name, "x")
        assert main(["check-model", str(tmp_path / "evil.zip")]) == 1
        assert "leaves its folder" in capsys.readouterr().err
    (tmp_path / "text.zip").write_text("no archive")
    assert main(["check-model", str(tmp_path / "text.zip")]) == 1
    assert "not a zip file" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_no_sound_part_of_a_model(model, monkeypatch, capsys):
    walk = os.walk

    def closed(top, onerror=None, **more):
        onerror(PermissionError(errno.EACCES, "Permission denied", str(model / "fold_1")))
        return walk(top, onerror=onerror, **more)

    monkeypatch.setattr(trust.os, "walk", closed)
    assert main(["check-model", str(model)]) == 1
    captured = capsys.readouterr()
    assert "Permission denied" in captured.err
    assert "runs no code" not in captured.out


def test_folds_that_are_links_are_examined_also_where_links_go_round(model, tmp_path, capsys):
    elsewhere = model.rename(tmp_path / "elsewhere")
    shutil.move(elsewhere / "fold_0", tmp_path / "fold")
    (elsewhere / "fold_0").symlink_to(tmp_path / "fold")
    (tmp_path / "fold" / "round").symlink_to(elsewhere)
    assert main(["check-model", str(elsewhere)]) == 0
    assert "checkpoint_final.pth" in capsys.readouterr().out


def test_an_archive_of_more_than_the_free_space_is_not_unpacked(model, tmp_path, monkeypatch, capsys):
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", model)
    with zipfile.ZipFile(archive) as entries:
        needed = sum(entry.file_size for entry in entries.infolist())
    unpacked, usage = [], shutil.disk_usage(tmp_path)
    monkeypatch.setattr(trust.zipfile.ZipFile, "extractall", lambda *_: unpacked.append(archive))
    monkeypatch.setattr(trust.shutil, "disk_usage", lambda folder: usage._replace(free=needed - 1))
    assert main(["check-model", archive]) == 1
    assert "more than there is room for" in capsys.readouterr().err
    assert not unpacked
    monkeypatch.undo()
    assert main(["check-model", archive]) == 0


def test_a_full_disk_is_not_the_fault_of_an_archive(model, tmp_path, monkeypatch, capsys):
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", model)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trust.zipfile.ZipFile, "extractall", full)
    assert main(["check-model", archive]) == 1
    assert "No space left on device" in capsys.readouterr().err
