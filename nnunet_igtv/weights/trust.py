"""A trained model of unknown origin, examined before nnU-Net loads it.

nnU-Net loads checkpoints as pickles, which run any code that they hold, and calls whatever the plans name.
Here a checkpoint must be data alone, and what the plans name must be a class or function of nnU-Net, of
PyTorch's layers or of this package (`named_code.py`).
"""

import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from nnunet_igtv.channels import channels_of
from nnunet_igtv.errors import IGTVError, blamed
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
    plans, dataset = (read_json(folder / name) for name in ("plans.json", "dataset.json"))
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
        str(plans.get("dataset_name", "")),
        tuple(map(str, channels_of(dataset, folder / "dataset.json"))),
        tuple(map(str, dataset.get("labels", {}))),
        networks,
        tuple(_checkpoint(path, folder) for path in checkpoints),
    )


def unpack(archive: str | Path, folder: Path, free_bytes: Callable[[], int]) -> None:
    """Unpack an exported model.

    Args:
        archive: a zip file, as nnU-Net's export writes it.
        folder: where to, an empty folder.
        free_bytes: how much room there is.

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
            if sum(entry.file_size for entry in entries.infolist()) > free_bytes():
                raise IGTVError("the archive unpacks to more than there is room for", file=archive)
            entries.extractall(folder)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # no room, or no right to read
            raise
        raise IGTVError("not a zip file that can be unpacked", file=archive) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a model folder, which holds a dictionary. Raises IGTVError for any other."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IGTVError("no such file in the model folder", file=path) from error
    except (OSError, ValueError, RecursionError) as error:
        damaged = IGTVError("the file is damaged", file=path, remedy="export the model again")
        raise blamed(error, damaged) from error
    if not isinstance(content, Mapping):
        raise IGTVError("the file is damaged", file=path, remedy="export the model again")
    return dict(content)


def _networks(plans: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """Configuration -> class of its network."""
    configurations = plans.get("configurations")
    if not isinstance(configurations, Mapping):
        raise IGTVError("the plans hold no configurations", file=path)
    _refuse(strangers(plans, OF_PLANS), path)
    for name, configuration in configurations.items():
        if not isinstance(configuration, Mapping):
            continue
        _refuse(strangers(configuration, OF_CONFIGURATIONS), path)
        architecture = configuration.get("architecture")
        if not isinstance(architecture, Mapping):
            continue  # it inherits from another one
        network = architecture.get("network_class_name")
        arguments = architecture.get("arch_kwargs") or {}
        imported = [
            arguments.get(key)
            for key in (*(architecture.get("_kw_requires_import") or ()), *LOOKED_UP_UNASKED)
        ]
        _refuse([] if is_network(network) else [network], path)
        _refuse([text for text in imported if text is not None and not is_layer(text)], path)
        yield name, str(network)


def _refuse(names: Sequence[Any], path: Path) -> None:
    if names:
        raise IGTVError(f"{path.name} would have {names[0]!a} called", file=path, remedy=REMEDY_FOR_NAMES)


def _checkpoint(path: Path, folder: Path) -> CheckpointFacts:
    content = load_checkpoint(path)
    if not isinstance(content, Mapping) or "network_weights" not in content:
        raise IGTVError("not a checkpoint of an nnU-Net trainer", file=path)
    arguments = content.get("init_args")
    return CheckpointFacts(
        str(path.relative_to(folder)),
        str(content.get("trainer_name", "")),
        str(arguments.get("configuration", "")) if isinstance(arguments, Mapping) else "",
        sha256(path.read_bytes()).hexdigest(),
    )
