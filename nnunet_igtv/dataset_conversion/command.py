"""`nnunet-igtv convert SOURCE INPUT -d ID`: a cohort of PET/CT studies -> an nnU-Net raw dataset."""

import argparse
import os
from importlib import import_module
from pathlib import Path

from nnunet_igtv.errors import IGTVError

# source -> (module, default dataset name)
SOURCES = {
    "lucid": ("lucid", "LUCID"),
    "dicom-rt": ("dicom_rt", "GTV"),
    "pclt20k": ("pclt20k", "PCLT20K"),
    "autopet": ("autopet", "AutoPET"),
    "nifti": ("nifti", "GTV"),
}


def main(argv: list[str]) -> int:
    """Run the command; exit status 1 if any study failed."""
    args = _parser().parse_args(argv)
    import SimpleITK as sitk

    from nnunet_igtv.dataset_conversion.raw_dataset import DatasetSpec, RawDataset, check_name, report

    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK's remarks quote file names

    source = import_module(f"nnunet_igtv.dataset_conversion.{SOURCES[args.source][0]}")
    if not 1 <= args.dataset_id <= 999:
        raise IGTVError(f"{args.dataset_id} is not a dataset id", remedy="give -d a number from 1 to 999")
    spec = DatasetSpec(
        args.dataset_id,
        check_name(args.name),
        args.label,
        source.VALUES,
        f"Channel 0: CT, channel 1: PET; {source.VALUES}. Both channels are named CT so that nnU-Net clips "
        "and scales them with the statistics of the dataset, which keeps the meaning of the values; z-score "
        "per image would not.",
    )
    options = source.options_of(args)
    dataset = RawDataset(spec, args.source, options, Path(args.input), args.split, args.append)
    items, loose = source.collect(args)
    outcomes = dataset.convert(items, args.jobs)
    status = report(outcomes, items, loose)
    if dataset.folder.exists():
        print(f"dataset:  {dataset.folder}")
        print(f"manifest: {dataset.manifest.path} (identifies patients: keep it to yourself)")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nnunet-igtv convert", description=__doc__)
    commands = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, (module, dataset) in SOURCES.items():
        source = import_module(f"nnunet_igtv.dataset_conversion.{module}")
        sub = commands.add_parser(name, help=source.HELP, description=source.__doc__)
        sub.add_argument("input", metavar="INPUT", help="what to convert")
        sub.add_argument(
            "-d", dest="dataset_id", type=int, required=True, metavar="ID", help="nnU-Net dataset id"
        )
        sub.add_argument("-n", "--name", default=dataset, help="dataset name (default: %(default)s)")
        sub.add_argument(
            "--split", choices=("train", "test"), default="train", help="fill imagesTr or imagesTs"
        )
        sub.add_argument("--append", action="store_true", help="add to a dataset made from other input")
        sub.add_argument(
            "-j", "--jobs", type=int, default=min(4, os.cpu_count() or 1), help="worker processes"
        )
        source.add_arguments(sub)
    return parser
