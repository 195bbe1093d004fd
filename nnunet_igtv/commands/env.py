"""`nnunet-igtv env`: the export line with which nnU-Net finds the trainers of this package."""

import argparse
import shlex

from nnunet_igtv.environment import VARIABLE, extended_trainer_path


def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="nnunet-igtv env",
        description='Print the export line that lets nnU-Net find the trainers: eval "$(nnunet-igtv env)"',
    )


def run(arguments: argparse.Namespace) -> int:
    print(f"export {VARIABLE}={shlex.quote(extended_trainer_path())}")
    return 0
