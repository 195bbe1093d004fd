"""`nnunet-igtv evaluate`: score predictions per case and per slice position."""

import argparse
from pathlib import Path

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.main import UsageError


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv evaluate",
        description="Score predictions; writes metrics.json, metrics.csv and report.html.",
        example="nnunet-igtv evaluate --truth labelsTs --images imagesTs "
        "--prediction scratch=predicted/scratch transferred=predicted/transferred --output report",
    )
    parser.add_argument(
        "--truth",
        required=True,
        nargs="+",
        metavar="DIR",
        help="one mask per case, as labelsTs; of several observers NAME=DIR: their consensus is the truth",
    )
    parser.add_argument(
        "--prediction",
        required=True,
        nargs="+",
        metavar="NAME=DIR",
        help="a model's name and its predictions; several are compared; "
        "one name several times: seeds or folds of one model",
    )
    parser.add_argument("--images", metavar="DIR", help="CASE_0000 (CT), CASE_0001 (PET), for pictures")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the three files")
    parser.add_argument(
        "--patients",
        metavar="CSV",
        help="columns case and patient (default: the dataset's manifest, else each case is a patient)",
    )
    parser.add_argument(
        "--reference",
        metavar="NAME",
        help="compare the other models with this one only (default: all with all)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an evaluation of other masks in that folder"
    )
    parser.add_argument("--title", default="IGTV segmentation", help="heading of the report")
    return parser


def run(arguments: argparse.Namespace) -> int:
    predictions: dict[str, list[str]] = {}
    for text in arguments.prediction:
        name, folder = _named(text, "--prediction") if _has_name(text) else ("prediction", text)
        predictions.setdefault(name, []).append(folder)
    truth: str | dict[str, str] = arguments.truth[0]
    if len(arguments.truth) > 1 or _has_name(arguments.truth[0]):
        named = [_named(text, "--truth") for text in arguments.truth]
        truth = dict(named)
        if len(truth) < len(named):
            raise UsageError("two observers have one name")

    from nnunet_igtv.evaluation import evaluate

    results = evaluate(
        truth,
        predictions,
        arguments.images,
        arguments.output,
        patients=arguments.patients,
        reference=arguments.reference,
        title=arguments.title,
        overwrite=arguments.overwrite,
    )
    say(results.table())
    say(f"report: {arguments.output}/report.html")
    return 0


def _has_name(text: str) -> bool:
    """Whether it is NAME=DIR, not a folder of that name (runs/lr=0.01)."""
    return "=" in text and not Path(text).exists()


def _named(text: str, option: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise UsageError(f"{option} takes NAME=DIR, not {text!r}")
    return name, folder
