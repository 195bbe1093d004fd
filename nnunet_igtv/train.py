"""`nnunet-igtv train`: `nnUNetv2_train` for one process or many, on GPUs or CPUs, of one machine or several.

It calls nnU-Net's own functions in nnU-Net's order. torchrun starts one process per device:

    torchrun --nproc-per-node 4 -m nnunet_igtv.cli train 502 2d 0 -tr IGTVTrainer
"""

import argparse
import contextlib
import io
import os
from pathlib import Path
from typing import Any

from nnunet_igtv.env import VARIABLE, extended_trainer_path
from nnunet_igtv.errors import IGTVError


def main(argv: list[str]) -> int:
    with contextlib.ExitStack() as quiet:
        if os.environ.get("RANK", "0") != "0":  # bad arguments are told once
            quiet.enter_context(contextlib.redirect_stderr(quiet.enter_context(open(os.devnull, "w"))))
        arguments = _parse(argv)
    from nnunet_igtv.trainers.process_group import ProcessGroup

    group = ProcessGroup(arguments.device)
    try:
        with group:
            train(arguments, group.device, group.size)
    except Exception as error:
        if not group.first_to_fail():
            return 1
        if group.lost_another(error):
            raise IGTVError(
                "another process of this run ended or no longer answers",
                remedy="its own message, if it left one, is above; go on with --c",
            ) from error
        raise
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nnunet-igtv train",
        description="Train as nnUNetv2_train does, in one process or in as many as torchrun starts.",
        epilog="Several devices: torchrun --nproc-per-node N -m nnunet_igtv.cli train …",
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
    parser.add_argument("--c", action="store_true", help="go on from the latest checkpoint, if there is one")
    parser.add_argument("--val", action="store_true", help="only validate; needs a finished training")
    parser.add_argument(
        "--val_best", action="store_true", help="validate the best checkpoint, not the final one"
    )
    parser.add_argument("--disable_checkpointing", action="store_true", help="write no checkpoints")
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.fold != "all" and not arguments.fold.isdecimal():
        parser.error(f'fold {arguments.fold!r} is neither a number nor "all"')
    arguments.fold = arguments.fold if arguments.fold == "all" else int(arguments.fold)
    for one, other in (("c", "val"), ("c", "pretrained_weights"), ("val_best", "disable_checkpointing")):
        if getattr(arguments, one) and getattr(arguments, other):
            dashes = "-" if other == "pretrained_weights" else "--"
            parser.error(f"--{one} and {dashes}{other} exclude each other")
    return arguments


def train(arguments: argparse.Namespace, device: Any, processes: int) -> None:
    """What `nnUNetv2_train` does after its arguments are parsed, in this process of `processes`.

    Args:
        arguments: as `main` parses them.
        device: torch.device of this process.

    Raises:
        IGTVError: no such data set, plans, trainer, weights or checkpoint; or what the trainer refuses.
    """
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    from nnunet_igtv.weights.strict import load_all_but_head

    if device.type == "cuda":  # threads as nnU-Net sets them
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
    elif processes == 1:
        torch.set_num_threads(os.cpu_count() or 1)
    os.environ[VARIABLE] = extended_trainer_path()
    _require_what_is_named(arguments)
    trainer = get_trainer_from_args(
        arguments.dataset,
        arguments.configuration,
        arguments.fold,
        arguments.tr,
        arguments.p,
        arguments.c,
        device=device,
    )
    trainer.disable_checkpointing = arguments.disable_checkpointing
    results = Path(trainer.output_folder)
    if arguments.val:
        _require_checkpoint(results / "checkpoint_final.pth")
    if arguments.pretrained_weights and not arguments.val:
        trainer.initialize()
        load_all_but_head(trainer.bare_network, arguments.pretrained_weights)
    maybe_load_checkpoint(trainer, arguments.c, arguments.val)
    if not arguments.val:
        trainer.run_training()
    if arguments.val_best:
        _require_checkpoint(results / "checkpoint_best.pth")
        trainer.load_checkpoint(str(results / "checkpoint_best.pth"))
    trainer.perform_actual_validation(arguments.npz)


def _require_what_is_named(arguments: argparse.Namespace) -> None:
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from nnunet_igtv.trainers.igtv_trainer import IGTVTrainer

    folders = {name: os.environ.get(name) for name in ("nnUNet_preprocessed", "nnUNet_results")}
    unset = [name for name, folder in folders.items() if not folder]
    if unset:
        raise IGTVError(f"not set: {', '.join(unset)}", remedy="export nnU-Net's variables")
    try:
        name = maybe_convert_to_dataset_name(arguments.dataset)
        with contextlib.redirect_stdout(io.StringIO()):  # where it searches, which nnU-Net will say again
            trainer = recursive_find_trainer_class_by_name(arguments.tr)
    except (RuntimeError, ValueError) as error:
        raise IGTVError(str(error)) from error
    if not issubclass(trainer, IGTVTrainer):
        raise IGTVError(
            f"{arguments.tr} is not one of this package's trainers", remedy="train it with nnUNetv2_train"
        )
    plans = Path(str(folders["nnUNet_preprocessed"])) / name / f"{arguments.p}.json"
    if not plans.is_file():
        raise IGTVError("no such plans", file=plans, remedy="run nnUNetv2_plan_and_preprocess")


def _require_checkpoint(path: Path) -> None:
    if not path.is_file():
        raise IGTVError(
            "no such checkpoint; the training is not finished", file=path, remedy="go on with --c"
        )
