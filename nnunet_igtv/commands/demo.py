"""`nnunet-igtv demo`: the whole pipeline at small size, on phantoms, by the commands that a user types.

Phantom DICOM cohorts (GTV: many, gated; IGTV: few, free-breathing) -> converters -> nnU-Net's planning ->
GTV pre-training -> IGTV training, from scratch and transferred -> prediction of new patients -> report and
RTSTRUCT. Everything is written under one output folder, nnU-Net's own three folders included. Each finished
step leaves a stamp; a second call continues where the first was interrupted. What a step wrote without
reaching its stamp is written anew, so each step's command may write over its own output.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from nnunet_igtv import __version__
from nnunet_igtv.atomic import write_text
from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.main import main
from nnunet_igtv.commands.options import add_options, options_of
from nnunet_igtv.commands.steps import Runner, Step
from nnunet_igtv.devices import require_device
from nnunet_igtv.environment import VARIABLE, extended_trainer_path
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.grids import read_mask
from nnunet_igtv.settings import setting

GTV, IGTV = 901, 902  # dataset ids, in folders of the demo's own
NAMES = {GTV: "PhantomGTV", IGTV: "PhantomIGTV"}
FOLDERS = {number: f"Dataset{number}_{name}" for number, name in NAMES.items()}
RECORD = "size.json"  # the first file that a demo writes
WRITTEN = (  # what else it writes into its folder
    *("dicom", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "predictions", "rtstruct", "logs"),
    *("metrics.json", "metrics.csv", "report.html"),
)


@dataclass(frozen=True)
class Size:
    """How much the demo does; the defaults take two CPU cores 13 to 30 minutes."""

    gtv_patients: int = setting(13, "GTV phantoms to pre-train on, one of them for validation")
    igtv_patients: int = setting(5, "IGTV phantoms to train on, one of them for validation")
    test_patients: int = setting(6, "other IGTV phantoms, to predict and score")
    matrix: int = setting(192, "CT pixels per edge of 384 mm")
    slices: int = setting(36, "CT slices over 108 mm")
    patch: int = setting(96, "pixels per edge of the patch that the network sees")
    schedule: str = setting("", "suffix of the trainers' names, such as _1epoch (default: none)")

    def __post_init__(self) -> None:
        if min(self.gtv_patients, self.igtv_patients) < 2:
            raise IGTVError(
                "a cohort needs a patient to train on and one for validation",
                remedy="make it 2 patients or more in each cohort",
                settings=["gtv_patients", "igtv_patients"],
            )


class Demo:
    def __init__(self, output: Path, size: Size, device: str) -> None:
        self.output, self.size, self.device = output.resolve(), size, device
        self.raw = self.output / "nnUNet_raw"
        self.results = self.output / "nnUNet_results"
        self.pretrain, self.transfer, self.scratch = (
            f"{role}Nano{size.schedule}"
            for role in ("GTVPretrainTrainer", "IGTVTransferTrainer", "IGTVTrainer")
        )
        cores = os.cpu_count() or 1
        self.environment = os.environ | {
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.output / "nnUNet_preprocessed"),
            "nnUNet_results": str(self.results),
            VARIABLE: extended_trainer_path(),
            "nnUNet_n_proc_DA": str(min(cores, 4)),
            # each of nnU-Net's helper processes imports torch, which costs more than its work here: one
            # at a time for the validation's export, one for planning, none for prediction
            "nnUNet_def_n_proc": "1",
            # two trainings run at the same time; threads that wait by spinning would slow both down
            "OMP_NUM_THREADS": str(max(1, cores // 2)),
            "OMP_WAIT_POLICY": "passive",
            "PYTHONUNBUFFERED": "1",
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        }

    def fold(self, dataset: int, trainer: str) -> Path:
        return self.results / FOLDERS[dataset] / f"{trainer}__nnUNetPlans__2d" / "fold_0"

    def train(self, dataset: int, trainer: str, *extra: str) -> Step:
        command = ["nnUNetv2_train", str(dataset), "2d", "0", "-tr", trainer, "-device", self.device]

        def again() -> list[str] | None:
            # the final one is there where the validation after the last epoch was interrupted
            kept = (self.fold(dataset, trainer) / f"checkpoint_{name}.pth" for name in ("latest", "final"))
            return [*command, "--c"] if any(checkpoint.exists() for checkpoint in kept) else None

        return Step(f"train-{dataset}-{trainer}", [*command, *extra], again)

    def predict(self, trainer: str) -> Step:
        cases = [
            "-i",
            str(self.raw / FOLDERS[IGTV] / "imagesTs"),
            "-o",
            str(self.predictions(trainer)),
        ]
        model = ["-d", str(IGTV), "-c", "2d", "-f", "0", "-tr", trainer]
        options = ["-npp", "0", "-nps", "0", "--disable_tta", "-device", self.device]
        return Step(f"predict-{trainer}", ["nnUNetv2_predict", *model, *cases, *options])

    def predictions(self, trainer: str) -> Path:
        return self.output / "predictions" / trainer

    def phantom(self, cohort: str, kind: str, patients: int, seed: int) -> Step:
        who = ["--kind", kind, "--patients", str(patients), "--seed", str(seed)]
        size = ["--matrix", str(self.size.matrix), "--slices", str(self.size.slices)]
        where = ["--output", str(self.dicom(cohort))]
        return Step(f"phantom-{cohort}", ["nnunet-igtv", "phantom", *who, *size, *where])

    def dicom(self, cohort: str) -> Path:
        return self.output / "dicom" / cohort

    def gtv_cohort(self) -> Iterator[Step]:
        """The GTV cohort, from nothing to preprocessed data."""
        yield self.phantom("gtv", "gtv", self.size.gtv_patients, seed=1)
        yield self.convert("gtv", GTV, "dicom-rt", "--structure", "GTV.*")
        yield self.plan(GTV)

    def igtv_cohort(self) -> Iterator[Step]:
        """The IGTV cohort and its new patients, from nothing to preprocessed data."""
        yield self.phantom("igtv", "igtv", self.size.igtv_patients, seed=2)
        yield self.phantom("new", "igtv", self.size.test_patients, seed=3)
        yield self.convert("igtv", IGTV, "lucid")
        yield self.convert("new", IGTV, "lucid", "--split", "test")
        yield self.plan(IGTV)

    def convert(self, cohort: str, dataset: int, source: str, *extra: str) -> Step:
        target = ["-d", str(dataset), "-n", NAMES[dataset]]
        command = ["nnunet-igtv", "convert", source, str(self.dicom(cohort)), *target, *extra]
        return Step(f"convert-{cohort}", command)

    def plan(self, dataset: int) -> Step:
        # --clean: nnU-Net trusts a fingerprint that is there, also one of which an interrupt left a part
        options = ["-d", str(dataset), "-c", "2d", "-np", "1", "-npfp", "1", "--clean"]
        return Step(f"plan-{dataset}", ["nnUNetv2_plan_and_preprocess", *options])

    def transferred(self) -> Iterator[Step]:
        """GTV weights, the IGTV network that starts from them, and its predictions."""
        yield self.train(GTV, self.pretrain)
        pretrained = self.fold(GTV, self.pretrain) / "checkpoint_final.pth"
        yield self.train(IGTV, self.transfer, "-pretrained_weights", str(pretrained))
        yield self.predict(self.transfer)

    def from_scratch(self) -> Iterator[Step]:
        """The same network without GTV weights, for comparison."""
        yield self.train(IGTV, self.scratch)
        yield self.predict(self.scratch)

    def evaluation(self) -> list[str]:
        """Arguments of `nnunet-igtv evaluate`: both models on the new patients."""
        test = self.raw / FOLDERS[IGTV]
        models = [
            f"from scratch={self.predictions(self.scratch)}",
            f"transferred={self.predictions(self.transfer)}",
        ]
        folders = ["--truth", str(test / "labelsTs"), "--images", str(test / "imagesTs")]
        title = ["--title", "IGTV of breathing phantoms"]
        return [*folders, "--prediction", *models, "--output", str(self.output), "--overwrite", *title]

    def contours(self) -> Iterator[Step]:
        """Each new patient's prediction as an RTSTRUCT on that patient's own CT (after the predictions).

        An empty prediction has no contour: the report shows that the tumour was missed.
        """
        for case, study in cases_of(self.raw / f"{FOLDERS[IGTV]}_manifest.csv", split="test").items():
            prediction = self.predictions(self.transfer) / f"{case}.nii.gz"
            if not sitk.GetArrayFromImage(read_mask(prediction)).any():
                say(f"{case}: the transferred network found no tumour, so there is no contour")
                continue
            rtstruct = self.output / "rtstruct" / f"{case}.dcm"
            paths = [str(prediction), "--ct", study, "--output", str(rtstruct), "--overwrite"]
            yield Step(f"rtstruct-{case}", ["nnunet-igtv", "export", "rtstruct", *paths])

    def run(self) -> None:
        self.require_what_is_asked_for()
        self.output.mkdir(parents=True, exist_ok=True)
        self.refuse_another()
        cohorts = [list(self.gtv_cohort()), list(self.igtv_cohort())]
        trainings = [list(self.transferred()), list(self.from_scratch())]
        total = sum(map(len, cohorts + trainings)) + self.size.test_patients
        with Runner(self.output / "logs", self.environment, total) as runner:
            runner.run(*cohorts)
            for dataset in FOLDERS.values():
                self.shorten(self.output / "nnUNet_preprocessed" / dataset)
            runner.run(*trainings)
            contours = list(self.contours())
            runner.expect_fewer(self.size.test_patients - len(contours))
            runner.run(contours)

    def require_what_is_asked_for(self) -> None:
        """Raises IGTVError where there is no such device or trainer, before a folder is made that no demo of
        another could continue."""
        from nnunet_igtv.trainers.run import require_trainer

        require_device(self.device)
        os.environ[VARIABLE] = self.environment[VARIABLE]
        for trainer in (self.pretrain, self.transfer, self.scratch):
            try:
                require_trainer(trainer)
            except IGTVError as error:
                raise error.but(settings=["schedule"]) from error

    def shorten(self, dataset: Path) -> None:
        """Smaller patches than planned, and one case for validation, in nnU-Net's own files.

        A planned step, of whole slices, takes several times as long; a case's validation takes a minute.
        """
        path = dataset / "nnUNetPlans.json"
        plans = json.loads(path.read_text())
        plan = plans["configurations"]["2d"]
        plan["patch_size"] = [min(edge, self.size.patch) for edge in plan["patch_size"]]
        write_text(path, json.dumps(plans, indent=4) + "\n")
        *training, last = sorted(path.name.split(".")[0] for path in (dataset / "gt_segmentations").iterdir())
        splits = [{"train": training, "val": [last]}]
        write_text(dataset / "splits_final.json", json.dumps(splits, indent=1) + "\n")
        say(f"{path}: patches of {plan['patch_size']}; {last} for validation")

    def refuse_another(self) -> None:
        """Refuse to continue a demo of another version, size or device, whose numbers would be shown as this
        one's, and to write over what no demo made: its steps may replace their own outputs."""
        record = self.output / RECORD
        own = {"version": __version__, "size": vars(self.size), "device": self.device}
        if not record.exists() and (others := [n for n in WRITTEN if (self.output / n).exists()]):
            raise IGTVError(
                f"this folder holds {', '.join(others)} of something else than a demo",
                file=self.output,
                remedy="choose a new folder",
                settings=["output"],
            )
        found = _recorded(record) if record.exists() else own
        for key, value in own.items():
            if found.get(key) != value:
                was = f"{found[key]}, " if key in found else ""
                raise IGTVError(
                    f"this folder holds a demo of another {key}"
                    + (f" ({was}not {value})" if key != "size" else ""),
                    file=self.output,
                    remedy="choose another folder, or delete this one",
                    settings=["output"],
                )
        write_text(record, json.dumps(own) + "\n")


def _recorded(path: Path) -> dict[str, Any]:
    """What a demo was made with; without a version where an older one wrote it, or where it is damaged."""
    try:
        found = json.loads(path.read_text())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def cases_of(manifest: Path, split: str) -> dict[str, str]:
    """Case -> study folder, from the converter's manifest."""
    import csv

    with manifest.open(newline="") as file:
        return {row["case"]: row["study"] for row in csv.DictReader(file) if row["split"] == split}


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv demo",
        description="Run the whole pipeline at small size on phantoms; an interrupted run is continued.",
        example="nnunet-igtv demo --output demo",
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for all (default: demo)")
    parser.add_argument("-device", "--device", default="cpu", choices=["cpu", "cuda"], help="default: cpu")
    add_options(parser, Size)
    return parser


def run(arguments: argparse.Namespace) -> int:
    demo = Demo(arguments.output, options_of(arguments, Size), arguments.device)
    demo.run()
    say(shlex.join(["nnunet-igtv", "evaluate", *demo.evaluation()]))
    status = main(["evaluate", *demo.evaluation()])
    say(f"contours: {arguments.output / 'rtstruct'}")
    return status
