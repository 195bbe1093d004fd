"""`nnunet-igtv env`: the export line with which nnU-Net finds the trainers of this package.

nnU-Net (>= 2.8.0) imports every module in the folders that `nnUNet_extTrainer` names. Ours is a folder with
one file, which re-exports the classes of the installed package: the classes exist once, under one name.
"""

import argparse
import os
import shlex
from pathlib import Path

VARIABLE = "nnUNet_extTrainer"
FOLDER = Path(__file__).resolve().parent / "nnunet_ext"


def extended_trainer_path() -> str:
    """What `nnUNet_extTrainer` must hold: our folder, then the others that it holds in this environment."""
    held = os.environ.get(VARIABLE, "").split(os.pathsep)
    return os.pathsep.join([str(FOLDER), *(entry for entry in held if entry and Path(entry) != FOLDER)])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="nnunet-igtv env",
        description='Print the export line that lets nnU-Net find the trainers: eval "$(nnunet-igtv env)"',
    )
    parser.parse_args(argv)
    print(f"export {VARIABLE}={shlex.quote(extended_trainer_path())}")
    return 0
