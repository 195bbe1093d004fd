import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from nnunet_igtv import atomic
from nnunet_igtv.atomic import (
    is_free,
    place,
    withdraw,
    write_text,
    written_once,
    written_together,
    written_whole,
)
from nnunet_igtv.errors import IGTVError


def test_a_file_takes_its_place_when_it_is_complete_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")
    with written_whole(path) as beside:
        beside.write_text("after")
        assert path.read_text() == "before"
    assert [(entry, entry.read_text()) for entry in tmp_path.iterdir()] == [(path, "after")]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def write():
        with written_whole(path) as beside:
            beside.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert [(entry, entry.read_text()) for entry in tmp_path.iterdir()] == [(path, "before")]


def test_what_a_killed_run_left_is_gone_with_the_next_also_where_its_permissions_were_wider(tmp_path):
    path, left = tmp_path / "secret.csv", tmp_path / ".secret.csv.partial"
    left.write_text("half")
    left.chmod(0o644)
    write_text(path, "räume\r\n", mode=0o600)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ["räume\r\n".encode()]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_of_two_that_write_one_file_the_second_waits(tmp_path):
    path, began, order = tmp_path / "checkpoint.pth", threading.Event(), []

    def first():
        with written_whole(path) as beside, open(beside, "w") as file:
            file.write("first, ")
            began.set()
            time.sleep(0.3)
            file.write("whole")
            order.append("first")

    def second():
        began.wait()
        with written_whole(path) as beside:
            order.append("second")
            beside.write_text("second, whole")

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert order == ["first", "second"]
    assert [(entry, entry.read_text()) for entry in tmp_path.iterdir()] == [(path, "second, whole")]


def test_many_that_write_one_file_at_once_leave_one_whole(tmp_path):
    path, barrier = tmp_path / "splits_final.json", threading.Barrier(8)

    def write(k):
        barrier.wait()
        for _ in range(20):
            write_text(path, f"{k}" * 1000)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write, k) for k in range(8)]:
            done.result()
    assert path.read_text() in {f"{k}" * 1000 for k in range(8)}
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_not_utf8_are_written_as_escapes(tmp_path):
    write_text(tmp_path / "table.csv", os.fsdecode(b"Andr\xe9"))
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == r"Andr\udce9"


def test_a_journal_gives_away_the_files_that_it_placed_and_no_others(tmp_path):
    output, unfinished, journal = (tmp_path / name for name in ("x", ".x.partial", ".x.journal"))
    for mine in (False, True):
        unfinished.write_text("of a killed run")
        place({unfinished: output}, journal)
        if mine:
            output.unlink()
            output.write_text("mine")
        assert is_free(output) is not mine
        assert not journal.exists()
    assert output.read_text() == "mine"
    journal.write_text("damaged")
    assert not is_free(output)
    assert list(tmp_path.iterdir()) == [output]


def write(path, text, overwrite=False):
    with written_once(path, overwrite) as unfinished:
        unfinished.write_text(text)


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_that_write_one_file_the_second_waits_and_finds_it_there(tmp_path, overwrite):
    path = tmp_path / "new" / "file"
    with ThreadPoolExecutor(1) as other:
        with written_once(path) as unfinished:
            unfinished.write_text("first")
            second = other.submit(write, path, "second", overwrite)
            assert not wait([second], 0.2).done
            assert unfinished.read_text() == "first"
        if overwrite:
            second.result()
        else:
            with pytest.raises(IGTVError, match="exists already"):
                second.result()
    assert [(p.name, p.read_text()) for p in path.parent.iterdir()] == [
        ("file", "second" if overwrite else "first")
    ]


def test_a_file_that_is_being_placed_is_not_taken_for_a_killed_runs(tmp_path, monkeypatch):
    path, asked = tmp_path / "file", []
    rename = atomic.replace
    with ThreadPoolExecutor(1) as other:

        def renamed(unfinished, target):
            rename(unfinished, target)
            if target == path:  # it has its name, and its journal is there
                asked.append(other.submit(is_free, path))
                assert not wait(asked, 0.2).done

        monkeypatch.setattr(atomic, "replace", renamed)
        write(path, "mine")
        assert asked[0].result() is False
    assert path.read_text() == "mine"


@pytest.mark.parametrize("at", range(4))
def test_of_a_pair_that_is_replaced_old_and_new_are_never_together(tmp_path, monkeypatch, at):
    """Killed before any of the two removals and two renames, the next run finds nothing of either."""

    class Killed(BaseException):
        pass

    old, new = ([tmp_path / f"{name}{ending}" for name in "ab"] for ending in ("", ".new"))
    for path in (*old, *new):
        path.write_text(path.suffix or "old")
    events = []

    def watched(change, target=0):
        def call(*paths, **more):
            if Path(paths[target]) in old:
                if len(events) == at:
                    raise Killed
                events.append(paths)
            return change(*paths, **more)

        return call

    journal = tmp_path / ".journal"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", watched(Path.unlink))
        patched.setattr(os, "replace", watched(os.replace, 1))
        with pytest.raises(Killed):
            place(dict(zip(new, old, strict=True)), journal)
    assert len({path.read_text() for path in old if path.exists()}) < 2
    withdraw(journal)
    assert not any(path.exists() for path in old)


def write_together(paths, texts, failure=None):
    with written_together(paths) as unfinished:
        for each, text in zip(unfinished, texts, strict=False):
            each.write_text(text)
        if failure:
            raise failure


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt, None])
def test_files_that_are_written_together_appear_together_or_not_at_all(tmp_path, failure):
    paths = [tmp_path / "new" / "deep" / name for name in "ab"]
    with pytest.raises(failure or FileNotFoundError):  # of the last, one is not there at the end
        write_together(paths, "xy" if failure else "x", failure)
    assert list(tmp_path.iterdir()) == []  # the folders are gone, too
    write_together(paths, "xy")
    assert [path.read_text() for path in paths] == ["x", "y"]
    assert sorted(paths[0].parent.iterdir()) == paths
