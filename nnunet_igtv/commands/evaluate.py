"""`nnunet-igtv evaluate`: score predictions per case and per slice position."""

import argparse

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.main import UsageError


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv evaluate",
        description="Score predictions; writes metrics.json, metrics.csv and report.html.",
        example="nnunet-igtv evaluate --truth labelsTs --images imagesTs "
        "--prediction scratch=predicted/scratch transferred=predicted/transferred --output report",
    )
    parser.add_argument("--truth", required=True, metavar="DIR", help="one mask per case, as labelsTs")
    parser.add_argument(
        "--prediction",
        required=True,
        nargs="+",
        metavar="NAME=DIR",
        help="a model's name and its predictions; several are shown side by side",
    )
    parser.add_argument("--images", metavar="DIR", help="CASE_0000 (CT), CASE_0001 (PET), for pictures")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the three files")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an evaluation of other masks in that folder"
    )
    parser.add_argument("--title", default="IGTV segmentation", help="heading of the report")
    return parser


def run(arguments: argparse.Namespace) -> int:
    predictions: dict[str, str] = {}
    for text in arguments.prediction:
        name, equals, folder = text.partition("=")
        if not equals:
            name, folder = "prediction", text
        if not name or not folder:
            raise UsageError(f"--prediction takes NAME=DIR, not {text!r}")
        if name in predictions:
            raise UsageError(f"two predictions are named {name!r}")
        predictions[name] = folder

    from nnunet_igtv.evaluation import evaluate

    results = evaluate(
        arguments.truth,
        predictions,
        arguments.images,
        arguments.output,
        title=arguments.title,
        overwrite=arguments.overwrite,
    )
    say(results.table())
    say(f"report: {arguments.output}/report.html")
    return 0
