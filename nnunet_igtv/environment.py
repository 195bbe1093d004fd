"""nnU-Net's environment variables: its three folders, and where it looks for trainers.

nnU-Net (>= 2.8.0) imports every module in the folders that `nnUNet_extTrainer` names. Ours is a folder with
one file, which re-exports the classes of the installed package: the classes exist once, under one name.
"""

import os
from pathlib import Path

from nnunet_igtv.errors import IGTVError

VARIABLE = "nnUNet_extTrainer"
FOLDER = Path(__file__).resolve().parent / "nnunet_ext"
# variable -> what its folder holds
FOLDERS = {
    "nnUNet_raw": "raw data sets",
    "nnUNet_preprocessed": "plans and preprocessed data (a fast disk)",
    "nnUNet_results": "trained models",
}


def extended_trainer_path() -> str:
    """What `nnUNet_extTrainer` must hold: our folder, then the others that it holds in this environment."""
    held = os.environ.get(VARIABLE, "").split(os.pathsep)
    return os.pathsep.join([str(FOLDER), *(entry for entry in held if entry and Path(entry) != FOLDER)])


def nnunet_folder(variable: str) -> Path:
    """One of nnU-Net's three folders, a key of `FOLDERS`.

    Raises:
        IGTVError: the variable is not set.
    """
    folder = os.environ.get(variable)
    if not folder:
        raise IGTVError(
            f"the environment variable {variable} is not set",
            remedy=f"export {variable}=<folder for {FOLDERS[variable]}>",
        )
    return Path(folder)
