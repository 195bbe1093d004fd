"""A pickle of nnU-Net's postprocessing, examined without running anything of it.

nnU-Net writes a list of its one postprocessing function and a list of arguments. These are labels: plain
numbers, and NumPy's, which a pickle makes by two calls. Nothing else may be named, and the function may be
referred to but not called: called from a pickle, even a harmless one gets arguments of the file's choice.
"""

import pickle
import re
from pathlib import Path
from typing import Any

from nnunet_igtv.errors import IGTVError, blamed

REMEDY = "ask its authors for a model whose checkpoints hold weights and plain values alone"
FUNCTION = (
    "nnunetv2.postprocessing.remove_connected_components",
    "remove_all_but_largest_component_from_segmentation",
)


def check_pickle(path: Path) -> None:
    """Refuse a pickle that holds anything but what nnU-Net's postprocessing writes.

    Raises:
        IGTVError: it names or calls something else, or it is no pickle.
    """
    try:
        with path.open("rb") as file:
            _Examined(file).load()
    except _RefusedNameError as error:
        raise IGTVError(f"the pickle would call {error}", file=path, remedy=REMEDY) from error
    except Exception as error:  # whatever a damaged pickle leads to
        damaged = IGTVError("not a pickle that can be examined", file=path, remedy=REMEDY)
        raise blamed(error, damaged) from error


class _RefusedNameError(Exception):
    """A pickle asks for something that it must not have."""


class _Function:
    """Stands for nnU-Net's function: no class, so that a pickle makes none of it, and without attributes."""

    __slots__ = ()

    def __call__(self, *_: object, **__: object) -> None:
        raise _RefusedNameError(".".join(FUNCTION))


class _DType:
    """Stands for a numpy.dtype of numbers."""

    __slots__ = ()

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|", "=") or state[2:] != (None, None, None, -1, -1, 0):
            raise _RefusedNameError("numpy.dtype of what is no number")


# functions, not classes: a pickle can make something of a class in other ways than by calling it
def _dtype(kind: str, *_: bool) -> _DType:
    if not (isinstance(kind, str) and re.fullmatch("b1|[iu][1248]|f[248]", kind)):
        raise _RefusedNameError("numpy.dtype of what is no number")
    return _DType()


def _number(kind: _DType, value: bytes) -> int:
    if not (isinstance(kind, _DType) and isinstance(value, bytes)):
        raise _RefusedNameError("numpy.scalar of what is no number")
    return 0


STAND_INS: dict[tuple[str, str], Any] = {
    FUNCTION: _Function(),
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _number,  # up to NumPy 1
    ("numpy._core.multiarray", "scalar"): _number,
}


class _Examined(pickle.Unpickler):
    """Gets a stand-in for each name that it may ask for; nothing is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise _RefusedNameError(f"{module}.{name}")
        return STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedNameError("a persistent object")
