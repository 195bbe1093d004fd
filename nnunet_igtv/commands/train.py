"""`nnunet-igtv train`: `nnUNetv2_train` for one process or many, on GPUs or CPUs, of one machine or several.

torchrun starts one process per device:

    torchrun --nproc-per-node 4 -m nnunet_igtv train 502 2d 0 -tr IGTVTrainer
"""

import argparse
import contextlib
import os

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.commands.main import UsageError


class _Parser(Parser):
    """Of several processes that were given bad arguments, the first alone says so."""

    def error(self, message: str) -> None:  # type: ignore[override]
        with contextlib.ExitStack() as quiet:
            if os.environ.get("RANK", "0") != "0":
                quiet.enter_context(contextlib.redirect_stderr(quiet.enter_context(open(os.devnull, "w"))))
            super().error(message)


def parser() -> Parser:
    parser = _Parser(
        prog="nnunet-igtv train",
        description="Train as nnUNetv2_train does, in one process or in as many as torchrun starts.",
        example="nnunet-igtv train 502 2d 0 -tr IGTVTrainer\n"
        "torchrun --nproc-per-node 4 -m nnunet_igtv train 502 2d 0 -tr IGTVTrainer",
    )
    parser.add_argument("dataset", help="name or number of the data set")
    parser.add_argument("configuration", help="2d, 3d_fullres or another of the plans")
    parser.add_argument("fold", help='a number, or "all"')
    parser.add_argument("-tr", required=True, metavar="TRAINER", help="name of the trainer")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="name of the plans (%(default)s)")
    parser.add_argument(
        "-pretrained_weights", metavar="CHECKPOINT", help="weights to start from, all but the head"
    )
    parser.add_argument("--npz", action="store_true", help="keep the validation's probabilities")
    parser.add_argument(
        "--c", action="store_true", help="continue from the latest checkpoint, if there is one"
    )
    parser.add_argument("--val", action="store_true", help="only validate; needs a finished training")
    parser.add_argument(
        "--val_best", action="store_true", help="validate the best checkpoint, not the final one"
    )
    parser.add_argument("--disable_checkpointing", action="store_true", help="write no checkpoints")
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="(%(default)s)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Exit status 1 without a message where another process of the run has already said what went wrong."""
    fold = arguments.fold
    if fold != "all" and not fold.isdecimal():
        raise UsageError(f'fold {fold!r} is neither a number nor "all"')
    excluding = (
        ("c", "val"),
        ("c", "pretrained_weights"),
        ("val", "pretrained_weights"),
        ("val_best", "disable_checkpointing"),
    )
    for one, other in excluding:
        if getattr(arguments, one) and getattr(arguments, other):
            dashes = "-" if other == "pretrained_weights" else "--"
            raise UsageError(f"--{one} and {dashes}{other} exclude each other")

    from nnunet_igtv.trainers.run import EchoError, Training, train

    training = Training(
        dataset=arguments.dataset,
        configuration=arguments.configuration,
        fold=fold if fold == "all" else int(fold),
        trainer=arguments.tr,
        plans=arguments.p,
        pretrained_weights=arguments.pretrained_weights,
        resume=arguments.c,
        only_validate=arguments.val,
        validate_best=arguments.val_best,
        checkpoints=not arguments.disable_checkpointing,
        probabilities=arguments.npz,
    )
    try:
        train(training, arguments.device)
    except EchoError:
        return 1
    except KeyboardInterrupt as interrupt:
        if os.environ.get("RANK", "0") == "0":
            how = str(interrupt) or (  # the trainer knows whether there is a checkpoint
                "interrupted; add --c to continue from the last checkpoint, if there is one (it replaces "
                "-pretrained_weights); without one, start again"
            )
            say(f"nnunet-igtv train: {how}", error=True)
        return 130
    return 0
