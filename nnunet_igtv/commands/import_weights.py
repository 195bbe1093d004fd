"""`nnunet-igtv import-weights`: a foreign checkpoint becomes one for `nnUNetv2_train -pretrained_weights`."""

import argparse
from pathlib import Path

from nnunet_igtv.architectures.presets import PRESETS
from nnunet_igtv.commands.console import Parser, say


def parser() -> Parser:
    parser = Parser(
        prog="nnunet-igtv import-weights",
        description="Make a checkpoint for nnUNetv2_train -pretrained_weights from one of CIPA (the authors' "
        "segmentation network), of VMamba (ImageNet encoder) or of this package's trainers.",
        example="nnunet-igtv import-weights CIPA.pth -o gtv.pth",
    )
    parser.add_argument("source", type=Path, help="the checkpoint to read")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint to write (.pth)")
    parser.add_argument(
        "--preset", choices=list(PRESETS), help="size of the network (default: recognised from the weights)"
    )
    parser.add_argument(
        "--classes", type=int, help="classes with background (default: as in the source, 2 if it has none)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from nnunet_igtv.weights.importing import import_weights

    report = import_weights(
        arguments.source,
        arguments.output,
        arguments.preset,
        arguments.classes,
        overwrite=arguments.overwrite,
    )
    say(report)
    return 0
