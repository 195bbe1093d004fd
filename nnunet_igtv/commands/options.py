"""Options of a command from the fields of a dataclass: one place for name, type, default and help.

A field is made with `setting` (see `nnunet_igtv.settings`). Its name becomes the option, with a unit at the
end as the metavar: `weight_kg` is `--weight KG`. A bool is a switch; a tuple takes as many values as it has.
"""

import argparse
import shlex
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, get_args, get_type_hints

T = TypeVar("T")
UNITS = ("kg", "mm", "h")


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """Add one option per field of a dataclass."""
    types = get_type_hints(options)
    for field in fields(options):
        _add(parser, field, types[field.name])


def options_of(arguments: argparse.Namespace, options: type[T]) -> T:
    """The dataclass, from parsed arguments."""
    return options(**{field.name: getattr(arguments, field.name) for field in fields(options)})  # type: ignore[arg-type]


def example_of(options: type) -> str:
    """The options that must be given, as one would type them."""
    required = [field for field in fields(options) if field.default is MISSING]
    return "".join(f" {_option(field)[0]} {shlex.quote(field.metadata['example'])}" for field in required)


def _option(field: Field) -> tuple[str, str]:
    """The option of a field, and its unit, "" if it has none: `weight_kg` -> `--weight`, `KG`."""
    name, _, unit = field.name.rpartition("_")
    if unit not in UNITS:
        name, unit = field.name, ""
    return f"--{name.replace('_', '-')}", unit.upper()


def _add(parser: argparse.ArgumentParser, field: Field, kind: Any) -> None:
    option, unit = _option(field)
    extra: dict[str, Any] = {"dest": field.name, "help": field.metadata["help"]}
    if field.default is MISSING:
        extra["required"] = True
    else:
        extra["default"] = field.default
        if field.default not in (None, False, ""):
            shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else "%(default)s"
            extra["help"] += f" (default: {shown})"
    if kind is bool:
        parser.add_argument(option, action="store_true", **extra)
        return
    members = [member for member in get_args(kind) if member is not type(None)]
    if isinstance(field.default, tuple):
        extra |= {"nargs": len(field.default), "type": members[0], "metavar": field.metadata["metavar"]}
    else:
        extra["type"] = members[0] if members else kind
        extra["metavar"] = field.metadata.get("metavar") or (unit or None)
    if field.metadata.get("choices"):
        extra["choices"] = field.metadata["choices"]
    parser.add_argument(option, **extra)
