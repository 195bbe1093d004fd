"""A conversion killed at any moment is completed by the next; two at once wait for each other.

The command runs in forked processes, so that a kill costs no new interpreter.
"""

import json
import os
import re
import signal
import sys
import time

import pytest

# imported here, before processes are forked
from nnunetv2.dataset_conversion import generate_dataset_json  # noqa: F401

import nnunet_igtv.dataset_conversion.convert  # noqa: F401
from nnunet_igtv.commands.main import main

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree"}


class Events:
    """Counts what changes files under a folder, in this process; kills it right before event `kill_at`."""

    def __init__(self, folder, kill_at=0, kill_by=signal.SIGKILL):
        self.folder, self.kill_at, self.kill_by, self.count = str(folder), kill_at, kill_by, 0
        sys.addaudithook(self.hook)
        fsync = os.fsync
        os.fsync = lambda file: (self.event(), fsync(file))[1]

    def hook(self, name, arguments):
        if name == "open":
            path, _, flags = arguments
            if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        elif name in CHANGES:
            path = arguments[1] if name == "os.rename" else arguments[0]
        else:
            return
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self.folder):
            self.event()

    def event(self):
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), self.kill_by)


def forked(run):
    """Starts `run(report)` in a process of its own; returns its id and the pipe of its reports."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            sys.stdout = sys.stderr = os.fdopen(null, "w")
            status = run(lambda number: os.write(writing, b"%d" % number))
        except BaseException:
            status = 99
        os._exit(status)
    os.close(writing)
    return process, reading


def ended(process):
    """Exit status of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def convert(raw, arguments, kill_at=None, kill_by=signal.SIGKILL):
    """Status of `convert` in a process of its own, and how many file events it had, if counted."""

    def run(report):
        events = Events(raw, kill_at, kill_by) if kill_at is not None else None
        status = main(["convert", *map(str, arguments)])
        if events:
            report(events.count)
        return status

    process, reading = forked(run)
    with open(reading, "rb") as pipe:
        count = pipe.read()
    return ended(process), int(count or 0)


def state(raw):
    """Every file but the record (whose bytes depend on its history) and the lock, whole."""
    files = {str(p.relative_to(raw)): p.read_bytes() for p in sorted(raw.rglob("*")) if p.is_file()}
    return {name: data for name, data in files.items() if not name.endswith((".sqlite", ".lock"))}


@pytest.fixture
def studies(tmp_path, patient):
    for key in ("a", "bb"):
        patient(key).write(tmp_path / "in" / key)
    return tmp_path / "in"


def empty(raw):
    import shutil

    shutil.rmtree(raw, ignore_errors=True)


def test_killed_at_every_file_event_the_next_run_completes_it(studies, raw):
    command = ["lucid", studies / "a", "-d", 5, "-j", 1]
    status, events = convert(raw, command, kill_at=0)
    assert status == 0
    assert events > 30
    whole = state(raw)
    assert len(whole) == 6  # images and label, two JSON files, the manifest
    for n in range(1, events + 1):
        empty(raw)
        assert convert(raw, command, kill_at=n)[0] == -signal.SIGKILL
        assert convert(raw, command)[0] == 0, f"killed before event {n}"
        assert state(raw) == whole, f"killed before event {n}"
        assert not [p for p in raw.rglob("*") if re.search(r"^\.|partial|^tmp|unfinished", p.name)], n


def test_an_appending_run_killed_anywhere_loses_nothing_of_the_first(studies, raw, tmp_path, patient):
    patient("ccc").write(tmp_path / "more" / "ccc")
    first, second = (
        ["lucid", studies, "-d", 5, "-j", 1],
        ["lucid", tmp_path / "more", "-d", 5, "-j", 1, "--append"],
    )
    convert(raw, first)
    _, events = convert(raw, second, kill_at=0)
    whole = state(raw)
    for n in range(1, events + 1, 4):
        empty(raw)
        convert(raw, first)
        before = {name: data for name, data in state(raw).items() if name.endswith(".gz")}
        convert(raw, second, kill_at=n)
        after = state(raw)
        assert {name: after[name] for name in before} == before
        assert convert(raw, second)[0] == 0
        assert state(raw) == whole, f"killed before event {n}"


def test_two_at_once_give_each_patient_a_number(studies, raw, tmp_path, patient):
    for key in ("ccc", "dddd"):
        patient(key).write(tmp_path / key / key)
    convert(raw, ["lucid", studies, "-d", 5, "-j", 1])
    appending = [["lucid", tmp_path / key, "-d", 5, "-j", 1, "--append"] for key in ("ccc", "dddd")]

    def start(arguments, at):
        def run(report):
            Events(raw, at, signal.SIGSTOP)
            return main(["convert", *map(str, arguments)])

        return forked(run)

    slow, slow_pipe = start(appending[0], 12)
    os.waitpid(slow, os.WUNTRACED)  # stopped in the middle of its work, the lock in its hand
    quick, quick_pipe = start(appending[1], 0)
    time.sleep(0.5)
    assert os.waitpid(quick, os.WNOHANG) == (0, 0)  # it waits
    os.kill(slow, signal.SIGCONT)
    assert (ended(slow), ended(quick)) == (0, 0)
    os.close(slow_pipe), os.close(quick_pipe)
    cases = json.loads((raw / "Dataset005_LUCID" / "conversion.json").read_text())["cases"]
    assert list(cases) == [f"LUCID_000{k}" for k in (1, 2, 3, 4)]
    rows = (raw / "Dataset005_LUCID_manifest.csv").read_text().splitlines()[1:]
    assert len({row.split(",")[4] for row in rows}) == len(rows) == 4


def test_an_image_cut_short_is_converted_again(studies, raw):
    command = ["lucid", studies, "-d", 5, "-j", 1]
    convert(raw, command)
    whole = state(raw)
    image = raw / "Dataset005_LUCID" / "imagesTr" / "LUCID_0001_0001.nii.gz"
    image.write_bytes(image.read_bytes()[:-100])
    assert convert(raw, command)[0] == 0
    assert state(raw) == whole


def test_a_full_disk_is_a_failure_of_the_case(studies, raw, capsys):
    """A limit on the size of files stands for the disk: ITK's writer prints, and raises nothing."""

    def limited(report):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        return main(["convert", "lucid", str(studies), "-d", "5", "-j", "1"])

    process, pipe = forked(limited)
    assert ended(process) == 1
    os.close(pipe)
    assert not list(raw.rglob("*.nii.gz"))
    assert convert(raw, ["lucid", studies, "-d", 5, "-j", 1])[0] == 0
    assert len(list(raw.rglob("*.nii.gz"))) == 6
