"""`nnunet-igtv env`: the export line with which nnU-Net finds the trainers of this package."""

import argparse
import shlex

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.environment import VARIABLE, extended_trainer_path


def parser() -> Parser:
    return Parser(
        prog="nnunet-igtv env",
        description="Print the export line that lets nnU-Net find the trainers.",
        example='eval "$(nnunet-igtv env)"',
    )


def run(arguments: argparse.Namespace) -> int:
    say(f"export {VARIABLE}={shlex.quote(extended_trainer_path())}")
    return 0
