"""Commands run one after another, in several sequences at the same time, and continued after an interruption.

Each finished command leaves a stamp, so that it is not run again, and its output stays in a log of its own.
"""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, current_thread, main_thread

from tqdm import tqdm

from nnunet_igtv.atomic import write_text
from nnunet_igtv.commands.console import plain
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.workspace import held

TAIL = 15  # lines of a failed command's output that are shown
ENDS = (signal.SIGTERM, signal.SIGHUP)  # what ends a program from outside: `kill`, a terminal that is closed


@dataclass(frozen=True)
class Step:
    """One command; `again` gives the command that continues it, where an interrupted run left a start."""

    name: str
    command: list[str]
    again: Callable[[], list[str] | None] = lambda: None


class Runner:
    """Runs steps, with stamps and logs in one folder and a progress bar over all of them.

    In its context `ENDS` are interrupts as Ctrl-C is: the commands that run are ended too, instead of writing
    on beside those of the next run. A command that outlives a killed runner holds the folder until it ends.

    Args:
        logs: folder of `NAME.log` and `NAME.done`.
        environment: of the commands.
        total: number of steps that will come, for the progress bar.
        grace: seconds that a command has to end after SIGTERM; then it is killed.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], total: int, grace: float = 10) -> None:
        self.logs, self.environment, self.grace = logs, environment, grace
        self.logs.mkdir(parents=True, exist_ok=True)
        self.total = total
        self.running: list[subprocess.Popen] = []
        self.stopping = False
        self._ended = ExitStack()
        self._lock = Lock()  # between starting a command and stopping all of them

    def __enter__(self) -> "Runner":
        self.holding = self._ended.enter_context(held(self.logs))
        self.bar = self._ended.enter_context(tqdm(total=self.total, unit="step", dynamic_ncols=True))
        if current_thread() is main_thread():  # no other one may set a handler
            for number in ENDS:
                if signal.getsignal(number) is signal.SIG_DFL:  # not so under `nohup`
                    signal.signal(number, signal.default_int_handler)
                    self._ended.callback(signal.signal, number, signal.SIG_DFL)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.close()

    def run(self, *sequences: Iterable[Step]) -> None:
        """Do the steps of each sequence in order, the sequences at the same time.

        Raises:
            IGTVError: a command failed. Those that ran at the same time are ended first, with the processes
                that they started, as on an interrupt.
        """
        with ThreadPoolExecutor(len(sequences)) as pool:
            futures = [pool.submit(self._sequence, steps) for steps in sequences]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop()
                raise

    def expect_fewer(self, steps: int) -> None:
        """So many of the steps in all will not come, for the progress bar."""
        self.bar.total -= steps

    def _sequence(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if self.stopping:
                return
            self._do(step)
            self.bar.update()

    def _do(self, step: Step) -> None:
        stamp, log = self.logs / f"{step.name}.done", self.logs / f"{step.name}.log"
        if stamp.exists():
            return
        command = step.again() or step.command
        self.bar.write(shlex.join(command))
        began = time.monotonic()
        status = self._follow(command, step.name, log)
        if self.stopping:
            return
        if status != 0:
            tail = log.read_text(errors="replace").splitlines()[-TAIL:]
            self.bar.write("\n".join(f"  {plain(line)}" for line in tail))
            raise IGTVError(
                f"the step {step.name} ended with status {status}",
                file=log,
                remedy="correct the cause and run the same command again: finished steps are kept",
            )
        seconds = time.monotonic() - began
        write_text(stamp, json.dumps({"command": command, "seconds": round(seconds, 1)}) + "\n")
        self.bar.write(f"  {step.name}: {seconds:.0f} s")

    def _follow(self, command: Sequence[str], name: str, log: Path) -> int | None:
        """Run a command to its end, its output kept in `log` and its latest line next to the progress bar.

        Returns:
            Its exit status; None where it was not started because all are being stopped.
        """
        with log.open("a", buffering=1) as file:  # line by line, for who follows it
            with self._lock:
                if self.stopping:
                    return None
                process = subprocess.Popen(
                    command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    start_new_session=True,  # a group of its own, ended as a whole
                    pass_fds=[self.holding],
                )
                self.running.append(process)
            with process:
                assert process.stdout is not None
                for line in process.stdout:
                    file.write(line)
                    if line.strip():
                        self.bar.set_postfix_str(f"{name}: {plain(line.strip())[:50]}", refresh=True)
        with self._lock:
            self.running.remove(process)
        return process.returncode

    def _stop(self) -> None:
        """End all commands and the processes that they started."""
        with self._lock:
            self.stopping = True
            processes = list(self.running)
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        limit = time.monotonic() + self.grace
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0, limit - time.monotonic()))
            _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # all of the group have ended
        os.killpg(process.pid, number)
