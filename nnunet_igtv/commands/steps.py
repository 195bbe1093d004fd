"""Commands run one after another, in lanes beside each other; what was interrupted goes on where it was.

Each finished command leaves a stamp, and its output stays in a log of its own.
"""

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from nnunet_igtv.errors import IGTVError


@dataclass(frozen=True)
class Step:
    """One command; `again` replaces it where an interrupted run left something to go on from."""

    name: str
    command: list[str]
    again: Callable[[], list[str] | None] = lambda: None


class Runner:
    """Runs steps, with stamps and logs in one folder and a progress bar over all of them.

    Args:
        logs: folder of `NAME.log` and `NAME.done`.
        environment: of the commands.
        total: number of steps that will come, for the progress bar.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], total: int) -> None:
        self.logs, self.environment = logs, environment
        self.logs.mkdir(parents=True, exist_ok=True)
        self.bar = tqdm(total=total, unit="step", dynamic_ncols=True)
        self.running: list[subprocess.Popen] = []
        self.stopping = False

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def run(self, *lanes: Iterable[Step]) -> None:
        """Does each lane's steps in order, the lanes beside each other.

        Raises:
            IGTVError: a command failed; the commands beside it are ended, as they are on an interrupt.
        """
        with ThreadPoolExecutor(len(lanes)) as pool:
            futures = [pool.submit(self._lane, lane) for lane in lanes]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self.stopping = True
                for process in self.running:
                    process.terminate()
                raise

    def _lane(self, steps: Iterable[Step]) -> None:
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
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise IGTVError(
                f"step {step.name} ended with status {status}; its last lines:\n{tail}\n",
                file=log,
                remedy="mend the cause and run the same command again: finished steps are kept",
            )
        seconds = time.monotonic() - began
        stamp.write_text(json.dumps({"command": command, "seconds": round(seconds, 1)}) + "\n")
        self.bar.write(f"  {step.name}: {seconds:.0f} s")

    def _follow(self, command: Sequence[str], name: str, log: Path) -> int:
        """Run a command, its output kept in `log` and its latest line shown behind the progress bar."""
        with (
            log.open("a", buffering=1) as file,  # line by line, for who follows it
            subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            self.running.append(process)
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                if line.strip():
                    self.bar.set_postfix_str(f"{name}: {line.strip()[:50]}", refresh=True)
        self.running.remove(process)
        return process.returncode
