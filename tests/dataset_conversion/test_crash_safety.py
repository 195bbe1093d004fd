"""A conversion killed at any moment is completed by the next; two at once wait for each other."""

import json
import os
import shutil
import signal
import sys
import time

import pytest
from kills import before_each_change, completes_after_every_kill

# imported here, before processes are forked
from nnunetv2.dataset_conversion import generate_dataset_json  # noqa: F401

import nnunet_igtv.dataset_conversion.convert  # noqa: F401
from nnunet_igtv.commands.main import main
from nnunet_igtv.dataset_conversion import motion_study
from nnunet_igtv.dataset_conversion.sources import four_d_ct
from nnunet_igtv.phantom.cohort import write_cohort
from nnunet_igtv.studies.grouping import group_studies


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


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


def state(raw):
    """Every file but the record (whose bytes depend on its history) and the lock, whole."""
    files = {str(p.relative_to(raw)): p.read_bytes() for p in sorted(raw.rglob("*")) if p.is_file()}
    return {name: data for name, data in files.items() if not name.endswith((".sqlite", ".lock"))}


@pytest.fixture
def studies(tmp_path, patient):
    for key in ("a", "bb"):
        patient(key).write(tmp_path / "in" / key)
    return tmp_path / "in"


def test_killed_at_every_file_event_the_next_run_completes_it(studies, raw):
    raw.mkdir()
    events, kills = completes_after_every_kill(
        raw, lambda: convert("lucid", studies / "a", "-d", 5, "-j", 1), state
    )
    assert len(state(raw)) == 6  # images and label, two JSON files, the manifest
    assert events > 50
    assert kills > 20


def test_an_appending_run_killed_anywhere_loses_nothing_of_the_first(studies, raw, tmp_path, patient):
    patient("ccc").write(tmp_path / "more" / "ccc")
    convert("lucid", studies, "-d", 5, "-j", 1)
    images = {name: data for name, data in state(raw).items() if name.endswith(".gz")}

    def left(raw):
        assert images.items() <= state(raw).items()

    completes_after_every_kill(
        raw, lambda: convert("lucid", tmp_path / "more", "-d", 5, "-j", 1, "--append"), state, left
    )
    assert len(state(raw)) == 12


@pytest.fixture(scope="module")
def breath(tmp_path_factory):
    """A phantom's 4D-CT, its case, and the report of its motion, each computed once."""
    folder = next(iter(write_cohort("4dct", 1, 4, 24, 8, tmp_path_factory.mktemp("4dct"))))
    files = four_d_ct.find_files(folder)
    (study,), _ = group_studies(four_d_ct.dicom_rt.index(files[0], 1))
    options = four_d_ct.Options(structure="GTV_{phase}")
    case = four_d_ct.dicom_rt.load_study(study, options, folder, four_d_ct.case_of)
    report = motion_study.motion_of(folder, motion_study.MotionOptions(structure="GTV_{phase}"))
    return folder, case, report


def test_a_4d_ct_killed_at_every_file_event_is_completed(breath, raw, monkeypatch):
    folder, case, _ = breath
    monkeypatch.setattr(four_d_ct, "case_of", lambda study, options: case)
    raw.mkdir()
    command = ("4dct", folder, "-d", 5, "-j", 1, "--structure", "GTV_{phase}")
    events, kills = completes_after_every_kill(raw, lambda: convert(*command), state, every=8)
    assert {name.split("/")[1] for name in state(raw) if "/" in name} >= {"motion", "imagesTr", "labelsTr"}
    assert events > 60
    assert kills > 25


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_report_of_motion_killed_at_every_file_event_is_completed(breath, tmp_path, monkeypatch, options):
    folder, _, report = breath
    monkeypatch.setattr(motion_study, "motion_of", lambda *_: report)
    output = tmp_path / "out"
    output.mkdir()
    command = ["motion", str(folder), "--structure", "GTV_{phase}", "-o", str(output)]
    if options:
        assert main([*command]) == 0
    events = completes_after_every_kill(output, lambda: main([*command, *options]), every=2)
    assert events > (10, 5)
    assert main(command) == 1  # it is there to stay


def test_a_kill_leaves_what_is_there_right_before(studies, raw):
    """What `kills` takes for granted, with a kill."""
    command = ("lucid", studies / "a", "-d", 5, "-j", 1)
    copy, count = raw.with_name("copy"), 0

    def at_event_40(act):
        nonlocal count
        count += 1
        if count == 40:
            act()

    def killed(report):
        with before_each_change(raw, lambda: at_event_40(lambda: os.kill(os.getpid(), signal.SIGKILL))):
            return convert(*command)

    with before_each_change(raw, lambda: at_event_40(lambda: shutil.copytree(raw, copy))):
        convert(*command)
    shutil.rmtree(raw)
    count = 0
    process, pipe = forked(killed)
    assert ended(process) == -signal.SIGKILL
    os.close(pipe)
    assert state(raw) == state(copy)
    assert state(raw)


def test_two_at_once_give_each_patient_a_number(studies, raw, tmp_path, patient):
    for key in ("ccc", "dddd"):
        patient(key).write(tmp_path / key / key)
    convert("lucid", studies, "-d", 5, "-j", 1)
    appending = [["lucid", tmp_path / key, "-d", 5, "-j", 1, "--append"] for key in ("ccc", "dddd")]

    def start(arguments, at):
        def run(report):
            count = 0

            def stop():
                nonlocal count
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGSTOP)

            with before_each_change(raw, stop):
                return convert(*arguments)

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
    command = ("lucid", studies, "-d", 5, "-j", 1)
    convert(*command)
    whole = state(raw)
    image = raw / "Dataset005_LUCID" / "imagesTr" / "LUCID_0001_0001.nii.gz"
    image.write_bytes(image.read_bytes()[:-100])
    assert convert(*command) == 0
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
    assert not [path for path in raw.rglob("*") if path.suffix != ".lock"]  # not even a record
    assert convert("lucid", studies, "-d", 5, "-j", 1) == 0
    assert len(list(raw.rglob("*.nii.gz"))) == 6
