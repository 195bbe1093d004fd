"""Folds of whole patients: nnU-Net splits by case, so two cases of one patient would leak between folds.

The converters write who is whose into dataset.json, where it matters; the trainers keep to it:

    "nnunet_igtv": {…, "patients": {"IGTV_0001": 1, "IGTV_0002": 1, …}, "folds": {"IGTV_0003": "val"}}

A patient is a number there, and no more. Datasets of other origin do not say it: each case is then by itself.
"""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_igtv.channels import KEY

FOLDS = 5  # of nnU-Net's own split
SPLITS = "splits_final.json"
# case -> number of its patient; "train", "val" or "" as the source says
Groups = Mapping[str, tuple[int, str]]
Split = Mapping[str, Sequence[str]]  # "train" and "val" -> cases


def groups(cases: Mapping[str, tuple[str, str]]) -> Groups:
    """Case -> patient and given fold, with numbers for the patients; empty where nnU-Net's own split does:
    where every case is another patient, and no fold is given. One id for all tells nobody apart."""
    if len({patient for patient, _ in cases.values()}) == 1:
        cases = {name: (name, fold) for name, (_, fold) in cases.items()}
    numbers: dict[str, int] = {}
    for name in sorted(cases):
        numbers.setdefault(cases[name][0], len(numbers) + 1)
    if len(numbers) == len(cases) and not any(fold for _, fold in cases.values()):
        return {}
    return {name: (numbers[patient], fold) for name, (patient, fold) in sorted(cases.items())}


def described(known: Groups) -> dict[str, Any]:
    """What dataset.json says of them."""
    folds = {name: fold for name, (_, fold) in known.items() if fold}
    patients = {name: patient for name, (patient, _) in known.items()}
    return ({"patients": patients} if known else {}) | ({"folds": folds} if folds else {})


def groups_of(dataset_json: Mapping[str, Any]) -> Groups:
    """What dataset.json says of its training cases; empty where it says nothing."""
    entry = dataset_json.get(KEY)
    entry = entry if isinstance(entry, Mapping) else {}
    patients, folds = (entry.get(key) for key in ("patients", "folds"))
    folds = folds if isinstance(folds, Mapping) else {}
    if not isinstance(patients, Mapping):
        return {}
    return {name: (int(patient), str(folds.get(name, ""))) for name, patient in patients.items()}


def given_split(own: Mapping[str, tuple[object, str]]) -> dict[str, list[str]]:
    """The source's own split of cases; one without a word is trained on."""
    return {part: [name for name in own if (own[name][1] or "train") == part] for part in ("train", "val")}


def divided(known: Groups) -> list[str]:
    """The cases whose patients the source's own split divides."""
    patients = {known[name][0] for name in leaking(given_split(known), known)}
    return [name for name in known if known[name][0] in patients]


def splits_by_patient(names: Iterable[str], known: Groups) -> list[dict[str, list[str]]]:
    """nnU-Net's list of folds over some cases.

    A given split ("train", "val") is the only fold; "train" alone divides nothing, and one that divides
    patients is not taken. Otherwise whole patients are dealt to five folds, or to as many as there are.
    """
    names = sorted(names)
    own = {name: known.get(name, (name, "")) for name in names}  # a case of which nothing is known
    given = given_split(own)
    if given["val"] and not leaking(given, known):
        return [given]
    patients = sorted({patient for patient, _ in own.values()}, key=str)
    random.Random(12345).shuffle(patients)
    splits = []
    for k in range(min(FOLDS, len(patients))):
        held_out = set(patients[k::FOLDS])
        validation = [n for n in names if own[n][0] in held_out]
        splits.append({"train": [n for n in names if n not in validation], "val": validation})
    return splits


def read_splits(file: Path) -> list[dict[str, list[str]]] | None:
    """The folds in a file; None where it is damaged or holds none. Raises OSError where it cannot be read."""
    try:
        folds = json.loads(file.read_text(encoding="utf-8"))
        parts = [fold[part] for fold in folds for part in ("train", "val")]
    except (ValueError, TypeError, KeyError):
        return None
    lists = all(isinstance(cases, list) and all(isinstance(case, str) for case in cases) for cases in parts)
    return folds if isinstance(folds, list) and folds and lists else None


def leaking(split: Split, known: Groups) -> list[str]:
    """The cases to validate on whose patient is trained on too."""
    trained = {known[name][0] for name in split["train"] if name in known}
    return [name for name in split["val"] if name in known and known[name][0] in trained]
