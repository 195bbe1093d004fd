"""Fields of frozen dataclasses that hold what a person may set: each with a default and one line of help.

    @dataclass(frozen=True)
    class Options:
        structure: str = setting("IGTV", "structure to segment")

From Python the dataclass is filled as any other; the command line makes an option of every field.
"""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, field
from typing import Any


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: Sequence[str] = (),
    metavar: str | tuple[str, ...] | None = None,
    recorded: bool | Callable[[Any], Any] = True,
    example: str = "",
) -> Any:
    """A field.

    Args:
        default: its value where nothing else is given; absent if it must be given.
        help: what it means, in one line.
        choices: the values that it may have; empty if any.
        metavar: how its value is named in a usage line.
        recorded: whether it is kept in the record of a conversion (not where it may identify somebody), or a
            function that gives what is kept of it.
        example: a value; needed where there is no default.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "metavar": metavar,
        "recorded": recorded,
        "example": example,
    }
    return field(default=default, metadata=metadata)
