"""`nnunet-igtv motion STUDY --structure "GTV_{phase}"`: how a tumour moves through a 4D-CT."""

import argparse
from pathlib import Path

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.options import add_options, options_of
from nnunet_igtv.dataset_conversion.motion_study import MotionOptions


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv motion",
        description="Volume, centroid and displacement of a tumour in each phase of a 4D-CT.",
        example='nnunet-igtv motion /data/patient --structure "GTV_{phase}" -o /data/motion',
    )
    parser.add_argument("input", type=Path, metavar="STUDY", help="folder of one patient with a 4D-CT")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write motion.json and motion.png there"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace these files if they exist")
    add_options(parser, MotionOptions)
    return parser


def run(arguments: argparse.Namespace) -> int:
    from nnunet_igtv.atomic import refuse_existing
    from nnunet_igtv.dataset_conversion.motion_files import motion_files, write_motion
    from nnunet_igtv.dataset_conversion.motion_study import motion_of
    from nnunet_igtv.dicom.quiet import quiet

    base = arguments.output / "motion" if arguments.output else None
    if base:
        refuse_existing(*motion_files(base), overwrite=arguments.overwrite)
    with quiet():
        report, notes = motion_of(arguments.input, options_of(arguments, MotionOptions))
    say(_text(report))
    for note in notes:
        say(note, error=True)
    if base:
        write_motion(report, base, "motion", arguments.overwrite)
        for file in motion_files(base):
            say(f"written: {file}")
    return 0


def _text(report: dict) -> str:
    axes = tuple(report["phases"][0]["displacement_mm"])
    head = f"{'phase':>10}  {'ml':>8}  " + "  ".join(f"{axis:>7}" for axis in axes)
    lines = [f"{head}   mm from phase {report['reference_phase']}"]
    for phase in report["phases"]:
        moved = "  ".join(f"{phase['displacement_mm'][axis]:7.1f}" for axis in axes)
        lines.append(f"{phase['phase']:>10}  {phase['volume_ml']:8.2f}  {moved}")
    span, ratio = report["peak_to_peak_mm"], report["igtv_over_largest_gtv"]
    lines += [
        f"{'range':>10}  {'':8}  " + "  ".join(f"{span[axis]:7.1f}" for axis in axes),
        f"{report['axes']}; the farthest phases are {span['3D']:.1f} mm apart",
        f"IGTV {report['igtv_ml']:.2f} ml, {ratio:.2f} times the largest GTV",
    ]
    return "\n".join([*lines, *(f"flag: {flag}" for flag in report["flags"])])
