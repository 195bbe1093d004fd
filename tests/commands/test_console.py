"""What a person reads: help with an example in any terminal, and no control character of others' names."""

import ast
import os
import subprocess
import sys
from argparse import _SubParsersAction
from importlib import import_module
from pathlib import Path

import pytest

from nnunet_igtv.commands.console import Parser, plain, say
from nnunet_igtv.commands.main import COMMANDS

COMMANDS_FOLDER = Path(__file__).parents[2] / "nnunet_igtv" / "commands"
ASCII = ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})


def parsers():
    """(words, parser) of every command and of every subcommand."""
    for name, (module, _) in COMMANDS.items():
        parser = import_module(f"nnunet_igtv.commands.{module}").parser()
        yield (name,), parser
        for action in parser._actions:
            if isinstance(action, _SubParsersAction):
                yield from (((name, word), sub) for word, sub in action.choices.items())


ALL = dict(parsers())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_help_names_the_command_and_ends_with_an_example_of_it(words):
    text = ALL[words].format_help()
    assert text.startswith(f"usage: nnunet-igtv {' '.join(words)} ")
    example = text.split("\nexample:\n")[1]
    assert all(line.startswith("  ") for line in example.splitlines())
    assert f"{' '.join(words)}" in example


@pytest.mark.parametrize("words", [words for words in ALL if words != ("env",)], ids=" ".join)
def test_the_example_has_what_the_command_requires(words):
    """Every option that must be given stands in the example."""
    parser = ALL[words]
    example = parser.format_help().split("\nexample:\n")[1]
    for action in parser._actions:
        if action.required and action.option_strings:
            assert any(f" {option} " in example for option in action.option_strings), action.dest


def test_a_parser_without_an_example_cannot_be_made():
    with pytest.raises(TypeError, match="example"):
        Parser(prog="x")


def helped(words, environment):
    program = "from nnunet_igtv.commands.main import main\nimport sys\nfor line in sys.argv[1:]:\n"
    program += (
        "    try: assert main(line.split(',')) == 0\n    except SystemExit as end: assert not end.code\n"
    )
    lines = [",".join([*words_of, "--help"]) for words_of in words]
    return subprocess.run(
        [sys.executable, "-c", program, *lines],
        capture_output=True,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("environment", ASCII, ids=lambda e: next(iter(e)))
def test_help_works_where_the_terminal_takes_ascii_only(environment):
    done = helped([(), *ALL], environment)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"usage: nnunet-igtv") == 1 + len(ALL)
    assert done.stdout.isascii()


def test_a_letter_that_the_terminal_lacks_is_shown_as_its_code():
    program = (
        "from nnunet_igtv.commands import console as c; c.accept_any_character(); c.say('Müller ≤ \\udce9')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert done.stdout == b"M\\xfcller \\u2264 \\udce9\n"


def test_control_characters_are_made_visible_and_nothing_else_is_touched(capsys):
    assert plain("IGTV\x1b]0;owned\x07\r\x9b2K\u2028") == "IGTV\\x1b]0;owned\\x07\\r\\x9b2K\\u2028"
    assert plain("ü 50 % ≤\n\tGTV \\x1b") == "ü 50 % ≤\n\tGTV \\x1b"
    say("a\x1bb")
    say("c\x07d", error=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a\\x1bb\n", "c\\x07d\n")


def test_an_argument_that_is_not_understood_is_printed_without_control_characters(capsys):
    with pytest.raises(SystemExit):
        ALL["env",].parse_args(["--x\x1b[2K"])
    assert "\\x1b[2K" in capsys.readouterr().err


def test_commands_print_through_say_only():
    wrong = [
        f"{path.name}:{node.lineno}"
        for path in COMMANDS_FOLDER.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if path.name != "console.py"
    ]
    assert not wrong
