"""`nnunet-igtv`: one table of commands; each command's module is imported only when it is called.

A command's module has `parser()` and `run(arguments) -> exit status`. What `run` raises is printed here, in
one line, with the command's own options in place of the names of settings.

Exit statuses: 0 done, 1 refused or failed, 2 not understood, 130 interrupted, 141 the pipe has no reader.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

from nnunet_igtv import __version__
from nnunet_igtv.commands.console import accept_any_character, say
from nnunet_igtv.errors import IGTVError

# name -> (module in this folder, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "env": ("env", "print the export line that lets nnU-Net find the trainers"),
    "doctor": ("doctor", "check this installation: versions, folders, trainers, scan backend"),
    "phantom": ("phantom", "write a breathing PET/CT phantom cohort as DICOM"),
    "inspect": ("inspect", "list what a folder of DICOM holds"),
    "motion": ("motion", "how a tumour moves through the phases of a 4D-CT"),
    "convert": ("convert", "convert PET/CT studies to an nnU-Net raw dataset"),
    "train": ("train", "train as nnUNetv2_train does, also under torchrun"),
    "import-weights": ("import_weights", "make a checkpoint that -pretrained_weights accepts"),
    "check-model": ("check_model", "say what a trained model is, and whether loading it would run code"),
    "export": ("export", "write a prediction as RTSTRUCT or DICOM-SEG"),
    "predict-dicom": ("predict_dicom", "contour one DICOM study: study in, RTSTRUCT out"),
    "evaluate": ("evaluate", "score predictions per case and per slice position"),
    "demo": ("demo", "run the whole pipeline at small size on phantoms"),
}
REMEDY = "check the path, the permission to read or write there, and the space on the disk"
REMEDIES = {
    errno.EMFILE: "allow this process more open files (ulimit -n)",
    errno.ENFILE: "end other programs: the whole system has no more open files to give",
    errno.ENAMETOOLONG: "choose shorter names of files and folders",
}


class UsageError(Exception):
    """The options contradict each other; the text is shown after the command's usage."""


def usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        f"nnunet-igtv {__version__}\n\nusage: nnunet-igtv COMMAND [options]\n\n{rows}\n\n"
        "example:\n  nnunet-igtv convert lucid /data/studies -d 502\n"
        "  nnunet-igtv convert --help\n"
    )


def main(argv: list[str] | None = None) -> int:
    accept_any_character()
    argv = sys.argv[1:] if argv is None else argv
    command = f"nnunet-igtv {argv[0]}" if argv and argv[0] in COMMANDS else "nnunet-igtv"
    try:
        status = _main(argv)
        sys.stdout.flush()  # here, where a reader that is gone can still be dealt with
        return status
    except KeyboardInterrupt:
        say(f"{command}: interrupted; run the same command again to continue", error=True)
        return 130
    except BrokenPipeError:  # `nnunet-igtv … | head`
        _print_no_more()
        return 141
    except OSError as error:
        return _failed(command, error)
    except ImportError as error:  # of a library: the system's loader gives its reasons in words only
        if os.strerror(errno.EMFILE) not in str(error):
            raise
        return _failed(command, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    except MemoryError:
        say(f"{command}: out of memory. Remedy: use a machine with more, or smaller input", error=True)
        return 1


def _failed(command: str, error: OSError) -> int:
    where = f" [{error.filename}]" if error.filename is not None else ""
    remedy = REMEDIES.get(error.errno or 0, REMEDY)
    say(f"{command}: {error.strerror or error}{where}. Remedy: {remedy}", error=True)
    try:
        sys.stdout.flush()
    except OSError:  # it is the output that cannot be written
        _print_no_more()
    return 1


def _print_no_more() -> None:
    """Whatever Python flushes at its exit goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        say(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        say(__version__)
        return 0
    if argv[0] not in COMMANDS:
        near = get_close_matches(argv[0], COMMANDS, 1)
        guess = f"; did you mean {near[0]}?" if near else ""
        say(f"nnunet-igtv: unknown command {argv[0]!r}{guess}\n\n{usage()}", error=True)
        return 2
    module = import_module(f"nnunet_igtv.commands.{COMMANDS[argv[0]][0]}")
    parser: argparse.ArgumentParser = module.parser()
    arguments = parser.parse_args(argv[1:])
    arguments.spelled = spelling(parser, arguments)
    try:
        return int(module.run(arguments))
    except UsageError as error:
        parser.error(str(error))
    except IGTVError as error:
        say(f"{parser.prog}: {error.text(arguments.spelled)}", error=True)
        return 1


def spelling(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Callable[[str], str | None]:
    """How a command's user writes a setting: by its option; None where the command has no such option.

    Options and settings are matched by `dest`, in the parser and in the subparser that was chosen.
    """
    names: dict[str, str] = {}
    parsers = [parser]
    for current in parsers:
        for action in current._actions:  # argparse has no public list
            if action.option_strings:
                names[action.dest] = action.option_strings[-1]
            if isinstance(action, argparse._SubParsersAction):
                parsers.append(action.choices[getattr(arguments, action.dest)])
    return names.get
