"""A network is never continued, or scored, as what it is not."""

import json
from pathlib import Path

import pytest
from workflow_run import ROOT, script

from nnunet_igtv.errors import IGTVError

SCRIPT = script("trained_on")
PLANS = json.loads((ROOT / "tests" / "data" / "nnUNetPlans.json").read_text())
USED = PLANS["configurations"]["2d"]
CASES = [f"case{i}" for i in range(10)]
SETS = [{"train": CASES[:size], "val": CASES[-2:]} for size in (3, 6)]


@pytest.fixture
def work(tmp_path):
    """A preprocessed dataset with two training sets as folds."""
    labels = tmp_path / "preprocessed" / "gt_segmentations"
    labels.mkdir(parents=True)
    for case in CASES:
        (labels / f"{case}.nii.gz").touch()
    dataset = {"numTraining": len(CASES), "labels": {"background": 0, "IGTV": 1}}
    (labels.parent / "dataset.json").write_text(json.dumps(dataset))
    (labels.parent / "Mine.json").write_text(json.dumps(PLANS))
    (labels.parent / "splits_final.json").write_text(json.dumps(SETS))
    return tmp_path


def changed(file, change):
    """A JSON file with another content."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def model(work, fold=0, trainer="Plain", root="models"):
    return work / root / "Dataset912_P" / f"{trainer}__Mine__2d" / f"fold_{fold}"


def trained(folder, log=""):
    """A training of some epochs: its checkpoint, and its log."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint_latest.pth").touch()
    if log:
        (folder / "training_log_2026_1_1_00_00_00.txt").write_text(log)


def check(folder, work, **words):
    """What it is refused by; "" where the training may go on."""
    try:
        SCRIPT.check(folder, work / "preprocessed", **words)
    except IGTVError as error:
        return str(error)
    return ""


def smaller_patch(plans):
    plans["configurations"]["2d"]["patch_size"] = [64, 64]


def other_statistics(plans):
    plans["foreground_intensity_properties_per_channel"]["1"]["mean"] = 99.0


def set_in_front(splits):
    splits.insert(0, {"train": CASES[:2], "val": CASES[-2:]})


def another_case(splits):
    splits[0]["train"][0] = CASES[7]


def unrelated(plans):
    """What another method wants of the same plans, and what nnU-Net notes in them."""
    plans["configurations"]["3d_fullres"] = {"patch_size": [7, 7, 7]}
    plans["continue_training"] = True


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("splits_final.json", set_in_front, "other cases (3 to train on and 2 to validate on, now 2 and 2)"),
        ("splits_final.json", another_case, "other cases (3 to train on and 2 to validate on, now 3 and 2)"),
        ("Mine.json", smaller_patch, "other plans (patch_size)"),
        ("Mine.json", other_statistics, "other plans (foreground_intensity_properties_per_channel)"),
    ],
    ids=range(4),
)
def test_a_network_of_other_cases_or_plans_is_not_continued(work, name, change, named):
    folder = model(work)
    assert check(folder, work) == ""  # nothing is there: it starts
    trained(folder)
    assert check(folder, work) == ""  # and is continued
    changed(work / "preprocessed" / name, change)
    found = check(folder, work)
    assert f"this network was trained with {named}" in found
    assert str(folder) in found
    assert "Remedy: " in found
    assert named in check(folder, work)  # the refusal has not become the record


def test_what_decides_nothing_of_a_network_may_change(work):
    check(model(work), work)
    trained(model(work))
    changed(work / "preprocessed" / "Mine.json", unrelated)
    changed(work / "preprocessed" / "splits_final.json", lambda splits: splits.append(SETS[1]))
    assert check(model(work), work) == ""


def test_a_training_without_a_checkpoint_starts_as_what_it_is_now(work):
    check(model(work), work)
    changed(work / "preprocessed" / "splits_final.json", set_in_front)
    assert check(model(work), work) == ""
    trained(model(work))
    assert check(model(work), work) == ""


def test_all_cases_are_those_of_the_preprocessed_dataset(work):
    folder = model(work, "all")
    check(folder, work)
    trained(folder)
    (work / "preprocessed" / "gt_segmentations" / "more.nii.gz").touch()
    assert "other cases (10 to train on and 0 to validate on, now 11 and 0)" in check(folder, work)


def test_a_budget_belongs_to_the_network(work):
    check(model(work), work, budget="60x50")
    trained(model(work))
    assert "trained with other budget (60x50, now 12x50)" in check(model(work), work, budget="12x50")


def test_the_weights_that_a_training_starts_from_are_those_of_the_same_pretraining(work):
    start, folder = model(work, "all", "Pretrain"), model(work, 0, "Transfer")
    check(start, work)
    trained(start)
    check(folder, work, start=start)
    trained(folder)
    assert check(folder, work, start=start) == ""
    (start / "checkpoint_latest.pth").unlink()  # taken away, and done again on more cases
    (work / "preprocessed" / "gt_segmentations" / "more.nii.gz").touch()
    check(start, work)
    trained(start)
    assert "trained with other starting weights" in check(folder, work, start=start)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"sizes": [4, 2]}, "fold 0 has 3 cases to train on and 2 to validate on, and the configuration"),
        ({"values": {"patch_size": [64, 64]}}, "plans Mine: 2d has not the patch_size of the configuration"),
    ],
    ids=range(2),
)
def test_folds_and_plans_must_be_those_of_the_configuration(work, words, named):
    """Snakemake was told to look at times only, and has made neither of them again."""
    found = check(model(work), work, **words)
    assert named in found
    assert "Remedy: make them again: " in found
    assert check(model(work), work, sizes=[3, 2], values={"batch_size": USED["batch_size"]}) == ""


@pytest.mark.parametrize("content", [None, "[]", "{"], ids=range(3))
def test_a_fold_that_is_not_there_is_refused(work, content):
    """nnU-Net would take cases at random."""
    splits = work / "preprocessed" / "splits_final.json"
    assert "there is no fold 2" in check(model(work, 2), work)
    splits.unlink() if content is None else splits.write_text(content)
    assert "there is no fold 0" in check(model(work), work)


# --------------------------------------------------------------------------- networks that have no record yet

STACKS = USED | {
    "patch_size": [3, *USED["patch_size"]],
    "batch_size": 2,
    "batch_dice": True,
    "architecture": {"network_class_name": "nnunet_igtv.architectures.igtv_net.IGTVNet"},
}
SHARED = {key: value for key, value in PLANS.items() if key != "configurations"}


def log(used, train=3, val=2, epochs=True, fold=0):
    """What nnU-Net writes into its log."""
    split = f"2026-01-01: This split has {train} training and {val} validation cases. \n"
    return (
        f"{'' if fold == 'all' else split}\nThis is the configuration used by this training:\n"
        f"Configuration name: 2d\n {used} \n \n"
        f"These are the global plan.json settings:\n {SHARED} \n \n"
        + ("2026-01-01 00:00:00.000000: Epoch 0 \n" if epochs else "Training done.\n")
    )


@pytest.mark.parametrize("used", [USED, STACKS], ids=range(2))
def test_a_network_without_a_record_is_accepted_by_its_log(work, used):
    trained(model(work), log(used))
    assert check(model(work), work) == ""
    assert (model(work) / "trained_on.json").is_file()


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (log(USED, train=6), "other cases (6 to train on and 2 to validate on, now 3 and 2)"),
        (log(USED | {"patch_size": [64, 64]}), "other plans (patch_size)"),
        (log(STACKS | {"patch_size": [3, 64, 64]}), "other plans (patch_size)"),
        (log(USED, epochs=False), "nobody knows what"),
        ("Epoch 0", "nobody knows what"),
        ("", "nobody knows what"),
    ],
    ids=range(6),
)
def test_a_network_without_a_record_is_refused_where_its_log_says_otherwise_or_nothing(work, written, named):
    trained(model(work), written)
    for _ in range(2):
        assert named in check(model(work), work)
    assert not (model(work) / "trained_on.json").exists()


def test_a_start_that_trained_nothing_says_nothing(work):
    """A finished network was loaded under another configuration: its plans.json is that one's since."""
    trained(model(work), log(USED))
    (model(work) / "training_log_2026_1_2_00_00_00.txt").write_text(log(USED, train=6, epochs=False))
    assert check(model(work), work) == ""


def test_the_pretraining_of_a_network_without_a_record_is_in_its_report(work):
    start, folder = model(work, "all", "Pretrain"), model(work, 0, "Transfer")
    trained(start, log(USED, fold="all"))
    (start.parent / "dataset.json").write_text(json.dumps({"numTraining": len(CASES)}))
    assert check(start, work) == ""
    trained(folder, log(STACKS))
    assert "other starting weights" in check(folder, work, start=start)
    elsewhere = Path("moved/models", *start.parts[-3:], "checkpoint_final.pth")
    (folder / "transfer_report.json").write_text(json.dumps({"source": str(elsewhere)}))
    assert check(folder, work, start=start) == ""


def test_a_pretraining_without_a_record_is_refused_where_the_cohort_has_grown(work):
    folder = model(work, "all")
    trained(folder, log(USED, fold="all"))
    (folder.parent / "dataset.json").write_text(json.dumps({"numTraining": 4}))
    assert "other cases (4 to train on and 0 to validate on, now 10 and 0)" in check(folder, work)
