"""`nnunet-igtv export`: write a prediction as RTSTRUCT or DICOM-SEG beside the CT it belongs to."""

import argparse
from pathlib import Path

from nnunet_igtv.commands.console import Parser, say

EXAMPLES = {
    "rtstruct": "nnunet-igtv export rtstruct prediction.nii.gz --ct study/CT -o contours.dcm",
    "seg": "nnunet-igtv export seg prediction.nii.gz --ct study/CT -o segmentation.dcm",
}


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv export",
        description="Write a mask as a DICOM object.",
        example="\n".join(EXAMPLES.values()),
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="rtstruct|seg")
    rtstruct = kinds.add_parser(
        "rtstruct", help="contours for a planning system", example=EXAMPLES["rtstruct"]
    )
    seg = kinds.add_parser(
        "seg", help="a DICOM segmentation object (needs the extra `seg`)", example=EXAMPLES["seg"]
    )
    for sub in (rtstruct, seg):
        sub.add_argument(
            "mask", type=Path, help="NIfTI or any image SimpleITK reads; nonzero is the structure"
        )
        sub.add_argument(
            "--ct", dest="folder", type=Path, required=True, metavar="DIR", help="folder of the CT series"
        )
        sub.add_argument(
            "--series",
            dest="ct",
            metavar="SELECTOR",
            help="the CT, where several lie on the mask's grid: number, description, date, phase:40 or uid:…",
        )
        sub.add_argument("--study", metavar="SELECTOR", help="its study: description, date or UID")
        sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write")
        sub.add_argument("--overwrite", action="store_true", help="replace an output that exists")
        sub.add_argument("--name", default="IGTV", help="name of the structure (default: IGTV)")
    groups = [rtstruct.add_mutually_exclusive_group(), seg]
    groups[0].add_argument(
        "--extend", type=Path, metavar="FILE", help="carry over all structures of this structure set as well"
    )
    for group in groups:
        group.add_argument(
            "--anonymous",
            metavar="ID",
            help="write this ID in place of the patient's identity, and fresh UIDs",
        )
    rtstruct.add_argument(
        "--colour",
        type=_colour,
        metavar="R,G,B",
        help="0 to 255 each (default: 255,64,64)",
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    from nnunet_igtv.grids import read_mask

    mask = read_mask(arguments.mask)
    if arguments.kind == "rtstruct":
        from nnunet_igtv.export import write_rtstruct
        from nnunet_igtv.export.rtstruct import COLOUR

        written = write_rtstruct(
            mask,
            arguments.folder,
            arguments.output,
            arguments.name,
            colour=arguments.colour or COLOUR,
            extend=arguments.extend,
            anonymous=arguments.anonymous,
            ct=arguments.ct,
            study=arguments.study,
            overwrite=arguments.overwrite,
            tell=say,
        )
    else:
        from nnunet_igtv.export import write_seg

        written = write_seg(
            mask,
            arguments.folder,
            arguments.output,
            arguments.name,
            anonymous=arguments.anonymous,
            ct=arguments.ct,
            study=arguments.study,
            overwrite=arguments.overwrite,
            tell=say,
        )
    say(written)
    return 0


def _colour(text: str) -> tuple[int, int, int]:
    parts = [int(part) for part in text.split(",")]
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise argparse.ArgumentTypeError("three numbers from 0 to 255, with commas between")
    return parts[0], parts[1], parts[2]
