"""The scripts of the comparison do what they say."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from workflow_run import ROOT, script

from nnunet_igtv.errors import IGTVError
from nnunet_igtv.evaluation.metrics import METRICS

SCRIPTS = ROOT / "experiments" / "scripts"
RESULTS = ROOT / "experiments" / "results"


def image(array, spacing=(2.0, 2.0, 3.0)):
    result = sitk.GetImageFromArray(np.asarray(array))
    result.SetSpacing(spacing)
    return result


def test_training_sets_by_size_hold_no_case_of_the_validation():
    cases = [f"case{i}" for i in range(10)]
    folds = script("splits").by_size(cases, [2, 6], 3)
    assert [len(fold["train"]) for fold in folds] == [2, 6]
    assert folds[0]["val"] == folds[1]["val"] == cases[-3:]
    assert not set(folds[1]["train"]) & set(cases[-3:])
    with pytest.raises(IGTVError, match="8 cases to train on and 3"):
        script("splits").by_size(cases, [2, 8], 3)


def test_a_fold_stays_what_a_network_was_trained_by(tmp_path):
    require_kept = script("splits").require_kept
    cases = [f"case{i}" for i in range(10)]
    first, front, behind = (script("splits").by_size(cases, sizes, 3) for sizes in ([6], [2, 6], [6, 2]))
    file = tmp_path / "Dataset912_P" / "splits_final.json"
    network = (
        tmp_path / "models" / "own-seed0" / "Dataset912_P" / "T__P__2d" / "fold_0" / "checkpoint_best.pth"
    )
    for path in (file, network):
        path.parent.mkdir(parents=True)
    require_kept(file, front, tmp_path / "models")  # there are none yet
    file.write_text(json.dumps(first))
    require_kept(file, front, tmp_path / "models")  # no network
    network.touch()
    require_kept(file, behind, tmp_path / "models")
    with pytest.raises(IGTVError, match=r"by fold 0, of 6 .* one of 2 and 3 .*Remedy: put new sets behind"):
        require_kept(file, front, tmp_path / "models")


def test_edited_plans_differ_in_what_the_configuration_says():
    plans = json.loads((ROOT / "tests" / "data" / "nnUNetPlans.json").read_text())
    edited = script("edit_plans").edited
    changed = edited(plans, "Mine", {"2d": {"patch_size": [96, 96], "igtv": {"slices": 1}}, "none": {"x": 1}})
    assert changed["plans_name"] == "Mine"
    planned = plans["configurations"]["2d"]
    assert changed["configurations"]["2d"] == planned | {"patch_size": [96, 96], "igtv": {"slices": 1}}
    with pytest.raises(IGTVError, match="2d has no patchsize"):
        edited(plans, "Mine", {"2d": {"patchsize": [96, 96]}})


def test_plans_of_a_planner_that_is_not_named_are_refused(tmp_path):
    words = [tmp_path, json.dumps({"Mine": {"of": "OtherPlans", "set": {}}})]
    command = [sys.executable, SCRIPTS / "edit_plans.py", *words]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode
    assert "plans Mine: there are none to copy" in found.stderr
    assert "Remedy: say which `planner` makes them" in found.stderr


def test_no_case_keeps_its_label_and_every_label_is_used(tmp_path):
    source, module = tmp_path / "A", script("shuffled_labels")
    for part in ("imagesTr", "labelsTr"):
        (source / part).mkdir(parents=True)
    (source / "dataset.json").write_text("{}")
    for i in range(4):
        sitk.WriteImage(
            image(np.full((2, 3, 4), i, np.int16)), str(source / "imagesTr" / f"c{i}_0000.nii.gz")
        )
        label = np.zeros((2, 3, 4), np.uint8)
        label.flat[i] = 1
        sitk.WriteImage(image(label), str(source / "labelsTr" / f"c{i}.nii.gz"))
    module.shuffle_labels(source, tmp_path / "B")
    module.shuffle_labels(source, tmp_path / "B")  # as a rule that is run again
    labels = [sitk.ReadImage(str(tmp_path / "B" / "labelsTr" / f"c{i}.nii.gz")) for i in range(4)]
    where = [int(sitk.GetArrayFromImage(label).argmax()) for label in labels]
    assert sorted(where) == [0, 1, 2, 3]
    assert all(found != i for i, found in enumerate(where))


def test_a_threshold_sees_the_neighbourhood_of_the_tumour_only():
    module = script("pet_threshold")
    truth = np.zeros((20, 40, 40), np.uint8)
    truth[10, 20, 20] = 1
    region = module.near(image(truth, (2.0, 2.0, 3.0)))
    assert region[10, 20, 35]  # 30 mm
    assert not region[10, 20, 36]
    assert region[19, 20, 20]  # 27 mm
    pet = np.ones(truth.shape)
    pet[10, 20, 20:23], pet[10, 0, 0] = (10, 5, 4), 50
    assert module.above(pet, region, 42, None).sum() == 2
    assert module.above(pet, region, None, 4.0).sum() == 3


def test_the_margin_is_that_of_the_training_cases(tmp_path):
    module = script("margin")
    voxels = np.zeros((5, 21, 21), np.uint8)
    voxels[2, 10, 10] = 1
    for part in ("found", "labels"):
        (tmp_path / part).mkdir()
    sitk.WriteImage(image(voxels, (1.0, 1.0, 3.0)), str(tmp_path / "found" / "a.nii.gz"))
    (wider,) = module.widened(image(voxels, (1.0, 1.0, 3.0)), [5])
    sitk.WriteImage(image(wider.astype(np.uint8), (1.0, 1.0, 3.0)), str(tmp_path / "labels" / "a.nii.gz"))
    assert module.best_margin(tmp_path / "found", tmp_path / "labels", ["a"]) == 5
    assert wider[1, 10, 14]  # 3 mm down, 4 mm aside
    assert not wider[1, 10, 15]
    assert not module.widened(image(np.zeros((2, 2, 2), np.uint8)), [5])[0].any()


# ------------------------------------------------------------------------------------------------- records


def test_a_record_holds_the_jobs_of_its_own_comparison(tmp_path):
    """Another comparison has put its logs and times into the same work folder."""
    work, scores = tmp_path / "work", tmp_path / "metrics.json"
    for folder in ("logs", "times"):
        (work / folder).mkdir(parents=True)
    for job in ("train-a-fold0-seed0", "train-a-fold0-seed1", "train-other-fold0-seed0", "evaluate-other-n3"):
        (work / "logs" / f"{job}.log").write_text(f"+ command of {job}\nwhat it says\n")
        (work / "times" / f"{job}.tsv").write_text("s\tmax_rss\tcpu_time\n1.5\t2\t3\n")
    case = dict.fromkeys(METRICS, 1.0)
    model = {"runs": {"cases": [{"case0": case}]}}
    found = {"models": {"a": model}, "patients": {"count": 1, "of_cases": {"case0": 1}}}
    scores.write_text(json.dumps(found))
    jobs = ["train-a-fold0-seed0", "evaluate-mine-n3"]
    command = [sys.executable, SCRIPTS / "record.py", f"n3={scores}", "--runs", "a=0", "--jobs", *jobs]
    options = ["--reference", "a", "--work", work, "--output", tmp_path / "record"]
    subprocess.run([*command, *options], check=True, cwd=ROOT)
    assert (tmp_path / "record" / "commands.txt").read_text() == (
        "# evaluate-mine-n3: there is no log of it\n# train-a-fold0-seed0\ncommand of train-a-fold0-seed0\n"
    )
    with (tmp_path / "record" / "times.csv").open(newline="") as file:
        assert [row["job"] for row in csv.DictReader(file)] == ["train-a-fold0-seed0"]
    assert script("tables").pooled([tmp_path / "record" / "n3.csv"], "a").means["a"]["dice"] == 1


def test_a_record_says_that_its_code_was_changed_after_the_commit(tmp_path):
    commit = script("record").commit
    assert commit(tmp_path) == ""
    code, result = tmp_path / "nnunet_igtv" / "a.py", tmp_path / "experiments" / "results" / "x" / "n3.csv"
    for path in (code, result):
        path.parent.mkdir(parents=True)
        path.write_text("first\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    clean = commit(tmp_path)
    assert len(clean) == 40
    result.write_text("another record\n")
    assert commit(tmp_path) == clean
    code.with_name("new.py").write_text("no git knows it\n")
    assert commit(tmp_path) == f"{clean} and uncommitted changes"


# ------------------------------------------------------------------------------------------------- tables


def record(folder, scores, reference="a", **changes):
    """A folder as record.py leaves it, of runs (model, seed, [Dice of each case]); other metrics are 1."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"reference": reference, "test_patients": {"n3": 3}}))
    with (folder / "n3.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "seed", "case", "patient", *METRICS])
        for model, seed, dices in scores:
            for i, dice in enumerate(dices):
                values = dict.fromkeys(METRICS, 1) | {"dice": dice} | changes
                writer.writerow([model, seed, f"case{i}", i, *values.values()])
    return folder / "n3.csv"


RULE = ("rule", "none", [0.1, 0.2, 0.3])
FIRST = [("a", 0, [0.2, 0.4, 0.6]), ("b", 0, [0.3, 0.5, 0.7]), RULE]
SECOND = [("a", 1, [0.4, 0.6, 0.8]), ("b", 1, [0.4, 0.6, ""]), RULE]


def test_records_of_other_seeds_are_pooled(tmp_path):
    files = [record(tmp_path / str(i), scores) for i, scores in enumerate((FIRST, SECOND))]
    results = script("tables").pooled(files, "a")
    assert {model: len(runs) for model, runs in results.runs.items()} == {"a": 2, "b": 2, "rule": 1}
    assert results.means["a"]["dice"] == pytest.approx(0.5)
    assert results.means["b"]["dice"] == pytest.approx((0.35 + 0.55 + 0.7) / 3)  # undefined in one run
    assert results.spread_of_runs("a", "dice") == pytest.approx(0.2 / 2**0.5)
    # of the two cases that all runs define
    assert results.comparisons["a", "b"]["dice"].mean == pytest.approx(0.05)
    assert results.comparisons["a", "rule"]["dice"].mean == pytest.approx(-0.3)


@pytest.mark.parametrize(
    ("second", "changes", "named"),
    [
        (FIRST[:1], {"truth_ml": 2}, "case0: its truth has 2.0 ml here and 1.0 ml before"),
        ([("a", 0, [0.2, 0.4, 0.7])], {}, "case2: a with seed 0 has other scores than before"),
        ([("a", 1, [0.2, 0.4, 0.6])], {}, "b was run with seeds 0, and a with 0, 1"),
        ([("a", 1, [0.2, 0.4])], {}, "case2: a with seed 1 has other cases than a with seed 0"),
    ],
)
def test_records_that_do_not_go_together_are_refused(tmp_path, second, changes, named):
    files = [record(tmp_path / "0", FIRST), record(tmp_path / "1", second, **changes)]
    with pytest.raises(IGTVError) as caught:
        script("tables").pooled(files, "a")
    assert named in str(caught.value)


def test_missed_and_superfluous_volumes_do_not_cancel():
    """They do in the difference of the volumes. Of an empty truth nothing is missed."""
    case = {"truth_ml": 10.0, "coverage": 0.7, "prediction_ml": 9.0}
    empty = {"truth_ml": 0.0, "coverage": float("nan"), "prediction_ml": 2.0}
    wrong = script("tables").wrong_ml([{"a": case, "b": empty}], {"a": 0, "b": 1})
    assert wrong == pytest.approx((3 / 2, (2 + 2) / 2))


def test_methods_of_two_records_come_into_one_table(tmp_path):
    others = [("c", 0, [0.5, 0.7, 0.9]), ("c", 1, [0.5, 0.7, 0.9])]
    files = [record(tmp_path / "0", FIRST), record(tmp_path / "1", SECOND)]
    files.append(record(tmp_path / "2", others, reference="c"))
    results = script("tables").pooled(files, "b", ["b", "c"])
    assert list(results.runs) == ["b", "c"]
    assert list(results.comparisons) == [("b", "c")]
    # of the two cases that all runs define
    assert results.comparisons["b", "c"]["dice"].mean == pytest.approx(0.15)


@pytest.mark.parametrize(("reference", "chosen"), [("b", ["a", "missing"]), ("missing", None), ("b", ["a"])])
def test_a_model_that_no_record_has_is_refused(tmp_path, reference, chosen):
    named = "no record has b" if chosen == ["a"] else "no record has .*missing"
    with pytest.raises(IGTVError, match=named):
        script("tables").pooled([record(tmp_path / "0", FIRST)], reference, chosen)


def test_records_with_other_references_are_refused(tmp_path):
    record(tmp_path / "0", FIRST)
    record(tmp_path / "1", SECOND, reference="b")
    with pytest.raises(IGTVError, match=r"it compares with b, and \S*0 with a"):
        script("tables").common_reference([tmp_path / "0", tmp_path / "1"])


@pytest.mark.parametrize(
    "results",
    # those of the first two comparisons have no scores of single runs
    [p for p in sorted(RESULTS.iterdir()) if p.name not in ("first", "neighbours")],
    ids=lambda p: p.name,
)
def test_the_tables_are_those_of_the_scores_that_were_kept(tmp_path, results):
    records = sorted(path.parent for path in results.rglob("run.json"))
    command = [sys.executable, SCRIPTS / "tables.py", *records, "--output", tmp_path]
    subprocess.run(command, check=True, cwd=ROOT)
    for name in ("results.md", "short.md"):
        assert (tmp_path / name).read_text() == (results / name).read_text()
