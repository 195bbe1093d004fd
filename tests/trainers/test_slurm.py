"""The job file of docs/, run by bash with stand-ins for SLURM's commands and torchrun."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

JOB = Path(__file__).parents[2] / "docs" / "slurm.sh"
STAND_INS = {
    "scontrol": '[ "$1" = show ] && printf "node07\\nnode08\\n" || echo "$@" >> "$CALLS/requeued"',
    "srun": '[ "$1" = --kill-on-bad-exit=1 ] && shift && exec "$@"',
    "torchrun": 'printf "%s\\n" "$@" > "$CALLS/part" && mv "$CALLS/part" "$CALLS/started"; eval "$THEN"',
}


@pytest.fixture
def job(tmp_path):
    """Starts the job file; `then` is what its torchrun does."""
    for name, line in STAND_INS.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[07-08]"}
    folders = {f"nnUNet_{name}": str(tmp_path) for name in ("raw", "preprocessed", "results")}
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CALLS": str(tmp_path)}
    started = []

    def start(then="true", **changes):
        environment = os.environ | slurm | folders | path | {"THEN": then} | changes
        started.append(subprocess.Popen(["bash", JOB], env=environment, start_new_session=True))
        return started[-1], tmp_path

    yield start
    for run in started:
        with contextlib.suppress(ProcessLookupError):  # what a killed job leaves, SLURM ends
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def test_every_machine_starts_the_same_torchrun_that_meets_on_the_first(job):
    run, calls = job()
    assert run.wait(timeout=30) == 0
    arguments = (calls / "started").read_text().split("\n")[:-1]
    options, command = arguments[: arguments.index("-m")], arguments[arguments.index("-m") :]
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--nnodes": "2",
        "--nproc-per-node": "4",
        "--rdzv-id": "4711",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "node07:24711",
    }
    assert command[:3] == ["-m", "nnunet_igtv", "train"]
    assert "--c" in command


def test_a_failed_training_fails_the_job(job):
    run, _ = job("exit 3")
    assert run.wait(timeout=30) == 3


def test_without_nnunets_folders_it_does_not_start(job):
    run, calls = job(nnUNet_results="")
    assert run.wait(timeout=30) != 0
    assert not (calls / "started").exists()


def test_before_its_time_is_up_the_job_goes_back_into_the_queue(job):
    run, calls = job("sleep 60")
    end = time.monotonic() + 30
    while not (calls / "started").exists():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    run.send_signal(signal.SIGUSR1)
    run.wait(timeout=30)
    assert (calls / "requeued").read_text() == "requeue 4711\n"
