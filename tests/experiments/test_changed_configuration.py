"""What a configuration that changed repeats, what it is refused for, and what its words may hold."""

import os
import re
import subprocess

import pytest
from workflow_run import configuration, cross_validation, finish, rules, snakemake

BASE = configuration("neighbours") | {"seeds": [0], "sets": {"few": 12}}
GTV = configuration("longer")["cohorts"]["gtv"]
OTHER = {"of": "OtherPlans", "planner": "Other", "set": {}}
ONE_MORE = {"train": 1, "predict": 1, "evaluate": 1, "tables": 1}  # method
MORE = {  # one more of something -> the jobs that it needs, and no other
    "planner": ({"planners": ["ExperimentPlanner", "Other"]}, {}),
    "plans": ({"plans": BASE["plans"] | {"other": {"of": "nnUNetPlans", "set": {}}}}, {}),
    "plans of a planner": (
        {
            "planners": ["ExperimentPlanner", "Other"],
            "plans": BASE["plans"] | {"Other": OTHER},
            "methods": BASE["methods"] | {"other": {"trainer": "T", "plans": "Other"}},
        },
        {"planner": 1, "edit_plans": 1} | ONE_MORE,
    ),
    "configuration": (
        {"methods": BASE["methods"] | {"other": {"trainer": "T", "configuration": "3d_fullres"}}},
        {"preprocess": 1} | ONE_MORE,
    ),
    "pre-training": (
        {
            "cohorts": BASE["cohorts"] | {"gtv": GTV},
            "pretrainings": {"gtv": {"cohort": "gtv", "trainer": "T"}},
            "methods": BASE["methods"] | {"other": {"trainer": "T", "from": "gtv"}},
        },
        {"phantom": 1, "convert": 1, "plan": 1, "edit_plans": 1, "pretrain": 1} | ONE_MORE,
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a comparison is done."""
    folder = tmp_path_factory.mktemp("finished")
    finish(folder, BASE)
    return folder


@pytest.mark.parametrize("more", MORE)
def test_one_more_repeats_nothing_of_what_is_done(finished, more):
    change, expected = MORE[more]
    found = snakemake(finished, BASE | change, "-n")
    assert found.returncode == 0, found.stdout + found.stderr
    assert rules(found.stdout + found.stderr) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"sets": {"other": 6, "few": 12}},
        {"plans": {"Experiment": {"of": "nnUNetPlans", "set": {"2d": {"patch_size": [64, 64]}}}}},
    ],
    ids=range(2),
)
def test_a_training_that_changed_is_looked_at_before_it_goes_on(finished, change):
    found = snakemake(finished, BASE | change, "-n", "-p")
    commands = [line for line in (found.stdout + found.stderr).splitlines() if " nnUNetv2_train " in line]
    assert len(commands) >= len(BASE["methods"])
    assert all(re.search(r"trained_on\.py \S+/fold_\d .*; env .* --c$", line) for line in commands)


def test_a_set_under_the_fold_of_another_is_looked_at_before_it_is_scored(finished):
    """Snakemake is told to look at times only: of its fold, a training is finished."""
    found = snakemake(
        finished, BASE | {"sets": {"other": 6}}, "-n", "-p", "--rerun-triggers", "mtime", "-R", "predict"
    )
    commands = [line for line in (found.stdout + found.stderr).splitlines() if " nnUNetv2_predict " in line]
    assert len(commands) == len(BASE["methods"])
    assert all(re.search(r"trained_on\.py \S+/fold_0 .*--sizes 6 2; env ", line) for line in commands)


VALIDATION = {"nnUNet_igtv_validation": "f"}
BUDGET = {"trainer": "IGTVTrainer", "budget": "6x5"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"budget": "6x5"}, ["scratch, transferred, nnunet-2d"]),
        ({"methods": cross_validation()["methods"] | {"short": BUDGET}}, [" for short: "]),
        ({}, None),
        ({"budget": "6x5", "environment": {}}, None),
    ],
    ids=range(4),
)
def test_a_cross_validation_without_validations_is_refused_before_it_trains(tmp_path, change, named):
    config = cross_validation() | {"environment": VALIDATION} | change
    found = snakemake(tmp_path, config, "-n")
    text = " ".join((found.stdout + found.stderr).split())
    assert (found.returncode == 0) == (named is None), text
    if named:
        assert "sets: 5 scores the validation of each fold" in text
        assert all(
            each in text for each in (*named, "nnUNet_igtv_validation: f", "take it out of `environment`")
        )


def test_titles_folders_and_structures_may_hold_blanks_and_quotes(tmp_path):
    config = cross_validation() | {"title": "Müller's $HOME IGTV", "work": str(tmp_path / "w")}
    config["cohorts"]["gtv"] |= {"folder": "/data/gtv studies"}
    config["cohorts"]["igtv"] |= {"source": 'dicom-rt --structure "IGTV 50" --grid ct', "folder": "~/own"}
    found = snakemake(tmp_path, config, "-n", "-p")
    assert found.returncode == 0, found.stdout + found.stderr
    said = []
    for line in re.findall(r"exec >> \S+ 2>&1; set -x; (nnunet-igtv .*)", found.stdout + found.stderr):
        shown = f"nnunet-igtv() {{ printf '%s\\n' \"$@\"; }}; {line}"
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", shown], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines())
    convert = {words[words.index("-n") + 1]: words for words in said if words[0] == "convert"}
    assert convert["LungGTV"][:5] == ["convert", "dicom-rt", "--structure", "GTV.*", "/data/gtv studies"]
    igtv = ["convert", "dicom-rt", "--structure", "IGTV 50", "--grid", "ct", os.path.expanduser("~/own")]
    assert convert["LungIGTV"][:7] == igtv
    (evaluate,) = (words for words in said if words[0] == "evaluate")
    assert evaluate[evaluate.index("--title") + 1] == "Müller's $HOME IGTV, cv"


def test_a_pretraining_is_kept_from_the_patients_that_are_scored(tmp_path):
    for config, scored in (
        (cross_validation(), "LungIGTV --split train"),
        (configuration("config") | {"seeds": [0]}, "PhantomIGTV --split test"),
    ):
        found = snakemake(tmp_path, config, "-n", "-p")
        lines = [line for line in (found.stdout + found.stderr).splitlines() if " nnUNetv2_train " in line]
        starting = [line for line in lines if " all -tr " in line or "gtv_weights" in line]
        assert starting
        # a cohort of shuffled labels has the patients of the other
        pattern = rf"; python \S+/shared_patients\.py \S+GTV --scored \S+_{scored}; .* --c$"
        assert all(re.search(pattern, line) for line in starting)
