"""The intervals in the sentences of docs/evidence.md are those of the scores that are kept beside it.

Its tables are written by a script. What stands in the text is computed here again, from the scores of each
run and case, and no interval may stand there that is not listed below.
"""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from nnunet_igtv.evaluation.statistics import bootstrap

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
TEXT = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
PROSE = re.sub(r"<!-- table.*?<!-- end -->", "", TEXT, flags=re.DOTALL)
INTERVAL = re.compile(r"[+-]0\.\d{3} to [+-]0\.\d{3}")
LONGER, VOLUMES, OUTER = "longer/*/n12", "volumes/n12", "dice_peripheral"

# the first question of volumes.yaml is of these test cases too: SUVmax of the tumour below 4.5
FAINT = {
    row["case"]
    for row in csv.DictReader((RESULTS / "volumes" / "suvmax.csv").read_text(encoding="utf-8").splitlines())
    if float(row["suvmax"]) < 4.5
}

# (comparison, model, its seeds), the same of what is subtracted, the metric; faint tumours only, or others
CLAIMS = [
    ((LONGER, "transferred"), (LONGER, "scratch"), "dice"),
    ((LONGER, "transferred"), (LONGER, "transferred-no-sim"), "dice"),
    ((LONGER, "transferred"), (LONGER, "transferred-no-sim"), OUTER),
    ((LONGER, "transferred"), (LONGER, "transferred-no-mamba"), "dice"),
    ((LONGER, "nnunet-2d-time"), (LONGER, "scratch"), "dice"),
    ((LONGER, "nnunet-2d-time"), (LONGER, "scratch"), OUTER),
    (("misses/n12", "scratch-scale"), ("misses/n12", "scratch"), "dice"),
    (("misses/n12", "scale"), ("misses/n12", "scratch"), "dice"),
    (("misses/n12", "scale"), ("misses/n12", "transferred"), "dice"),
    (("misses/n12", "scratch-scale", "0"), ("misses/n12", "scratch", "0"), "dice"),
    ((VOLUMES, "scratch-scale"), (VOLUMES, "scratch"), "dice"),
    ((VOLUMES, "scratch-scale"), (VOLUMES, "scratch"), OUTER),
    ((VOLUMES, "scratch-scale"), (VOLUMES, "scratch"), "dice", True),
    ((VOLUMES, "scratch-scale"), (VOLUMES, "scratch"), "dice", False),
    ((VOLUMES, "scratch-scale", "0"), (VOLUMES, "scratch", "0"), "dice"),
    ((VOLUMES, "tversky"), (VOLUMES, "scratch-scale"), "dice"),
    ((VOLUMES, "stretch"), (VOLUMES, "scratch-scale"), "dice"),
    ((VOLUMES, "stretch"), (VOLUMES, "scratch-scale"), OUTER),
    ((VOLUMES, "pet-25"), (VOLUMES, "scratch-scale"), "dice"),
    (("scaled/n12", "nnunet-2d-time-scale"), (LONGER, "nnunet-2d-time", "0"), "dice"),
    (("scaled/n12", "scale-twice"), ("scaled/n12", "scratch-scale"), "dice"),
    (("scaled/n12", "scale-no-mamba"), ("scaled/n12", "scale"), "dice"),
    (("neighbours/n48", "three-slices"), ("neighbours/n48", "alone"), "dice"),
    (("neighbours/n48", "three-slices"), ("neighbours/n48", "alone"), OUTER),
    (("neighbours/n48", "three-slices"), ("neighbours/n48", "alone"), "surface_dice_2mm"),
    (("neighbours/n48", "three-slices"), ("misses/n12", "scratch-scale"), "dice"),
    (("slices/n48", "cross-slice-attention"), ("slices/n48", "three-slices"), "dice"),
    (("slices/n48", "cross-slice-attention"), ("slices/n48", "three-slices"), OUTER),
    (("slices/n48", "cross-slice-attention"), ("neighbours/n48", "three-slices"), "dice"),
    (("slices/n48", "cross-slice-attention"), ("neighbours/n48", "three-slices"), OUTER),
    (("slices/n48", "cross-slice-attention"), ("neighbours/n48", "alone"), "dice"),
    (("slices/n48", "cross-slice-attention"), ("neighbours/n48", "alone"), OUTER),
    (("slices/n48", "stages"), ("slices/n48", "three-slices"), "dice"),
    (("slices/n48", "stages"), ("slices/n48", "three-slices"), OUTER),
    (("slices/n48", "stages"), ("neighbours/n48", "three-slices"), "dice"),
    (("slices/n48", "stages"), ("neighbours/n48", "alone"), "dice"),
    (("slices/n48", "five-slices"), ("slices/n48", "three-slices"), "dice"),
    (("attention/n48", "cross-slice-attention"), ("attention/n48", "own-slice-attention"), "dice"),
    (("attention/n48", "cross-slice-attention"), ("attention/n48", "own-slice-attention"), OUTER),
    (
        ("attention/n48", "cross-slice-attention", "01"),
        ("attention/n48", "own-slice-attention", "01"),
        "dice",
    ),
    (("attention/n48", "cross-slice-attention", "01"), ("attention/n48", "own-slice-attention", "01"), OUTER),
    (("attention/n48", "cross-slice-attention", "0"), ("attention/n48", "own-slice-attention", "0"), "dice"),
    (("attention/n48", "cross-slice-attention", "01"), ("neighbours/n48", "three-slices"), "dice"),
    (("attention/n48", "own-slice-attention"), ("neighbours/n48", "alone"), "dice"),
    (("attention/n48", "cross-slice-attention"), ("attention/n48", "three-slices"), "dice"),
    (("attention/n48", "cross-slice-attention"), ("attention/n48", "three-slices"), OUTER),
    (("attention/n48", "cross-slice-attention", "01"), ("attention/n48", "three-slices", "01"), "dice"),
    (("attention/n48", "cross-slice-attention", "01"), ("attention/n48", "three-slices", "01"), OUTER),
    (("attention/n48", "three-slices"), ("attention/n48", "own-slice-attention"), "dice"),
    (("first/n12", "transferred"), ("first/n12", "scratch"), "dice"),
    (("first/n12", "transferred-no-sim"), ("first/n12", "scratch"), "dice"),
    (("first/n12", "transferred"), ("first/n12", "transferred-no-sim"), "dice"),
    (("first/n12", "nnunet-2d-time"), ("first/n12", "scratch"), "dice"),
]
# the same, how many patients are better, and how the text says it
COUNTS = [
    ((LONGER, "transferred-no-sim"), (LONGER, "transferred"), OUTER, "16 of 24 patients are worse"),
    ((LONGER, "nnunet-2d-time"), (LONGER, "scratch"), "dice", "13 of 24 are better than from scratch"),
    (("misses/n12", "scale"), ("misses/n12", "transferred"), "dice", "19 of 24 patients better"),
    (("misses/n12", "scratch-scale", "0"), ("misses/n12", "scratch", "0"), "dice", "11 of 24 better"),
    ((VOLUMES, "scratch-scale"), (VOLUMES, "scratch"), "dice", "30 of 48 patients better"),
    ((VOLUMES, "scratch-scale"), (VOLUMES, "scratch"), "dice", True, "7 of 9 better"),
    ((VOLUMES, "tversky"), (VOLUMES, "scratch-scale"), "dice", "21 of 48 patients better"),
    ((VOLUMES, "stretch"), (VOLUMES, "scratch-scale"), "dice", "20 of 48 patients better"),
    ((VOLUMES, "pet-25"), (VOLUMES, "scratch-scale"), "dice", "26 of 48 better"),
    (
        ("scaled/n12", "nnunet-2d-time-scale"),
        (LONGER, "nnunet-2d-time", "0"),
        "dice",
        "11 of 24 patients better",
    ),
    (("neighbours/n48", "three-slices"), ("misses/n12", "scratch-scale"), "dice", "12 of 24 better"),
    (("slices/n48", "stages"), ("neighbours/n48", "alone"), "dice", "37 of 48"),
    (("slices/n48", "five-slices"), ("slices/n48", "three-slices"), "dice", "31 of 48 patients are better"),
    (("first/n12", "transferred-no-sim"), ("first/n12", "transferred"), OUTER, "21 of 24 patients are worse"),
]
# of masks that are not kept, and of trainings that no table has; the text says so
NOT_KEPT = {"-0.015 to +0.144", "-0.014 to +0.025"}


def patients(comparison, model, seeds="", *, by="truth_ml", faint=None):
    """The rows of each test patient, one per run: {the case, or the true volume in ml: [row]}."""
    rows = {}
    for file in sorted(RESULTS.glob(f"{comparison}.csv")):
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            if faint is not None and (row["case"] in FAINT) != faint:
                continue
            if row["model"] == model and (not seeds or row["seed"] in seeds):
                key = row["case"] if by == "case" else round(float(row[by]), 2)
                rows.setdefault(key, []).append(row)
    assert rows
    return rows


def differences(one, other, metric, faint=None):
    """One minus the other, of each patient that both have, in the order of the first's table. A patient has
    another case in another comparison, and is known by the true volume there."""
    by = "case" if one[0] == other[0] else "truth_ml"
    first, second = (
        {
            patient: np.mean([float(row[metric]) for row in rows])
            for patient, rows in patients(*each, by=by, faint=faint).items()
        }
        for each in (one, other)
    )
    shared = [patient for patient in first if patient in second]
    assert len(shared) in ((24, 48) if faint is None else (9, 39))
    return np.array([first[patient] - second[patient] for patient in shared])


def interval(*claim):
    found = bootstrap(differences(*claim))
    return f"{found.low:+.3f} to {found.high:+.3f}"


@pytest.mark.parametrize("claim", COUNTS, ids=[f"{k}" for k in range(len(COUNTS))])
def test_the_number_of_patients_is_in_the_text(claim):
    *pair, said = claim
    count, of = map(int, re.findall(r"\d+", said)[:2])
    found = differences(*pair)
    assert ((found > 0).sum(), len(found)) == (count, of)
    assert said in PROSE


@pytest.mark.parametrize("claim", CLAIMS, ids=[f"{k}" for k in range(len(CLAIMS))])
def test_the_interval_is_in_the_text(claim):
    assert interval(*claim) in PROSE, f"{claim} is {interval(*claim)}"


def test_no_interval_is_in_the_text_that_is_not_computed():
    computed = {interval(*claim) for claim in CLAIMS}
    assert set(INTERVAL.findall(PROSE)) <= computed | NOT_KEPT
