"""experiments/: the workflow names every job of the comparison, and runs it."""

import csv
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from workflow_run import EXPERIMENTS, configuration, cross_validation, rules, snakemake

CONFIGURATIONS = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml") if "schema" not in path.stem)


CONFIG = configuration("config")


def require_jobs_of_the_record(text):
    """A dry run of everything: the record has the commands of each of its jobs, and of no other."""
    named = re.search(r"record\.py .* --jobs (.*?) --", text).group(1).split()
    logs = {Path(log).stem for log in re.findall(r"exec >> (\S+) 2>&1; ", text)}
    assert sorted(named) == sorted(logs)


def test_a_dry_run_lists_every_job_of_the_comparison(tmp_path):
    found = snakemake(tmp_path, CONFIG, "-n", "-p")
    assert found.returncode == 0, found.stdout + found.stderr
    text = found.stdout + found.stderr
    jobs = rules(text)
    methods, sets, seeds = (len(CONFIG[key]) for key in ("methods", "sets", "seeds"))
    floors = CONFIG["floors"].values()
    assert jobs == {
        "phantom": 3,
        "convert": 3,
        "shuffled_labels": 1,
        "plan": 3,
        "preprocess": 1,
        "planner": 1,
        "edit_plans": 6,
        "split": 1,
        "pretrain": len(CONFIG["pretrainings"]) * seeds,
        "train": methods * sets * seeds,
        "predict": methods * sets * seeds,
        "gtv_contours": seeds,
        "floor": sets * sum(seeds if "from" in floor else 1 for floor in floors),
        "evaluate": sets,
        "tables": 1,
    }
    require_jobs_of_the_record(text)
    trainings = [line for line in text.splitlines() if " nnUNetv2_train " in line]
    assert len(trainings) == jobs["train"] + jobs["pretrain"]
    assert all(line.endswith("--c") for line in trainings)
    assert len(set(map(trained, trainings))) == len(trainings)  # each has a folder of its own
    results = {line.split("nnUNet_results=")[1].split()[0] for line in trainings}
    assert results == {
        f"work/phantom/models/{entry.get('budget', CONFIG['budget'])}-seed{seed}"
        + (f"-from-{entry['from']}" if "from" in entry else "")
        for entry in (*CONFIG["pretrainings"].values(), *CONFIG["methods"].values())
        for seed in CONFIG["seeds"]
    }


def trained(command):
    """What a training's command says of the folder that it writes to."""
    return re.sub(r" nnUNet_igtv_(seed|gtv_weights)=\S+", "", command.split("env ")[-1])


def test_the_slice_interactions_are_tried_on_what_another_comparison_made(tmp_path):
    first, slices = configuration("neighbours"), configuration("slices")
    commands = {}
    for name, config in (("first", first | {"seeds": slices["seeds"]}), ("slices", slices)):
        found = snakemake(tmp_path, config, "-n", "-p")
        assert found.returncode == 0, found.stdout + found.stderr
        commands[name] = set(re.findall(r"exec >> (\S+) 2>&1; (.*)", found.stdout + found.stderr))
        trainings = [line for _, line in commands[name] if " nnUNetv2_train " in line]
        assert len(trainings) == len(config["methods"]) * len(config["seeds"])
        require_jobs_of_the_record(found.stdout + found.stderr)
        assert len(set(map(trained, trainings))) == len(trainings)
    same = {Path(log).stem for log, _ in commands["first"] & commands["slices"]}
    assert {f"{rule}-{name}" for rule in ("phantom", "convert") for name in ("igtv", "test")} <= same
    assert {"plan-igtv", "split"} <= same
    assert {
        f"{rule}-{name}-seed{seed}"
        for rule in ("train", "predict")
        for name in first["methods"]
        for seed in slices["seeds"]
    } <= {re.sub("-(fold0|n48)-", "-", name) for name in same}


def test_a_configuration_extends_one_that_extends_another(tmp_path):
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "second.yaml").write_text(yaml.safe_dump({"extends": "first.yaml", "seeds": [5, 6]}))
    found = snakemake(tmp_path, {"extends": "second.yaml", "floors": {}}, "-n", "-p")
    text = found.stdout + found.stderr
    assert found.returncode == 0, text
    assert set(re.findall(r"nnUNet_igtv_seed=(\d)", text)) == {"5", "6"}
    assert "rule floor" not in text
    require_jobs_of_the_record(text)
    (tmp_path / "first.yaml").write_text(yaml.safe_dump({"extends": "second.yaml"}))
    found = snakemake(tmp_path, {"extends": "second.yaml"}, "-n")
    assert found.returncode != 0
    assert "second.yaml extends itself" in found.stdout + found.stderr


def test_the_same_workflow_is_a_cross_validation_of_folders_of_ones_own(tmp_path):
    found = snakemake(tmp_path, cross_validation(), "-n", "-p", "--config", "seeds=[7]")
    assert found.returncode == 0, found.stdout + found.stderr
    text = found.stdout + found.stderr
    trainings = [line for line in text.splitlines() if " nnUNetv2_train " in line]
    assert all(" nnUNet_igtv_seed=7 " in line for line in trainings)
    assert "rule phantom" not in text
    require_jobs_of_the_record(text)
    assert "convert lucid /data/igtv_studies -d 502 -n LungIGTV" in text
    assert text.count(" nnUNetv2_train ") == 1 + 3 * 5
    assert text.count("fold_4/validation/*.nii.gz") == 3
    assert "evaluate --truth /shared/igtv/nnUNet_raw/Dataset502_LungIGTV/labelsTr" in text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"budget": "60 epochs"}, "60 epochs"),
        ({"methods": {"scratch": {"trainr": "IGTVTrainerNano"}}}, "trainr"),
        ({"seeds": []}, "seeds"),
    ],
)
def test_a_misspelt_configuration_is_named(change, named):
    jsonschema = pytest.importorskip("jsonschema")
    schema = yaml.safe_load((EXPERIMENTS / "config.schema.yaml").read_text())
    jsonschema.validate(CONFIG, schema)
    with pytest.raises(jsonschema.ValidationError, match=named):
        jsonschema.validate(CONFIG | change, schema)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"pretrainings": {"gtv": {"cohort": "gvt", "trainer": "T"}}},
            "gtv: cohort 'gvt' is none of gtv, igtv,",
        ),
        # a method has this name too
        (
            {"pretrainings": {"scratch": {"cohort": "gvt", "trainer": "T"}}},
            "scratch: cohort 'gvt' is none of gtv, igtv,",
        ),
        ({"floors": {"rule": {"from": "gtv-144"}}}, "rule: from 'gtv-144' is none of gtv,"),
        (
            {"plans": CONFIG["plans"] | {"Other": {"of": "nnUNetPlans", "planner": "Nobody", "set": {}}}},
            "Other: planner 'Nobody' is none of ExperimentPlanner, ",
        ),
        ({"reference": "nnunet"}, "reference 'nnunet' is none of scratch,"),
        ({"extends": "longre.yaml"}, "extends: there is no "),
    ],
)
def test_what_an_entry_names_must_be_there(tmp_path, change, named):
    found = snakemake(tmp_path, CONFIG | change, "-n")
    assert found.returncode != 0
    assert named in found.stdout + found.stderr


def test_a_second_gtv_cohort_is_prepared_and_trained_on(tmp_path):
    config = yaml.safe_load((EXPERIMENTS / "larger.yaml").read_text())
    # its plans and budget are those of longer.yaml
    config["extends"] = str(EXPERIMENTS / config["extends"])
    found = snakemake(tmp_path, config, "-n", "-p")
    assert found.returncode == 0, found.stdout + found.stderr
    text = found.stdout + found.stderr
    assert len(re.findall(r"nnunet-igtv phantom --kind gtv --patients (?:24|144) ", text)) == 2
    require_jobs_of_the_record(text)
    for number, name in ((911, "gtv"), (914, "gtv-144")):
        assert f"nnUNetv2_train {number} 2d all -tr GTVPretrainTrainerNano_budget" in text
        assert re.search(
            rf"seed0-from-{name} .*nnUNetv2_train 912 2d 0 -tr IGTVTransferTrainerNano_budget", text
        )


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_trainer_of_a_comparison_is_found(name, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(EXPERIMENTS / "trainers"))
    config = configuration(name)
    for entry in (*config["pretrainings"].values(), *config["methods"].values()):
        trainer = entry["trainer"] + "_budget"
        assert recursive_find_trainer_class_by_name(trainer).__name__ == trainer


STAND_INS = {  # SLURM's commands, each job a process of this machine
    "sbatch": """
        echo "$@" >> calls
        for job; do :; done
        (bash "$job"; echo $? > "status.$BASHPID") &> "$job.out" &
        echo $!
    """,
    "sacct": """
        [ -e "status.$2" ] || { echo RUNNING; exit; }
        grep -q "^0$" "status.$2" && echo COMPLETED || echo FAILED
    """,
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands on the path; the workflow where the profile looks for it."""
    (tmp_path / "bin").mkdir()
    for name, line in STAND_INS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.experiment
def test_the_smallest_real_run_ends_with_tables(tmp_path):
    config = configuration("smoke")
    found = snakemake(tmp_path, config)
    assert found.returncode == 0, found.stdout + found.stderr
    results = tmp_path / config["results"]
    table = (results / "results.md").read_text()
    assert all(f"| {name} |" in table for name in (*config["methods"], *config["floors"]))
    assert "nnUNetv2_train" in (results / "commands.txt").read_text()
    assert str(tmp_path) not in (results / "commands.txt").read_text()
    with (results / "n3.csv").open(newline="") as file:
        kept = {(row["model"], row["seed"]) for row in csv.DictReader(file)}
    trained = [*config["methods"], *(name for name, floor in config["floors"].items() if "from" in floor)]
    assert kept == {("pet-42", "none"), *((name, "0") for name in trained)}
    again = snakemake(tmp_path, config, "-n")
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.experiment
def test_jobs_go_through_slurms_commands(slurm):
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    config = configuration("smoke")
    profile = ["--workflow-profile", "experiments/profiles/cluster", "--latency-wait", "5"]
    found = snakemake(slurm, config, "work/smoke/done/convert-gtv", *profile)
    assert found.returncode == 0, found.stdout + found.stderr
    calls = (slurm / "calls").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["--job-name=phantom", "--job-name=convert"]


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ("COMPLETED\nCOMPLETED", "success"),
        ("RUNNING", "running"),
        ("", "running"),
        ("REQUEUED", "running"),
        ("TIMEOUT\nCANCELLED", "failed"),
        ("CANCELLED by 1000", "failed"),
        ("OUT_OF_MEMORY", "failed"),
    ],
)
def test_the_state_of_a_job_in_snakemakes_words(slurm, states, word):
    (slurm / "bin" / "sacct").write_text(f"#!/bin/bash\nprintf '%s\n' '{states}'\n")
    status = EXPERIMENTS / "profiles" / "cluster" / "status.sh"
    assert subprocess.run([status, "7"], capture_output=True, text=True, check=True).stdout.strip() == word
    (slurm / "bin" / "sacct").write_text("#!/bin/bash\nexit 1\n")
    assert subprocess.run([status, "7"], capture_output=True).returncode != 0
