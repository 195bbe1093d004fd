"""What values are over: seeds, folds or both, patients with several cases, masks without a value."""

import math

import numpy as np
import pytest

from nnunet_igtv.evaluation import evaluate
from nnunet_igtv.evaluation.metrics import METRICS
from nnunet_igtv.evaluation.results import Results
from nnunet_igtv.evaluation.texts import to_dict

CASES = [f"Q{i}" for i in range(8)]
PATIENTS = {case: i for i, case in enumerate(CASES)}


def run_of(cases, value):
    return {case: dict.fromkeys(METRICS, value + 0.01 * int(case[1:])) for case in cases}


def results_of(runs, patients=PATIENTS):
    return Results({"m": runs}, {"m": {case: np.full(9, 0.5) for case in patients}}, patients)


def test_seeds_of_folds_are_both(tmp_path, write_image, ball, page_of):
    """Two seeds, two folds each, in the order in which a shell lists them."""
    for i in range(8):
        write_image(tmp_path / "truth" / f"Q{i}.nii.gz", ball())
        for seed in range(2):
            found = ball((10, 16, 17 + seed + i % 3))
            write_image(tmp_path / f"s{seed}f{i % 2}" / f"Q{i}.nii.gz", found)
    folders = [tmp_path / f"s{seed}f{fold}" for seed in range(2) for fold in range(2)]
    results = evaluate(tmp_path / "truth", {"m": folders}, None, tmp_path / "out")
    seeds = [
        np.mean([run[c]["dice"] for run in results.runs["m"][2 * s : 2 * s + 2] for c in run])
        for s in range(2)
    ]
    assert results.spread_of_runs("m", "dice") == pytest.approx(np.std(seeds, ddof=1))
    page = page_of(results)
    assert "m is 2 seeds of 2 folds each" in page
    assert "4 folds" not in page
    assert to_dict(results)["models"]["m"]["runs"]["standard_deviation"]["dice"] > 0
    assert len(to_dict(results)["models"]["m"]["runs"]["means"]) == 4


def test_folds_alone_and_seeds_alone_are_what_they_were(page_of):
    folds = results_of([run_of(CASES[::2], 0.5), run_of(CASES[1::2], 0.6)])
    assert folds.spread_of_runs("m", "dice") is None
    assert "m is 2 folds" in page_of(folds)
    seeds = results_of([run_of(CASES, 0.5), run_of(CASES, 0.6)])
    assert seeds.spread_of_runs("m", "dice") == pytest.approx(np.std([0.5, 0.6], ddof=1))
    assert "m is 2 runs on all cases" in page_of(seeds)


def test_runs_that_overlap_otherwise_are_called_runs(page_of):
    thirds = [CASES[:4], CASES[2:6], CASES[4:], CASES[:2] + CASES[6:]]
    found = results_of([run_of(cases, 0.5) for cases in thirds])
    assert "m is 4 runs, 2 of each case" in page_of(found)


def test_the_profile_and_the_means_of_runs_are_over_patients():
    """Nine cases of one patient count as much as one of another."""
    values = {f"Q{i}": 0.5 for i in range(9)} | {"Q9": 1.0}
    patients = {case: (1 if value == 0.5 else 2) for case, value in values.items()}
    run = {case: dict.fromkeys(METRICS, value) for case, value in values.items()}
    profiles = {
        case: np.r_[np.full(8, value), math.nan if case == "Q9" else value] for case, value in values.items()
    }
    results = Results({"m": [run]}, {"m": profiles}, patients)
    assert results.mean_profile("m") == pytest.approx([0.75] * 8 + [0.5])
    assert results.run_means("m")[0]["dice"] == results.means["m"]["dice"] == pytest.approx(0.75)


def test_how_many_masks_have_an_hd95_is_said_beside_it(page_of):
    """Of two runs of four cases, three masks are empty."""
    runs = [run_of(CASES[:4], 9.7), run_of(CASES[:4], 9.7)]
    for run, case in ((0, "Q1"), (1, "Q1"), (1, "Q2")):
        runs[run][case]["hd95_mm"] = math.nan
    results = results_of(runs, {case: i for i, case in enumerate(CASES[:4])})
    assert results.masks("m", "hd95_mm") == (5, 8)
    assert results.masks("m", "dice") == (8, 8)
    table = results.table()
    row = table.splitlines()[2]
    assert "9.7 (5 of 8)" in row
    assert row.count(" of ") == 1
    assert "(5 of 8): masks that have a value" in table
    assert "5 of 8 masks" in page_of(results)
    written = to_dict(results)["models"]["m"]
    assert (written["masks"], written["masks_with_value"]["hd95_mm"]) == (8, 5)


def test_nothing_is_said_where_all_masks_have_a_value():
    assert "masks that have a value" not in results_of([run_of(CASES, 0.5)]).table()
