"""Checkpoints of unknown origin, read without running any code that they hold."""

import argparse
import contextlib
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_igtv.channels import CT_PET_OF_ANY_UNIT, Channel, channels_of, mismatch
from nnunet_igtv.errors import IGTVError, blamed
from nnunet_igtv.weights.wrappers import bare_key

# where training frameworks keep the weights in a checkpoint
WEIGHT_ENTRIES = ("network_weights", "model", "state_dict")

_multiarray = getattr(np, "_core", None) or np.core
_SCALAR_TYPES = (
    np.float64,
    np.float32,
    np.float16,
    np.int64,
    np.int32,
    np.int16,
    np.int8,
    np.uint8,
    np.bool_,
)
# Beyond tensors and Python's own types: numpy's numbers and arrays (nnU-Net logs them) and the parsed
# command line that CIPA's authors keep. All are data; numpy's old and new module names are both in use.
DATA_TYPES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *(type(np.dtype(scalar)) for scalar in _SCALAR_TYPES),
    *(
        (getattr(_multiarray.multiarray, name), f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
]

# What no weight is, in the order in which it must be asked: values are looked at last. With a stride of 0 a
# tensor claims more elements than its storage holds.
NO_WEIGHTS: dict[str, Callable[[Tensor], bool]] = {
    "without values": lambda value: value.is_meta,
    "quantised": lambda value: value.is_quantized,
    "sparse or nested": lambda value: value.layout != torch.strided or value.is_nested,
    "complex numbers": lambda value: value.is_complex(),
    "larger than what the file holds of them": lambda value: (
        value.numel() * value.element_size() > value.untyped_storage().nbytes()
    ),
    "not finite": lambda value: value.is_floating_point() and not bool(value.float().isfinite().all()),
}


def load_data_only() -> None:
    """From now on `torch.load` in this process takes files of data alone, whatever its caller asks for."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.serialization.add_safe_globals(DATA_TYPES)


def load_checkpoint(path: str | Path) -> Any:
    """A checkpoint's contents, tensors on the CPU, wherever they were saved.

    Raises:
        IGTVError: no such file, not a checkpoint, one that holds more than data (the classes are named), or
            one that unpacks to more than its size.
    """
    path = Path(path)
    if not path.is_file():
        raise IGTVError("no such checkpoint", file=path)
    try:
        packed = _is_packed(path)
        if not packed:
            check_sums(path)
    except Exception as error:  # whatever the damage leads to in the reader of zip files
        raise blamed(error, _unreadable(path)) from error
    if packed:
        raise IGTVError(
            "the checkpoint would unpack to more than its size, so it is not opened",
            file=path,
            remedy="ask its authors for the file that torch.save wrote: nothing in it is compressed",
        )
    try:
        with torch.serialization.safe_globals(DATA_TYPES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = _refused_names(path, str(error))
        if not names:
            raise _unreadable(path) from error
        raise IGTVError(
            f"the checkpoint holds more than data, so it is not opened: {', '.join(names)}",
            file=path,
            remedy="ask its authors for a file that holds the weights alone",
        ) from error
    except Exception as error:  # whatever the damage leads to in the reader of pickles
        raise blamed(error, _unreadable(path)) from error


def _is_packed(path: Path) -> bool:
    """Whether a zip file's entries are larger than the file: compressed, or several in one place.

    torch would unpack them into memory before anything can be asked; `torch.save` only stores.
    """
    if not _is_zipped(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    return compressed or sum(entry.file_size for entry in entries) > path.stat().st_size


def _is_zipped(path: Path) -> bool:
    """As torch tells it from an older file."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def check_sums(path: Path) -> None:
    """Compare the entries of a checkpoint with the sums that `torch.save` kept of them.

    `torch.load` does not, and takes other weights than were saved. Older files, and those saved without sums
    (0), have none.

    Raises:
        zipfile.BadZipFile, OSError: an entry is not what was written, or cannot be read.
    """
    if not _is_zipped(path):
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.CRC:
                with archive.open(entry) as content:
                    while content.read(2**20):  # the sum is compared at its end
                        pass


def _unreadable(path: Path) -> IGTVError:
    return IGTVError(
        "not a checkpoint that PyTorch can read, or one that is incomplete or damaged",
        file=path,
        remedy="download or copy it again and compare its size",
    )


def _refused_names(path: Path, message: str) -> list[str]:
    """The classes and functions that a file would need and that are not data."""
    with contextlib.suppress(Exception), torch.serialization.safe_globals(DATA_TYPES):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return re.findall(r"GLOBAL ([\w.]+)", message)[:1]  # older, unzipped files


def state_dict_of(checkpoint: Any, source: str | Path | None = None) -> dict[str, Tensor]:
    """The weights in a checkpoint: under a known entry, or the whole of it; wrappers' prefixes removed.

    Raises:
        IGTVError: there are none, one is no dense tensor of finite real numbers, or two have one name.
    """
    entries = [checkpoint.get(key) for key in WEIGHT_ENTRIES] if isinstance(checkpoint, Mapping) else []
    # `model` may be the name of a network, beside the weights in `state_dict`
    weights = next((entry for entry in (*entries, checkpoint) if _holds_tensors(entry)), None)
    if weights is None:
        raise IGTVError(
            "no weights found in the checkpoint",
            file=source,
            remedy=f"expected a dictionary of tensors, or one under {' or '.join(map(repr, WEIGHT_ENTRIES))}",
        )
    names = {key: bare_key(str(key)) for key, value in weights.items() if isinstance(value, Tensor)}
    refuse_doubles(names, source)
    state = {name: weights[key] for key, name in names.items()}
    for kind, applies in NO_WEIGHTS.items():
        wrong = [key for key, value in state.items() if applies(value)]
        if wrong:
            raise IGTVError(f"weights that are {kind}: {len(wrong)} tensors, first {wrong[0]}", file=source)
    return state


def _holds_tensors(entry: Any) -> bool:
    return isinstance(entry, Mapping) and any(isinstance(value, Tensor) for value in entry.values())


def refuse_doubles(names: Mapping[Any, str], source: str | Path | None = None) -> None:
    """Refuse two names of a file (the keys) that become one (the values): nothing says which counts."""
    firsts: dict[str, Any] = {}
    for key, name in names.items():
        if name in firsts:
            raise IGTVError(
                f"two tensors of the file are one in the network, {name}: {firsts[name]} and {key}",
                file=source,
                remedy="take one of them out, or ask its authors for a file that holds the weights once",
            )
        firsts[name] = key


def channels_in(checkpoint: Any, source: str | Path | None = None) -> tuple[Channel, ...] | None:
    """The channels that a checkpoint's network was trained on; None where the checkpoint does not say.

    Raises:
        IGTVError: they are not CT then PET, which is how every network of this package reads them.
    """
    arguments = checkpoint.get("init_args") if isinstance(checkpoint, Mapping) else None
    dataset = arguments.get("dataset_json") if isinstance(arguments, Mapping) else None
    if not isinstance(dataset, Mapping):
        return None
    channels = channels_of(dataset, source)
    if wrong := mismatch(channels, CT_PET_OF_ANY_UNIT):
        raise IGTVError(
            f"these weights were not trained on CT then PET: {wrong}",
            file=source,
            remedy="take weights of a dataset with CT in channel 0 and PET in channel 1",
        )
    return channels
