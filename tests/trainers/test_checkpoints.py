import errno

import numpy as np
import pytest
import torch

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.trainers.checkpoints import checkpoint_written, plain, readable


def test_plain_values_need_no_pickled_code(tmp_path):
    logged = {"dice": [np.float32(0.5), [np.float64(0.25)]], "epoch": np.int64(3), "none": None}
    torch.save(plain(logged), tmp_path / "log.pth")
    assert torch.load(tmp_path / "log.pth", weights_only=True) == {
        "dice": [0.5, [0.25]],
        "epoch": 3,
        "none": None,
    }


def write_half(path, failure):
    with checkpoint_written(str(path)) as partial, open(partial, "wb") as file:
        file.write(b"half a checkp")
        raise failure


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed")]
)
def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, failure):
    good = tmp_path / "checkpoint_latest.pth"
    good.write_bytes(b"good")
    with pytest.raises(IGTVError, match="make room"):
        write_half(good, failure)
    assert good.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [good]


def test_an_interrupted_write_leaves_the_checkpoint_before_it(tmp_path):
    good = tmp_path / "checkpoint_latest.pth"
    good.write_bytes(b"good")
    with pytest.raises(KeyboardInterrupt):
        write_half(good, KeyboardInterrupt())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"good"]


def truncate(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_falls_back_to_the_best(tmp_path, share):
    latest, best = tmp_path / "checkpoint_latest.pth", tmp_path / "checkpoint_best.pth"
    torch.save({"weights": torch.arange(10000.0)}, latest)
    torch.save({"weights": torch.zeros(2)}, best)
    assert readable(str(latest), fall_back=True)[0] == str(latest)
    truncate(latest, share)
    name, content = readable(str(latest), fall_back=True)
    assert name == str(best)
    assert torch.equal(content["weights"], torch.zeros(2))
    with pytest.raises(IGTVError, match=r"checkpoint_latest\.pth"):
        readable(str(latest), fall_back=False)
    truncate(best, 0.5)
    with pytest.raises(IGTVError, match=r"checkpoint_latest\.pth.*checkpoint_best\.pth"):
        readable(str(latest), fall_back=True)


def test_a_checkpoint_of_which_a_bit_flipped_falls_back_to_the_best(tmp_path):
    """torch.load takes most of them, with other weights; others end it in an error of any kind."""
    latest, best = tmp_path / "checkpoint_latest.pth", tmp_path / "checkpoint_best.pth"
    torch.save({"weights": torch.arange(10.0), "names": [["a"], ["b"]]}, latest)
    torch.save({"weights": torch.zeros(2)}, best)
    whole, accepted = latest.read_bytes(), 0
    for at in range(0, len(whole), 3):
        latest.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        name, content = readable(str(latest), fall_back=True)
        if name == str(latest):  # between the entries, where nothing is
            accepted += 1
            assert torch.equal(content["weights"], torch.arange(10.0))
            assert content["names"] == [["a"], ["b"]]
    assert accepted < len(whole) / 3 * 0.9


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EACCES, "Permission denied"),
        OSError(errno.ESTALE, "Stale file handle"),
    ],
    ids=range(6),
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch, error):
    """Hundreds of epochs would be lost by going on from the best one, or by deleting a file that is whole."""
    latest, best = tmp_path / "checkpoint_latest.pth", tmp_path / "checkpoint_best.pth"
    for file in (latest, best):
        torch.save({"weights": torch.zeros(2)}, file)
    load = torch.load

    def failing(file, **options):
        if file == latest:
            raise error
        return load(file, **options)

    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises((type(error), IGTVError)) as raised:
        readable(str(latest), fall_back=True)
    assert "delete" not in str(raised.value)
    assert raised.value is error or raised.value.file == latest
