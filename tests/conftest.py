"""A small nnU-Net world for the tests that train: two raw data sets, planned and preprocessed."""

import json
import os
import shutil

# before nnU-Net is imported: it reads these once, and its defaults start eight processes
os.environ.update(nnUNet_def_n_proc="1", nnUNet_n_proc_DA="1")

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from prepared_python import PreparedPython

from nnunet_igtv.environment import FOLDER

pytest_plugins = ["small_study"]  # a tiny PET/CT study, for the tests of reading and conversion
OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)  # 16.3 degrees about the patient's axis
# the package's trainers, and those of a few steps that the tests need
TRAINERS = os.pathsep.join([str(FOLDER), str(Path(__file__).parent / "end_to_end" / "trainers")])
PLANNED = Path(__file__).parent / "data" / "toy"  # what nnUNetv2_plan_experiment wrote for such cases
READ_AT_IMPORT = {"nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"}  # by nnU-Net
SPLIT = [{"train": ["case_000", "case_001", "case_002"], "val": ["case_003"]}]
LABELS = {"background": 0, "tumour": 1}


def pytest_collection_modifyitems(items):
    """The long tests first, so that no process is left with them at the end."""
    items.sort(key=lambda item: "e2e" not in item.keywords)


@dataclass
class NnunetWorld:
    """nnU-Net's folders with Dataset901_GTV and Dataset902_IGTV, and how to run its commands in them."""

    root: Path

    def folder(self, name):
        return self.root / f"nnUNet_{name}"

    @property
    def environment(self):
        folders = {f"nnUNet_{name}": str(self.folder(name)) for name in ("raw", "preprocessed", "results")}
        one_each = {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        path = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
        return os.environ | folders | one_each | path | {"nnUNet_extTrainer": TRAINERS}

    def run(self, *command, environment=None, check=True):
        """The finished command, its two streams in one `stdout`."""
        if str(command[0]).startswith("nnUNetv2_"):
            return self.run_together(command, environment=environment, check=check)
        done = subprocess.run(
            [str(part) for part in command],
            env=self.environment | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert not check or done.returncode == 0, done.stdout[-4000:]
        return done

    def run_together(self, *commands, environment=None, check=True):
        """Several of nnU-Net's commands, one after the other, in one process."""
        commands = [[str(part) for part in command] for command in commands]
        environment = environment or {}
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "output"
            if READ_AT_IMPORT & environment.keys():
                python = PreparedPython(self.environment | environment)
                status = python.run(commands, {}, output)
                python.close()
            else:
                status = self.python.run(commands, environment, output)
            printed = output.read_text(errors="replace")
        assert not check or status == 0, printed[-4000:]
        return subprocess.CompletedProcess(commands, status, printed)

    @cached_property
    def python(self):
        return PreparedPython(self.environment)

    def close(self):
        if "python" in vars(self):
            self.python.close()

    @staticmethod
    def training(dataset, trainer, *extra, configuration="2d", fold=0):
        """The command that trains on the CPU."""
        return ["nnUNetv2_train", dataset, configuration, fold, "-tr", trainer, "-device", "cpu", *extra]

    def add_dataset(
        self, name, cases, configurations=("2d",), labels=LABELS, seed=0, relabel=None, splits=SPLIT, **extra
    ):
        """A raw data set that is preprocessed here and now, with the plans that nnU-Net made for such cases.

        Args:
            splits: the folds, or None to let nnU-Net make its own.
            relabel: changes each label array `(z, y, x)` in place before it is written.
        """
        write_dataset(self.folder("raw") / name, cases, labels, seed, relabel, **extra)
        self.preprocess(name, configurations, splits)

    def preprocess(self, name, configurations=("2d",), splits=None, spacing=None):
        """Preprocess a raw data set here and now; see `add_dataset`. `spacing`: of the pixels of `2d`, mm."""
        raw, preprocessed = self.folder("raw") / name, self.folder("preprocessed") / name
        plans = json.loads((PLANNED / "nnUNetPlans.json").read_text()) | {"dataset_name": name}
        if spacing is not None:
            plans["configurations"]["2d"]["spacing"] = spacing
        shutil.copytree(raw / "labelsTr", preprocessed / "gt_segmentations")
        shutil.copy(PLANNED / "dataset_fingerprint.json", preprocessed)
        shutil.copy(raw / "dataset.json", preprocessed)
        (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
        if splits is not None:
            (preprocessed / "splits_final.json").write_text(json.dumps(splits))
        manager = PlansManager(plans)
        for configuration in map(manager.get_configuration, configurations):
            folder = preprocessed / configuration.data_identifier
            folder.mkdir()
            for label in sorted((raw / "labelsTr").iterdir()):
                case = label.name.removesuffix(".nii.gz")
                images = [str(raw / "imagesTr" / f"{case}_000{channel}.nii.gz") for channel in (0, 1)]
                description = json.loads((raw / "dataset.json").read_text())
                DefaultPreprocessor(verbose=False).run_case_save(
                    str(folder / case), images, str(label), manager, configuration, description
                )

    def preprocessed(self, dataset):
        return next(self.folder("preprocessed").glob(f"Dataset{dataset}_*"))

    def fold(self, dataset, trainer, configuration="2d", fold=0):
        name = self.preprocessed(dataset).name
        return self.folder("results") / name / f"{trainer}__nnUNetPlans__{configuration}" / f"fold_{fold}"


def write_case(folder, labels, case, seed, shape=(9, 32, 40), direction=None, relabel=None):
    """CT, PET and label of an ellipsoid that shines in the PET, on a grid with three different spacings."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    centre = [rng.uniform(0.4, 0.6) * n for n in shape]
    radii = [max(n / 4, 1.0) for n in shape]
    distance = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True))
    tumour = distance < 1
    ct = rng.normal(np.where(tumour, 40, -700), 20)
    pet = rng.normal(1, 0.2, shape) + 6 * np.exp(-distance)
    arrays = {folder / f"{case}_0000.nii.gz": ct, folder / f"{case}_0001.nii.gz": pet}
    if labels is not None:
        arrays[labels / f"{case}.nii.gz"] = label = tumour.astype(np.uint8)
        if relabel is not None:
            relabel(label)
    for path, array in arrays.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(array if array.dtype == np.uint8 else array.astype(np.float32))
        image.SetSpacing((1.5, 1.2, 3.0))
        image.SetOrigin((-50.0, -40.0, 10.0))
        if direction is not None:
            image.SetDirection(direction)
        sitk.WriteImage(image, str(path))


def write_dataset(folder, cases, labels=LABELS, seed=0, relabel=None, **extra):
    """An nnU-Net raw data set of `cases` such cases."""
    for number in range(cases):
        write_case(
            folder / "imagesTr", folder / "labelsTr", f"case_{number:03d}", seed + number, relabel=relabel
        )
    description = {
        "channel_names": {"0": "CT", "1": "CT"},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description | extra))


@pytest.fixture(scope="session")
def toy_case():
    """Writes one case: `toy_case(images, labels, name, seed, shape=…, direction=…)`."""
    return write_case


@pytest.fixture(scope="session")
def oblique():
    return OBLIQUE


@pytest.fixture(scope="session")
def nnunet_world(tmp_path_factory):
    """Datasets 901 and 902, preprocessed."""
    world = NnunetWorld(tmp_path_factory.mktemp("nnunet"))
    world.add_dataset("Dataset901_GTV", cases=4)
    world.add_dataset("Dataset902_IGTV", cases=4, configurations=("2d", "3d_fullres"), seed=100)
    yield world
    world.close()
