"""Whose the cases are, where only folders tell.

The patient is the first folder below all that the cases have in common: of `train/P1/a`, `train/P1/b` and
`train/P2/a` it is P1 and P2. That folder is never too narrow where the cases are of several patients, so
folds never divide one. It may be too wide, since `site/patient` looks like `patient/visit`: then the patients
are a guess (`are_guessed`), and `patient_remarks` says so where few of them are left.
"""

from collections.abc import Sequence
from pathlib import PurePath


def patients_of(folders: Sequence[str]) -> list[str]:
    """The patient of each of some folders with one case each, which are relative to the input."""
    paths = [PurePath(folder) for folder in folders]
    shared = _shared(paths) if len(paths) > 1 else 0
    return [path.parts[min(shared, len(path.parts) - 1)] if path.parts else "." for path in paths]


def are_guessed(folders: Sequence[str]) -> bool:
    """Whether a folder between that of the patient and that of the case could be the patient's as well."""
    paths = [PurePath(folder) for folder in folders]
    return len(paths) > 1 and max(len(path.parts) for path in paths) - _shared(paths) > 1


def _shared(paths: Sequence[PurePath]) -> int:
    """How many folders, from the input on, all paths go through."""
    levels = zip(*(path.parts for path in paths), strict=False)
    return next(
        (k for k, names in enumerate(levels) if len(set(names)) > 1), min(len(p.parts) for p in paths)
    )
