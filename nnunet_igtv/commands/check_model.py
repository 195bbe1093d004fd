"""`nnunet-igtv check-model FOLDER|ZIP`: what a trained model is, and whether loading it would run code."""

import argparse
import tempfile
from pathlib import Path

from nnunet_igtv.commands.console import Parser, say
from nnunet_igtv.errors import IGTVError


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="nnunet-igtv check-model",
        description="Say what a trained model is, and refuse one that would run code when nnU-Net loads it.",
        example="nnunet-igtv check-model exported_model.zip",
    )
    parser.add_argument(
        "model", type=Path, help="a model folder, a folder that holds some, or a zip file of nnU-Net's export"
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    from nnunet_igtv.weights.trust import check_model, model_folders, unpack

    with tempfile.TemporaryDirectory(prefix="nnunet-igtv-") as scratch:
        root: Path = arguments.model
        if root.is_file():
            root = Path(scratch)
            unpack(arguments.model, root)
        folders = model_folders(root)
        if not folders:
            remedy = "give the folder of plans.json and fold_0"
            raise IGTVError("no trained model", file=arguments.model, remedy=remedy)
        for folder in folders:
            facts = check_model(folder)
            say(folder.relative_to(root) if folder != root else folder.name)
            say(f"  dataset {facts.dataset}: {', '.join(facts.channels)}; labels {', '.join(facts.labels)}")
            for configuration, network in facts.network.items():
                say(f"  {configuration}: {network}")
            for checkpoint in facts.checkpoints:
                say(f"  {checkpoint.file}: {checkpoint.trainer}, {checkpoint.configuration}")
                say(f"    sha256 {checkpoint.digest}")
    say("\nLoading it runs no code.")
    return 0
