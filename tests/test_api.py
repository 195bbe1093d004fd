"""The Python face: what it holds, what importing it costs, and every example in its docstrings, executed."""

import ast
import doctest
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import SimpleITK as sitk

import nnunet_igtv
from nnunet_igtv.phantom.cohort import write_cohort

ROOT = Path(__file__).parents[1]
NAMES = {
    *("read_ct", "read_pet", "read_structure", "convert", "build_network", "load_pretrained", "Model"),
    *("predict", "write_rtstruct", "write_seg", "evaluate", "IGTVError"),
}
WITH_NNUNET = {"Model", "predict"}  # their examples need a trained model


def in_a_fresh_python(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_names_are_these_and_each_can_be_had():
    assert set(nnunet_igtv.__all__) == NAMES
    assert set(dir(nnunet_igtv)) >= NAMES
    assert {getattr(nnunet_igtv, name).__name__ for name in NAMES} == NAMES
    assert not hasattr(nnunet_igtv, "no_such_name")


@pytest.mark.parametrize("module", ["nnunet_igtv", "nnunet_igtv.commands.main"])
def test_importing_brings_no_torch_and_no_simpleitk(module):
    heavy = ("torch", "SimpleITK", "nnunetv2", "pydicom", "numpy", "matplotlib")
    program = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    assert in_a_fresh_python(program) == "[]"


def test_reading_dicom_brings_no_torch():
    program = "import sys; from nnunet_igtv import read_ct; print('torch' in sys.modules)"
    assert in_a_fresh_python(program) == "False"


def test_it_imports_where_the_locale_is_ascii():
    """lazy_loader opens the stub in the encoding of the locale."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert in_a_fresh_python("import nnunet_igtv; print(nnunet_igtv.__version__)", **ascii_only)
    assert (ROOT / "nnunet_igtv" / "__init__.pyi").read_bytes().isascii()


def test_the_stub_declares_what_the_package_defines_itself():
    stub = ast.parse((ROOT / "nnunet_igtv" / "__init__.pyi").read_text())
    declared = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    assert declared == {"__version__"}
    assert isinstance(nnunet_igtv.__version__, str)


def test_type_checkers_see_the_types(tmp_path):
    program = tmp_path / f"user_{uuid4().hex}.py"  # mypy would repeat what it said of an older one
    program.write_text(
        "import nnunet_igtv as ni\n"
        "reveal_type(ni.evaluate)\n"
        "reveal_type(ni.Model.find(502))\n"
        "reveal_type(ni.__version__)\n"
        "ni.convert(1, 'studies', 502)\n"
        "ni.no_such_name\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", program]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment).stdout
    assert "-> nnunet_igtv.evaluation.results.Results" in said
    assert '"nnunet_igtv.prediction.Model"' in said
    assert 'Revealed type is "builtins.str"' in said or 'Revealed type is "str"' in said
    assert 'Argument 1 to "convert" has incompatible type "int"; expected "str"' in said
    assert 'Module has no attribute "no_such_name"' in said


# ----------------------------------------------------------------------------------------------- examples


@pytest.fixture(scope="module")
def examples_folder(tmp_path_factory):
    """What the examples assume: `studies`, `labels` and `predictions`, as docs/api.md makes them."""
    folder = tmp_path_factory.mktemp("examples")
    list(write_cohort("igtv", 2, 3, 48, 12, folder / "studies"))
    return folder


@pytest.fixture
def here(examples_folder, tmp_path, monkeypatch):
    """A working folder of one example's own."""
    shutil.copytree(examples_folder / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "nnUNet_raw"))
    return tmp_path


def run_examples(name):
    """Executes the examples in the docstring of one name; returns how many there were."""
    thing = getattr(nnunet_igtv, name)
    (test,) = [t for t in doctest.DocTestFinder(recurse=False).find(thing, name, globs={}) if t.examples]
    assert not any(doctest.SKIP in example.options for example in test.examples)
    report = []
    results = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not results.failed, "".join(report)
    return results.attempted


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_says_what_it_does_and_has_an_example(name):
    text = inspect.getdoc(getattr(nnunet_igtv, name))
    assert "Examples:" in text
    assert ">>> from nnunet_igtv import" in text
    assert name in text.split("Examples:")[1]


@pytest.mark.parametrize("name", sorted(NAMES - WITH_NNUNET - {"evaluate"}))
def test_examples(name, here):
    assert run_examples(name) >= 2


def test_example_of_evaluate(here):
    nnunet_igtv.convert("lucid", "studies", 502, name="LungIGTV", jobs=1)
    shutil.copytree("nnUNet_raw/Dataset502_LungIGTV/labelsTr", "labels")
    Path("predictions").mkdir()
    for path in Path("labels").iterdir():
        mask = sitk.ReadImage(str(path))
        sitk.WriteImage(sitk.BinaryDilate(mask, (1, 1, 0)), str(Path("predictions") / path.name))
    assert run_examples("evaluate") >= 3
    assert {path.name for path in Path("report").iterdir()} == {"metrics.json", "metrics.csv", "report.html"}


@pytest.mark.e2e
def test_examples_that_need_a_model(here, nnunet_world, monkeypatch):
    """An untrained network in a folder as training leaves it; nnU-Net itself predicts."""
    import torch

    from nnunet_igtv.trainers import IGTVTransferTrainerNano

    for name, value in nnunet_world.environment.items():
        monkeypatch.setenv(name, value)
    planned = nnunet_world.preprocessed(902)
    plans = json.loads((planned / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    plans["configurations"]["2d"]["spacing"] = [8.0, 8.0]  # the phantom's
    description = json.loads((planned / "dataset.json").read_text())
    description["labels"] = {"background": 0, "IGTV": 1}
    torch.manual_seed(0)
    trainer = IGTVTransferTrainerNano(plans, "2d", 0, description, torch.device("cpu"))
    trainer.initialize()
    model = here / "results" / "Dataset502_LungIGTV" / "IGTVTransferTrainerNano__nnUNetPlans__2d"
    (model / "fold_0").mkdir(parents=True)
    trainer.save_checkpoint(str(model / "fold_0" / "checkpoint_final.pth"))
    (model / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    (model / "dataset.json").write_text(json.dumps(description))
    monkeypatch.setenv("nnUNet_results", str(here / "results"))
    for name in WITH_NNUNET:
        assert run_examples(name) >= 3
    written = nnunet_igtv.read_structure(
        "predicted.dcm", "IGTV", nnunet_igtv.read_ct("studies/IGTV-3-000/CT")
    )
    assert 0 < np.mean(sitk.GetArrayFromImage(written)) < 1


# ------------------------------------------------------------------------------------- docs and the script


def test_the_documentation_has_every_name():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    table = {
        line.split("`")[1].split("(")[0].split(".")[0] for line in text.splitlines() if line[:3] == "| `"
    }
    assert table == NAMES


def test_the_example_script_runs_from_studies_to_contours(tmp_path):
    script = ROOT / "examples" / "from_python.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 converted" in done.stdout
    dice = float(done.stdout.split("LungIGTV_0001: Dice ")[1].split()[0])
    assert dice > 0.7  # the phantom that it was trained on
    assert "the same voxels as written: True" in done.stdout
    assert "refused: no structure matches 'GTV'" in done.stdout
    assert (tmp_path / "report" / "report.html").is_file()
    assert (tmp_path / "contours.dcm").is_file()
