"""A trained model of unknown origin, examined before nnU-Net loads it.

nnU-Net loads checkpoints as pickles, which run any code that they hold, and calls whatever the plans name.
Here a checkpoint must be data alone, and what the plans name must be a class or function of nnU-Net, of
PyTorch's layers or of this package (`named_code.py`).
"""

import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from nnunet_igtv.channels import channels_of
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.weights.description import read_description
from nnunet_igtv.weights.named_code import (
    OF_CONFIGURATIONS,
    OF_DATASET,
    OF_PLANS,
    is_layer,
    is_network,
    strangers,
)
from nnunet_igtv.weights.pickled import check_pickle
from nnunet_igtv.weights.reading import load_checkpoint

LOOKED_UP_UNASKED = ("conv_op",)  # by nnUNetTrainerBN, also where `_kw_requires_import` does not list it
REMEDY_FOR_NAMES = (
    "ask its authors for a model that names code of nnU-Net, PyTorch's layers and this package only"
)


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint says."""

    file: str
    trainer: str
    configuration: str
    digest: str  # SHA-256 of the file


@dataclass(frozen=True)
class ModelFacts:
    """What a model folder is; nothing in it runs code when nnU-Net predicts with it.

    Attributes:
        folder: the model folder.
        dataset: name of the dataset in the plans.
        channels: what the dataset says of its channels.
        labels: names of the labels.
        network: the class that the plans name, by configuration.
        checkpoints: one per file.
    """

    folder: Path
    dataset: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    network: dict[str, str]
    checkpoints: tuple[CheckpointFacts, ...]


def model_folders(root: Path) -> list[Path]:
    """The model folders under a folder: those that hold plans.json and dataset.json, or a fold."""
    files = _files(root)
    named = {path.parent for path in files if path.name in ("plans.json", "dataset.json")}
    folds = {path.parent.parent for path in files if fnmatch(path, "*/fold_*/*.pth")}
    return sorted(named | folds)


def _files(root: Path) -> list[Path]:
    """Every file under a folder, as nnU-Net finds it: also in folders that are links.

    Raises OSError for a folder that cannot be listed: it may hold anything.
    """

    def refuse(error: OSError) -> None:
        raise error

    found, seen = [], set()
    for at, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(at)) in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        found += [Path(at, name) for name in names]
    return sorted(found)


def check_model(folder: str | Path, checkpoints: Sequence[Path] | None = None) -> ModelFacts:
    """Examine the files of a model folder that nnU-Net's commands would load.

    Args:
        folder: holds plans.json, dataset.json and the folds.
        checkpoints: those that will be loaded; None for all, and for nnU-Net's pickles of postprocessing too.

    Raises:
        IGTVError: a checkpoint or a pickle holds more than data, plans or dataset.json name code that is
            not this package's, nnU-Net's or PyTorch's, or a file cannot be read.
    """
    folder = Path(folder)
    plans, dataset = read_description(folder)
    networks = dict(_networks(plans, folder / "plans.json"))
    _refuse(strangers(dataset, OF_DATASET), folder / "dataset.json")
    if checkpoints is None:
        files = _files(folder)
        for pickled in (file for file in files if file.suffix == ".pkl"):
            check_pickle(pickled)
        checkpoints = [file for file in files if file.suffix == ".pth"]
    if not checkpoints:
        raise IGTVError("no checkpoints", file=folder, remedy="give the folder that holds fold_0, fold_1, …")
    return ModelFacts(
        folder,
        plans.get("dataset_name") or "",
        tuple(map(str, channels_of(dataset, folder / "dataset.json"))),
        tuple(dataset["labels"]),
        networks,
        tuple(_checkpoint(path, folder) for path in checkpoints),
    )


def unpack(archive: str | Path, folder: Path) -> None:
    """Unpack an exported model.

    Args:
        archive: a zip file, as nnU-Net's export writes it.
        folder: where to, an empty folder.

    Raises:
        IGTVError: no zip file, an entry that would be written elsewhere or is a link, or too little room.
    """
    try:
        with zipfile.ZipFile(archive) as entries:
            for entry in entries.infolist():
                target = (folder / entry.filename).resolve()
                if not target.is_relative_to(folder.resolve()) or stat.S_ISLNK(entry.external_attr >> 16):
                    raise IGTVError(
                        f"the archive holds an entry that leaves its folder: {entry.filename!a}", file=archive
                    )
            if sum(entry.file_size for entry in entries.infolist()) > shutil.disk_usage(folder).free:
                raise IGTVError("the archive unpacks to more than there is room for", file=archive)
            entries.extractall(folder)
    except IGTVError:
        raise
    except Exception as error:  # whatever the damage leads to in the reader of one of zip's compressions
        if isinstance(error, OSError) and error.errno is not None:  # no room, or no right to read
            raise
        raise IGTVError(
            "not a zip file that can be unpacked", file=archive, remedy="download or export it again"
        ) from error


def _networks(plans: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """Configuration -> class of its network."""
    _refuse(strangers(plans, OF_PLANS), path)
    for name, configuration in plans["configurations"].items():
        _refuse(strangers(configuration, OF_CONFIGURATIONS), path)
        if "architecture" not in configuration:
            continue  # it inherits from another one
        architecture = configuration["architecture"]
        network = architecture["network_class_name"]
        arguments = architecture.get("arch_kwargs") or {}
        imported = [
            arguments.get(key)
            for key in (*(architecture.get("_kw_requires_import") or ()), *LOOKED_UP_UNASKED)
        ]
        _refuse([] if is_network(network) else [network], path)
        _refuse([text for text in imported if text is not None and not is_layer(text)], path)
        yield name, network


def _refuse(names: Sequence[Any], path: Path) -> None:
    if names:
        raise IGTVError(f"{path.name} would have {names[0]!a} called", file=path, remedy=REMEDY_FOR_NAMES)


def _checkpoint(path: Path, folder: Path) -> CheckpointFacts:
    content = load_checkpoint(path)
    if not isinstance(content, Mapping) or "network_weights" not in content:
        raise IGTVError("not a checkpoint of an nnU-Net trainer", file=path)
    trainer, arguments = content.get("trainer_name", ""), content.get("init_args", {})
    configuration = arguments.get("configuration", "") if isinstance(arguments, Mapping) else None
    if not isinstance(trainer, str) or not isinstance(configuration, str):
        raise IGTVError(
            "the fields trainer_name and init_args.configuration of the checkpoint are no texts",
            file=path,
            remedy="export the model again",
        )
    digest = sha256(path.read_bytes()).hexdigest()
    return CheckpointFacts(str(path.relative_to(folder)), trainer, configuration, digest)
