"""Checkpoints that are there whole or not at all, and that need no pickled code to be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_igtv.atomic import written_whole
from nnunet_igtv.errors import IGTVError, blamed
from nnunet_igtv.weights.reading import check_sums

# what PyTorch says where memory is short, of which it has an exception of its own on GPUs only
OF_THE_MEMORY = ("out of memory", "allocate memory")


@contextmanager
def checkpoint_written(filename: str) -> Iterator[str]:
    """A name to write a checkpoint to, which takes the place of `filename` when it is complete.

    Raises:
        IGTVError: it could not be written (a full disk, say); what was at `filename` is still there.
    """
    try:
        with written_whole(filename) as partial:
            yield str(partial)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise IGTVError(
            f"the checkpoint could not be written ({error}); the one before it is kept",
            file=filename,
            remedy="make room on the disk, then continue with --c",
        ) from error


def plain(value: Any) -> Any:
    """The same value with NumPy's scalars as Python's, which `torch.load(weights_only=True)` reads."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def readable(filename: str, fall_back: bool) -> tuple[str, dict[str, Any]]:
    """A checkpoint that can be read, and its content, with tensors on the CPU: `filename`, or where it is
    broken the best before it.

    Args:
        fall_back: whether an older checkpoint will do: to continue a training yes, to validate no.

    Raises:
        IGTVError: none can be read, or the system refuses to read one: that one may be whole.
        OSError, RuntimeError, MemoryError: this process has no memory left, or too many files open.
    """
    wanted = Path(filename)
    older = ("checkpoint_latest.pth", "checkpoint_best.pth") if fall_back else ()
    candidates = dict.fromkeys([wanted, *(wanted.with_name(name) for name in older)])
    broken = []
    for candidate in candidates:
        if candidate != wanted and not candidate.exists():
            continue
        try:
            check_sums(candidate)
            return str(candidate), torch.load(candidate, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever the damage leads to in the reader of pickles
            if isinstance(error, MemoryError) or any(words in str(error) for words in OF_THE_MEMORY):
                raise
            damaged = IGTVError("the checkpoint is damaged", file=candidate)
            if (found := blamed(error, damaged)) is not damaged:
                raise found from error
            broken.append(f"{candidate.name} ({type(error).__name__})")
    raise IGTVError(
        f"the checkpoint cannot be read: {', '.join(broken)}",
        file=wanted.parent,
        remedy="delete what is broken there; without any checkpoint, train again without --c",
    )
