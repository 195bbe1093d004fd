"""What is remarked about whose the cases of a conversion are: folds keep those of one patient together, and
are wrong without a word where several ids are of one patient, or one stands for many.

Remarks name cases, never ids.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set

from nnunet_igtv.dataset_conversion.source import Item
from nnunet_igtv.folds import FOLDS, divided, groups

MOST_VISITS = 5  # cases of a patient, on the average
MOST_IDS = 5  # of one name and date of birth; more are of an anonymiser, who gives all the same
SHOWN = 6  # cases in a remark

Named = Sequence[tuple[str, Item]]  # cases and their studies


def remarks_on_patients(named: Named, training: Mapping[str, tuple[str, str]]) -> list[str]:
    """Remarks on some training cases that were found together, "CASE: what".

    Args:
        training: of all training cases of the dataset, their patients and given folds.
    """
    named = sorted(named, key=lambda each: each[0])
    return [*_divided(training), *_one_for_all(named, training), *_folders(named), *_of_one_patient(named)]


def remarks_on_copies(cts: Mapping[str, str], owners: Mapping[str, str], now: Set[str]) -> list[str]:
    """Remarks on cases of several patients with the same CT to the voxel, "CASE: what": one scan under two
    ids, such as one that was pseudonymised twice.

    Args:
        cts: digests of the CTs of all cases of the dataset, in both splits; "" tells nothing.
        owners: their patients.
        now: the cases that were met in this run; copies among the others were remarked before.
    """
    same: dict[str, list[str]] = {}
    for case, ct in sorted(cts.items()):
        if ct:
            same.setdefault(ct, []).append(case)
    return [
        f"{cases[0]}: its CT is that of {_some(cases[1:])}, voxel by voxel, though the patients' ids differ: "
        "give them one id, or leave the copies out; else a scan that is trained on may be scored"
        for cases in same.values()
        if len({owners[case] for case in cases}) > 1 and not now.isdisjoint(cases)
    ]


def _divided(training: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Where the source's own split has a patient on both sides."""
    if cases := divided(groups(training)):
        yield (
            f"{cases[0]}: the given split has its patient in training and validation (with "
            f"{_some(cases[1:])}): it is not taken, and folds of whole patients are made"
        )


def _one_for_all(named: Named, training: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    is_split = any(item.fold for _, item in named)
    is_one = len({patient for patient, _ in training.values()}) == 1
    if named and len(training) > 1 and is_one and not is_split:
        yield (
            f"{named[0][0]}: all {len(training)} cases have one patient id, which tells nobody apart: folds "
            "are by case then, and cases of one patient may be in training and validation"
        )


def _folders(named: Named) -> Iterator[str]:
    """Where the patients are a guess by folders, and are too few or have too many cases each."""
    guessed = [(case, item) for case, item in named if item.is_guessed]
    groups = _grouped(guessed, lambda item: item.patient)
    few = len(groups) < min(FOLDS, len(guessed))
    if len(groups) > 1 and (few or len(guessed) > MOST_VISITS * len(groups)):
        first = [f"{group[0][0]} and {len(group) - 1} more" if group[1:] else group[0][0] for group in groups]
        yield (
            f"{guessed[0][0]}: {len(guessed)} cases are taken for those of {len(groups)} patients, by the "
            f"first folder in which they part ({_some(first)}); if these folders are no patients but "
            "hospitals, say, name the patients in a CSV for the source nifti"
        )


def _of_one_patient(named: Named) -> Iterator[str]:
    """Where several ids may be of one patient."""
    known = [(case, item) for case, item in named if item.patient != item.key]  # else there is no id
    found: dict[tuple[str, ...], list[str]] = {}
    for group in _grouped([each for each in known if each[1].person], lambda item: item.person):
        if 1 < len({item.patient for _, item in group}) <= MOST_IDS:
            found.setdefault(_cases(group), []).append("name and date of birth are the same")
    for group in _grouped(known, lambda item: _spelled(item.patient)):
        people = {item.person for _, item in group} - {""}
        if len({item.patient for _, item in group}) > 1 and len(people) < 2:
            found.setdefault(_cases(group), []).append("the ids differ in spelling only")
    for (first, *others), why in sorted(found.items()):
        yield (
            f"{first}: may be of one patient with {_some(others)}, though the ids differ ({'; '.join(why)}): "
            "if so, give all one id, or folds may divide them"
        )


def _spelled(patient: str) -> tuple[str, ...]:
    """An id without case, separators and leading zeros; numbers stay apart ("1-11" is not "11-1")."""
    parts: list[str] = re.findall(r"\d+|[^\W\d_]+", patient.casefold())
    return tuple(part.lstrip("0") if part.isdigit() else part for part in parts) or (patient,)


def _grouped(named: Named, key: Callable[[Item], object]) -> list[list[tuple[str, Item]]]:
    """Studies with the same `key` together, in the order of their first cases."""
    groups: dict[object, list[tuple[str, Item]]] = {}
    for case, item in named:
        groups.setdefault(key(item), []).append((case, item))
    return list(groups.values())


def _cases(named: Named) -> tuple[str, ...]:
    return tuple(case for case, _ in named)


def _some(words: Sequence[str]) -> str:
    more = [f"{len(words) - SHOWN} more"] if len(words) > SHOWN else []
    return ", ".join([*words[:SHOWN], *more])
