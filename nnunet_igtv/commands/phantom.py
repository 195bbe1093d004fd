"""`nnunet-igtv phantom`: write a breathing PET/CT phantom cohort as DICOM."""

import argparse

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.main import UsageError


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv phantom",
        description="Write a cohort of breathing-thorax phantoms as DICOM CT, PET and RTSTRUCT.",
        epilog="The same seed gives the same files, byte for byte. Patients that exist already are kept.",
        example="nnunet-igtv phantom --kind igtv --patients 6 --seed 2 --output studies/igtv",
    )
    parser.add_argument(
        "--kind",
        choices=("gtv", "igtv", "4dct"),
        required=True,
        help="gtv: gated scans, structure GTV; igtv: free-breathing averages, structure IGTV; 4dct: ten "
        "phases with a GTV each, their average with the IGTV, and a PET/CT in another frame of reference",
    )
    parser.add_argument("--one-series", action="store_true", help="4dct: all phases in one series")
    parser.add_argument("--patients", type=_positive, required=True, metavar="N")
    parser.add_argument("--seed", type=_natural, default=0, metavar="S", help="default: 0")
    parser.add_argument(
        "--matrix", type=_positive, default=96, metavar="M", help="CT pixels per edge of 384 mm (default: 96)"
    )
    parser.add_argument(
        "--slices",
        type=_positive,
        metavar="N",
        help="CT slices over 108 mm (default: a quarter of --matrix, slices a little thicker than a pixel)",
    )
    parser.add_argument(
        "--satellites",
        type=_natural,
        default=0,
        metavar="N",
        help="foci of inflammation near each tumour, which are no tumour (default: 0; with 3, neighbouring "
        "slices tell more: docs/phantom.md)",
    )
    parser.add_argument("--output", required=True, metavar="DIR")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if arguments.slices is None:
        # nnU-Net takes the axis of the largest spacing for the slices
        arguments.slices = max(8, arguments.matrix // 4)
    if arguments.one_series and arguments.kind != "4dct":
        raise UsageError("only a 4D-CT has phases that can be in one series")
    if arguments.matrix < 24 or arguments.slices < 8:
        raise UsageError("at least 24 pixels and 8 slices are needed to hold a tumour")

    from tqdm import tqdm

    from nnunet_igtv.phantom.cohort import write_cohort

    cohort = write_cohort(
        arguments.kind,
        arguments.patients,
        arguments.seed,
        arguments.matrix,
        arguments.slices,
        arguments.output,
        arguments.one_series,
        arguments.satellites,
    )
    for _ in tqdm(cohort, total=arguments.patients, desc=f"{arguments.kind} phantoms", unit="patient"):
        pass
    say(f"{arguments.output}: {arguments.kind} studies, {arguments.patients} in all")
    return 0


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
