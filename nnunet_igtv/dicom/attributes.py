"""Attributes of headers that may be damaged: pydicom decodes late, and raises whatever that leads to."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from nnunet_igtv.errors import IGTVError


def attribute(header: Dataset, name: str | tuple[int, int]) -> Any:
    """The value of an attribute (for a tag, its element); None for one that is absent or undecodable."""
    try:
        return header.get(name)
    except Exception:
        return None


def is_absent(header: Dataset, name: str) -> bool:
    """Whether an attribute is missing or empty; not so for one that is there and undecodable."""
    try:
        return name not in header or bool(header[name].is_empty)
    except Exception:
        return False


def text(header: Dataset, name: str) -> str:
    """The value of an attribute as text; "" for one that is absent, empty or undecodable."""
    value = attribute(header, name)
    return "" if value is None else str(value).strip("\0 ")


def values_of(header: Dataset, name: str) -> list:
    """The values of an attribute; none for one that is absent, empty or undecodable."""
    value = attribute(header, name)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def words_of(header: Dataset, name: str) -> list[str]:
    """The values of a code string in upper case, as the standard wants them, whoever wrote them."""
    return [str(value).strip().upper() for value in values_of(header, name)]


def vector(header: Dataset, name: str, length: int, path: Path) -> np.ndarray:
    try:
        vector = np.array([float(v) for v in values_of(header, name)])
    except (TypeError, ValueError):
        vector = np.empty(0)
    if len(vector) != length or not np.isfinite(vector).all():
        raise IGTVError(
            f"{name} is missing or is not {length} finite number(s)",
            file=path,
            remedy="export the series again",
        )
    return vector


def integer(header: Dataset, name: str, path: Path) -> int:
    value = number(header, name, path, 0.0)
    if value < 1 or value != int(value):
        raise IGTVError(f"{name} is not a positive whole number", file=path)
    return int(value)


def number(header: Dataset, name: str, path: Path, default: float) -> float:
    if is_absent(header, name):
        return default
    return float(vector(header, name, 1, path)[0])
