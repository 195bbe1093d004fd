"""`nnunet-igtv predict-dicom`: contour one DICOM study with a trained model; study in, RTSTRUCT out.

The readers of the converters turn CT and PET into the model's input, nnU-Net's own command predicts, and the
exporter writes the contours on the original CT. Nothing of the patient's identity is printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_igtv.errors import IGTVError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from nnunet_igtv.dataset_conversion.series import Series

_CASE = "STUDY"


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    from nnunet_igtv.export import write_rtstruct, write_seg
    from nnunet_igtv.export.files import quiet, refuse_existing
    from nnunet_igtv.export.rtstruct import read_extendable
    from nnunet_igtv.export.seg import require_highdicom

    outputs = {"rtstruct": arguments.output / "RTSTRUCT.dcm"}
    if arguments.seg:
        require_highdicom()
        outputs["seg"] = arguments.output / "SEG.dcm"
    for output in outputs.values():
        refuse_existing(output)
    model = read_model(arguments.d, arguments.tr, arguments.p, arguments.c)
    name = arguments.name or model["structure"]

    with quiet():
        ct, pet = choose_series(arguments.study)
        if arguments.extend:
            read_extendable(arguments.extend, ct.headers[0], name)
        print(f"CT: {_described(ct)}\nPET: {_described(pet)}", flush=True)
        with tempfile.TemporaryDirectory(prefix="nnunet-igtv-") as scratch:
            folder = Path(scratch)
            write_input(ct, pet, folder / "input", model["file_ending"])
            run_nnunet(folder / "input", folder / "output", arguments)
            mask = _read_prediction(folder / "output" / (_CASE + model["file_ending"]), name)
        write_rtstruct(mask, ct, outputs["rtstruct"], name, extend=arguments.extend)
        if arguments.seg:
            write_seg(mask, ct, outputs["seg"], name)
    for output in outputs.values():
        print(output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet-igtv predict-dicom",
        description="Contour one DICOM study: CT and PET in, RTSTRUCT on the CT out. Research use only.",
        epilog="-d, -c, -tr, -p, -f, -chk and -device mean what they mean to nnUNetv2_predict.",
    )
    parser.add_argument("study", type=Path, help="folder with the CT and PET of one patient, at any depth")
    parser.add_argument("-d", required=True, metavar="DATASET", help="id or name of the model's dataset")
    parser.add_argument("-c", default="2d", metavar="CONFIGURATION", help="default: 2d")
    parser.add_argument("-tr", default="IGTVTransferTrainer", help="default: IGTVTransferTrainer")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default: nnUNetPlans")
    parser.add_argument("-f", nargs="+", default=["0"], metavar="FOLD", help="default: 0")
    parser.add_argument("-chk", default="checkpoint_final.pth", metavar="FILE")
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: cuda")
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, a little worse")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for RTSTRUCT.dcm (and SEG.dcm)",
    )
    parser.add_argument("--name", help="name of the structure (default: the model's label)")
    parser.add_argument("--seg", action="store_true", help="write a DICOM-SEG as well (the extra `seg`)")
    parser.add_argument(
        "--extend", type=Path, metavar="FILE", help="carry over this structure set's structures"
    )
    return parser


def read_model(dataset: str, trainer: str, plans: str, configuration: str) -> dict[str, Any]:
    """What the trained model's dataset.json says: `structure` (the label's name) and `file_ending`.

    Raises:
        IGTVError: no such model, or one that was not trained on CT in HU and PET in SUV.
    """
    results = os.environ.get("nnUNet_results")  # noqa: SIM112 (nnU-Net's name)
    if not results:
        raise IGTVError(
            "nnUNet_results is not set", remedy="export nnUNet_results=<folder of trained models>"
        )
    pattern = f"Dataset{int(dataset):03d}_*" if dataset.isdigit() else dataset
    trained = f"{trainer}__{plans}__{configuration}"
    found = sorted(Path(results).glob(f"{pattern}/{trained}/dataset.json"))
    if len(found) != 1:
        others = sorted(path.parent.name for path in Path(results).glob(f"{pattern}/*__*__*/dataset.json"))
        raise IGTVError(
            f"no trained model {trained} for dataset {dataset}; there are: {', '.join(others) or 'none'}",
            file=results,
            remedy="check -d, -tr, -p and -c, or train first",
        )
    description = json.loads(found[0].read_text(encoding="utf-8"))
    labels = [name for name in description["labels"] if name != "background"]
    from nnunet_igtv.dataset_conversion.pclt20k import VALUES

    if len(description["channel_names"]) != 2 or VALUES in description.get("description", ""):
        raise IGTVError(
            "the model was not trained on two channels, CT in HU and PET in SUV",
            file=found[0],
            remedy="take a model of a dataset made by `nnunet-igtv convert lucid` or `dicom-rt`",
        )
    if len(labels) != 1:
        raise IGTVError(f"the model has {len(labels)} structures instead of one", file=found[0])
    return {"structure": labels[0], "file_ending": description["file_ending"]}


def choose_series(study: Path) -> tuple["Series", "Series"]:
    """The CT and the PET to predict from: in one frame of reference, the best by the converters' rule.

    Raises:
        IGTVError: a modality is missing, several patients, or no CT and PET in one frame of reference.
    """
    from nnunet_igtv.dataset_conversion.series import find_series
    from nnunet_igtv.dataset_conversion.study import rank

    series = [s for s in find_series(study) if s.modality in ("CT", "PT")]
    if len({str(s.headers[0].get("PatientID", "")) for s in series}) > 1:
        raise IGTVError(
            "the folder holds several patients", file=study, remedy="pass the folder of one patient"
        )
    cts, pets = ([s for s in series if s.modality == modality] for modality in ("CT", "PT"))
    for found, modality in ((cts, "CT"), (pets, "PET")):
        if not found:
            raise IGTVError(f"no {modality} series", file=study, remedy=f"add the {modality} series")
    frames = {s.frame_of_reference for s in cts} & {s.frame_of_reference for s in pets} - {""}
    cts, pets = ([s for s in found if s.frame_of_reference in frames] for found in (cts, pets))
    if not frames:
        raise IGTVError(
            "CT and PET have no frame of reference in common",
            file=study,
            remedy="register the PET to the CT first",
        )
    ct = min(cts, key=rank)
    return ct, min((s for s in pets if s.frame_of_reference == ct.frame_of_reference), key=rank)


def write_input(ct_series: "Series", pet_series: "Series", folder: Path, ending: str) -> None:
    """CT in HU and PET in SUV on the CT's grid, named as nnU-Net expects. Raises IGTVError as readers do."""
    import SimpleITK as sitk

    from nnunet_igtv.dataset_conversion import ct_image, pet_image
    from nnunet_igtv.dataset_conversion.resample import check_overlap, onto

    ct, pet = ct_image(ct_series), pet_image(pet_series)
    share = check_overlap(ct, pet, sitk.Image(ct.GetSize(), sitk.sitkUInt8))
    if share < 0.995:
        print(f"the PET covers {share:.0%} of the CT; elsewhere its uptake is taken for 0", flush=True)
    folder.mkdir(parents=True)
    sitk.WriteImage(ct, str(folder / f"{_CASE}_0000{ending}"))
    sitk.WriteImage(onto(pet, ct), str(folder / f"{_CASE}_0001{ending}"))


def run_nnunet(images: Path, output: Path, arguments: argparse.Namespace) -> None:
    """`nnUNetv2_predict` of this Python environment. Raises IGTVError if it fails."""
    from nnunet_igtv.env import VARIABLE, extended_trainer_path

    entry = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point; predict_entry_point()"
    command = [
        *(sys.executable, "-c", entry, "-i", str(images), "-o", str(output)),
        *("-d", arguments.d, "-c", arguments.c, "-tr", arguments.tr, "-p", arguments.p, "-f", *arguments.f),
        *("-chk", arguments.chk, "-device", arguments.device, "-npp", "1", "-nps", "1"),
        *(["--disable_tta"] if arguments.disable_tta else []),
    ]
    status = subprocess.run(command, env={**os.environ, VARIABLE: extended_trainer_path()}).returncode
    if status:
        raise IGTVError(
            f"nnUNetv2_predict failed with status {status}; its own message stands above",
            remedy="check -f, -chk and -device",
        )


def _read_prediction(path: Path, name: str) -> "sitk.Image":
    import SimpleITK as sitk

    from nnunet_igtv.export.masks import read_mask

    mask = read_mask(path)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise IGTVError(f"the model found no {name}: nothing was written", remedy="look at the images")
    return mask


def _described(series: "Series") -> str:
    size = " x ".join(map(str, series.geometry.size))
    spacing = " x ".join(f"{value:.2f}" for value in series.geometry.spacing)
    return f"{size} voxels of {spacing} mm"
