"""How a command ends: what becomes of each kind of error, and of an interrupt or a pipe without a reader."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunet_igtv import __version__
from nnunet_igtv.commands import main as commands
from nnunet_igtv.commands.console import Parser
from nnunet_igtv.commands.main import UsageError, main
from nnunet_igtv.errors import IGTVError


@pytest.fixture
def command(monkeypatch):
    """command(run): makes `nnunet-igtv try` of a function; with options and subcommands."""

    def make(run):
        def parser():
            parser = Parser(prog="nnunet-igtv try", example="nnunet-igtv try")
            parser.add_argument("--structure", default="IGTV")
            kinds = parser.add_subparsers(dest="kind")
            kinds.add_parser("a", example="try a").add_argument("-w", "--weight", dest="weight_kg")
            kinds.add_parser("b", example="try b").add_argument("--other", dest="unheard_of")
            return parser

        monkeypatch.setitem(commands.COMMANDS, "try", ("try_module", "for tests"))
        module = SimpleNamespace(parser=parser, run=run)
        monkeypatch.setattr(commands, "import_module", lambda name: module)

    return make


def raising(error):
    def run(arguments):
        raise error

    return run


def test_what_a_command_returns_is_the_exit_status(command):
    for status in (0, 1, 3):
        command(lambda arguments, status=status: status)
        assert main(["try", "a"]) == status


def test_bad_input_is_one_line_and_status_1(command, capsys):
    command(raising(IGTVError("two structures match", case="GTV_0001", file="set.dcm", remedy="name one")))
    assert main(["try", "a"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "nnunet-igtv try: GTV_0001: two structures match [set.dcm]. Remedy: name one\n"


def test_settings_are_spelled_as_the_options_of_the_subcommand_that_was_called(command, capsys):
    settings = ["structure", "weight_kg", "unheard_of", "no_setting"]
    command(raising(IGTVError("no", remedy="give it", settings=settings)))
    main(["try", "a"])
    assert capsys.readouterr().err.endswith("Remedy: give it (--structure, --weight)\n")
    main(["try", "b"])
    assert capsys.readouterr().err.endswith("Remedy: give it (--structure, --other)\n")


def test_contradicting_options_end_with_the_usage_and_status_2(command, capsys):
    command(raising(UsageError("--a and --b exclude each other")))
    with pytest.raises(SystemExit) as end:
        main(["try", "a"])
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("usage: nnunet-igtv try")
    assert lines[-1] == "nnunet-igtv try: error: --a and --b exclude each other"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/closed"), "Permission denied [/closed]"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (FileNotFoundError("vanished"), "vanished"),
        (MemoryError(), "out of memory"),
    ],
)
def test_errors_of_the_system_are_one_line(command, capsys, error, says):
    command(raising(error))
    assert main(["try", "a"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nnunet-igtv try: {says}. Remedy: ")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.EMFILE, "Too many open files", "x"), "ulimit -n"),
        (ImportError(f"x.so: cannot open shared object file: {os.strerror(errno.EMFILE)}"), "ulimit -n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "shorter names"),
    ],
)
def test_the_remedy_fits_the_error(command, capsys, error, remedy):
    command(raising(error))
    assert main(["try", "a"]) == 1
    assert remedy in capsys.readouterr().err


def test_a_library_that_is_missing_is_a_fault_of_the_installation(command):
    command(raising(ImportError("no module named x")))
    with pytest.raises(ImportError):
        main(["try", "a"])


def test_a_fault_of_the_program_is_not_hidden(command):
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["try", "a"])


def test_an_interrupt_is_one_line_and_status_130(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert main(["try", "a"]) == 130
    assert capsys.readouterr().err.startswith("nnunet-igtv try: interrupted")


def test_escape_codes_in_an_error_do_not_reach_the_terminal(command, capsys):
    command(raising(IGTVError("no structure 'x\x1b]0;owned\x07'")))
    main(["try", "a"])
    assert "\x1b" not in capsys.readouterr().err


def test_an_unknown_command_is_named_with_the_nearest_one(capsys):
    assert main(["evaluat\x07e"]) == 2
    error = capsys.readouterr().err
    assert "did you mean evaluate?" in error
    assert "\x07" not in error
    assert main(["xyz"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_without_a_command_the_usage_is_printed(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.count("usage: nnunet-igtv COMMAND") == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


# ------------------------------------------------------------------------------------------- as processes

PROGRAM = """
import sys, time
from types import SimpleNamespace
from nnunet_igtv.commands import main as commands
from nnunet_igtv.commands.console import Parser, say

def run(arguments):
    say("begun")
    {body}
    return 0

commands.COMMANDS["try"] = ("try_module", "")
module = SimpleNamespace(parser=lambda: Parser(prog="nnunet-igtv try", example="x"), run=run)
commands.import_module = lambda name: module
sys.exit(commands.main(["try"]))
"""


def start(body):
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=obey_interrupts)


def obey_interrupts():
    """A shell's background jobs, such as these tests may be, ignore them, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_the_process_with_130_and_no_traceback():
    process = start("time.sleep(60)")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in error
    assert "Traceback" not in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_the_output_is_one_line():
    command = [sys.executable, "-c", PROGRAM.format(body="say('end')")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line


@pytest.mark.parametrize("body", ["[say('x' * 1000) for _ in range(10000)]", "time.sleep(0.5); print('x')"])
def test_a_pipe_without_a_reader_ends_the_process_quietly(body):
    """While it prints, and where only the last flush finds out."""
    process = start(body)
    assert process.stdout.readline() == "begun\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
