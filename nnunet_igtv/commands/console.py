"""What a person reads in a terminal: text without control characters, and help with an example.

Names of files, structures and series may hold escape codes, which could move the cursor, forge lines or set
the title of the window. Such characters are shown as `\\x1b`.
"""

import argparse
import io
import re
import sys
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # all but tab and line feed


def plain(text: str) -> str:
    """The text with control characters, other than tabs and line feeds, made visible."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def say(text: object = "", *, error: bool = False) -> None:
    """Print a text, on the standard error stream if it is one."""
    print(plain(str(text)), file=sys.stderr if error else sys.stdout, flush=True)


def accept_any_character() -> None:
    """From now on a character that the terminal's encoding lacks is printed as its code (`\\u2026`)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Parser(argparse.ArgumentParser):
    """A parser of options whose help ends with an example.

    Args:
        example: command lines as one would type them, one a line; required.
        more: the arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, *, example: str, **more: Any) -> None:
        super().__init__(**more)
        self.example = example

    def format_help(self) -> str:
        lines = "".join(f"  {line}\n" for line in self.example.splitlines())
        return f"{super().format_help()}\nexample:\n{lines}"

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(plain(message), file)
