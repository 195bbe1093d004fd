"""Running steps: what a failure and an interrupt end and keep, and what a second run does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnunet_igtv.commands.steps import Runner, Step
from nnunet_igtv.errors import IGTVError


def step(name, *lines, again=None):
    """A step that runs a Python program."""
    return Step(
        name,
        [sys.executable, "-c", "\n".join(lines)],
        lambda: again and [sys.executable, "-c", again],
    )


def note(folder, text):
    """A line of a program that leaves a mark."""
    return f"open({str(folder / 'marks')!r}, 'a').write({text + ' '!r})"


def marks(folder):
    path = folder / "marks"
    return path.read_text().split() if path.exists() else []


def run(folder, *sequences, **options):
    with Runner(folder / "logs", os.environ, sum(map(len, sequences)), **options) as runner:
        runner.run(*sequences)


def stamps(folder):
    return sorted(path.stem for path in (folder / "logs").glob("*.done"))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # a zombie has ended
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


# a command that starts a process of its own, writes both ids and never ends
ENDLESS = (
    "import subprocess, sys, time, os, pathlib",
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
    "pathlib.Path('{file}.part').write_text(f'{{os.getpid()}} {{child.pid}}')",
    "os.rename('{file}.part', '{file}')",
    "time.sleep(600)",
)


def endless(name, file):
    return step(name, *(line.format(file=file) for line in ENDLESS))


def test_the_progress_bar_ends_full_where_steps_do_not_come(tmp_path):
    with Runner(tmp_path / "logs", os.environ, 3) as runner:
        runner.run([step("only", "pass")])
        runner.expect_fewer(2)
        assert runner.bar.n == runner.bar.total == 1


def test_steps_run_in_order_and_leave_stamps_and_logs(tmp_path):
    run(tmp_path, [step(name, note(tmp_path, name), f"print('this is {name}')") for name in "abc"])
    assert marks(tmp_path) == ["a", "b", "c"]
    assert stamps(tmp_path) == ["a", "b", "c"]
    assert (tmp_path / "logs" / "b.log").read_text() == "this is b\n"
    record = json.loads((tmp_path / "logs" / "b.done").read_text())
    assert record["command"][0] == sys.executable


def test_a_finished_step_is_not_run_again(tmp_path):
    steps = [step(name, note(tmp_path, name)) for name in "ab"]
    run(tmp_path, steps[:1])
    run(tmp_path, steps)
    assert marks(tmp_path) == ["a", "b"]


def test_a_failing_step_is_named_and_what_follows_it_is_not_run(tmp_path, capsys):
    failing = step("bad", "print('first line')", "print('the\\x1b reason')", "raise SystemExit(3)")
    with pytest.raises(IGTVError, match="the step bad ended with status 3") as refusal:
        run(tmp_path, [step("good", note(tmp_path, "good")), failing, step("later", note(tmp_path, "later"))])
    assert refusal.value.file == tmp_path / "logs" / "bad.log"
    assert "\n" not in str(refusal.value)
    assert marks(tmp_path) == ["good"]
    assert stamps(tmp_path) == ["good"]
    shown = capsys.readouterr().out
    assert "the\\x1b reason" in shown


def test_after_a_failure_the_next_run_goes_on_with_the_step_that_failed(tmp_path):
    def steps(works):
        end = "raise SystemExit(0)" if works else "raise SystemExit(1)"
        return [
            step("a", note(tmp_path, "a")),
            step("b", note(tmp_path, "b"), end, again=works and note(tmp_path, "b-continued")),
            step("c", note(tmp_path, "c")),
        ]

    with pytest.raises(IGTVError):
        run(tmp_path, steps(False))
    run(tmp_path, steps(True))
    assert marks(tmp_path) == ["a", "b", "b-continued", "c"]
    assert stamps(tmp_path) == ["a", "b", "c"]


def test_a_failure_ends_the_other_sequence_with_all_its_processes(tmp_path):
    ids = tmp_path / "ids"
    wait = f"import time, os\nwhile not os.path.exists({str(ids)!r}): time.sleep(0.02)"
    began = time.monotonic()
    with pytest.raises(IGTVError, match="the step bad"):
        run(tmp_path, [endless("long", ids), step("x")], [step("bad", wait, "raise SystemExit(1)")])
    assert time.monotonic() - began < 60
    until(lambda: not any(alive(int(pid)) for pid in ids.read_text().split()))
    assert stamps(tmp_path) == []


def test_a_command_that_ignores_the_request_to_end_is_killed(tmp_path):
    ready = tmp_path / "ready"
    stubborn = step(
        "stubborn",
        "import signal, time, pathlib",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        f"pathlib.Path({str(ready)!r}).touch()",
        "time.sleep(600)",
    )
    wait = f"import time, os\nwhile not os.path.exists({str(ready)!r}): time.sleep(0.02)"
    began = time.monotonic()
    with pytest.raises(IGTVError, match="the step bad"):
        run(tmp_path, [stubborn], [step("bad", wait, "raise SystemExit(1)")], grace=0.2)
    assert time.monotonic() - began < 60


def test_a_command_that_does_not_exist_stops_the_others_too(tmp_path):
    ids = tmp_path / "ids"
    missing = Step("missing", ["no-such-command"], lambda: until(ids.exists))
    with pytest.raises(FileNotFoundError, match="no-such-command"):
        run(tmp_path, [endless("long", ids)], [missing])
    until(lambda: not any(alive(int(pid)) for pid in ids.read_text().split()))


PROGRAM = """
import os, sys
from pathlib import Path
from nnunet_igtv.commands.steps import Runner, Step
folder = Path(sys.argv[1])
steps = [Step(f"s{{n}}", [sys.executable, "-c", program]) for n, program in enumerate({programs!r})]
try:
    with Runner(folder / "logs", os.environ, len(steps)) as runner:
        runner.run(steps)
except KeyboardInterrupt:
    sys.exit(130)
"""


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def obey_interrupts():
    """A shell's background jobs, such as these tests may be, ignore them, and so would what they start."""
    for number in ENDS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", ENDS)
def test_an_interrupt_ends_the_running_command_and_the_next_run_continues(tmp_path, number):
    ids = tmp_path / "ids"
    long = "\n".join(line.format(file=ids) for line in ENDLESS)
    first = note(tmp_path, "first")
    programs = [first, long, note(tmp_path, "last")]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(programs=programs), tmp_path], preexec_fn=obey_interrupts
    )
    until(ids.exists)
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    until(lambda: not any(alive(int(pid)) for pid in ids.read_text().split()))
    assert stamps(tmp_path) == ["s0"]
    programs[1] = note(tmp_path, "second")
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(programs=programs), tmp_path])
    assert done.returncode == 0
    assert marks(tmp_path) == ["first", "second", "last"]


def test_after_a_kill_nothing_is_started_beside_the_command_that_still_runs(tmp_path):
    """Its next line would end it, for nobody reads it; a training writes one in minutes."""
    ids = tmp_path / "ids"
    long = "\n".join(line.format(file=ids) for line in ENDLESS)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(programs=[long]), tmp_path])
    until(ids.exists)
    command, child = map(int, ids.read_text().split())
    process.kill()
    process.wait()
    assert alive(command)
    with pytest.raises(IGTVError, match="another process works in this output folder"):
        run(tmp_path, [step("second", note(tmp_path, "second"))])
    assert marks(tmp_path) == []
    os.killpg(command, signal.SIGKILL)
    until(lambda: not alive(command) and not alive(child))
    run(tmp_path, [step("second", note(tmp_path, "second"))])
    assert marks(tmp_path) == ["second"]
