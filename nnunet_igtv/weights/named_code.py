"""What a model's files name as code: only classes and functions of nnU-Net, PyTorch and this package.

nnU-Net looks a dotted name up with `pydoc.locate`, which walks the attributes of modules too:
`torch.nn.functional.torch.os.system` is found that way. A single name it takes from the first file of one of
its folders that has such an attribute, defined there or imported. So what counts is what a name leads to,
not how it begins; and no module outside the packages below is imported to find out.
"""

import ast
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

# the packages that define what plans may have called: the networks of this package and of nnU-Net, and layers
NETWORKS = ("nnunet_igtv.architectures.", "dynamic_network_architectures.")
LAYERS = ("torch.nn.modules.",)
_LAYERS_IN_SHORT = "torch.nn."  # torch.nn.LeakyReLU is torch.nn.modules.activation.LeakyReLU
_DOTTED = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*){2,5}", re.ASCII)
_MOVED = "dynamic_network_architectures.architectures"  # nnU-Net searches it for what is not found by name

CLASS, FUNCTION = ast.ClassDef.__name__, ast.FunctionDef.__name__

# fields with single names -> folder of nnU-Net that is searched, and what must be defined there
OF_PLANS = {
    "image_reader_writer": ("imageio", CLASS),
    "label_manager": ("utilities/label_handling", CLASS),
}
OF_CONFIGURATIONS = {
    "preprocessor_name": ("preprocessing", CLASS),
    "normalization_schemes": ("preprocessing/normalization", CLASS),
    "resampling_fn_data": ("preprocessing/resampling", FUNCTION),
    "resampling_fn_seg": ("preprocessing/resampling", FUNCTION),
    "resampling_fn_probabilities": ("preprocessing/resampling", FUNCTION),
}
OF_DATASET = {"overwrite_image_reader_writer": ("imageio", CLASS)}
LISTS = ("normalization_schemes",)


def is_network(name: Any) -> bool:
    """Whether a dotted name leads to a network of this package or of nnU-Net."""
    return _leads_to_module_class(name, NETWORKS, NETWORKS)


def is_layer(name: Any) -> bool:
    """Whether a dotted name leads to one of PyTorch's layers."""
    return _leads_to_module_class(name, (_LAYERS_IN_SHORT,), LAYERS)


def strangers(fields: Mapping[str, Any], table: Mapping[str, tuple[str, str]]) -> list[Any]:
    """The single names in these fields that are not defined in nnU-Net's own folder for them."""
    return [
        name
        for field, (folder, kind) in table.items()
        for name in _names(field, fields.get(field))
        if not (isinstance(name, str) and name in _defined(folder, kind))
    ]


def _names(field: str, value: Any) -> list[Any]:
    if value is None or (field in OF_DATASET and value == "None"):  # nnU-Net looks nothing up then
        return []
    return value if field in LISTS and isinstance(value, list) else [value]


def _leads_to_module_class(name: Any, beginnings: tuple[str, ...], homes: tuple[str, ...]) -> bool:
    if not isinstance(name, str) or not _DOTTED.fullmatch(name) or not name.startswith(beginnings):
        return False
    found = _located(name)
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(homes)


def _located(name: str) -> Any:
    """The attribute of a module itself, never one further along; None where there is none."""
    module, _, attribute = name.rpartition(".")
    try:
        found = vars(import_module(module)).get(attribute)
        return _moved(name) if found is None else found
    except ImportError:
        return _moved(name)


def _moved(name: str) -> Any:
    """A class that went to another file of nnU-Net's networks: the one that nnU-Net itself takes then."""
    package, file, attribute = name.rsplit(".", 2)
    if package != _MOVED:
        return None
    architectures = import_module(_MOVED)
    if not isinstance(vars(architectures).get(file, architectures), ModuleType):
        return None  # no file: nnU-Net would walk on through this
    for entry in pkgutil.iter_modules(architectures.__path__, f"{_MOVED}."):
        found = vars(import_module(entry.name)).get(attribute)
        if found is not None:
            return found
    return None


@cache
def _defined(folder: str, kind: str) -> frozenset[str]:
    """Names of the classes or functions that nnU-Net's files below a folder define; nothing is imported."""
    spec = find_spec("nnunetv2")
    roots = [Path(root, folder) for root in (spec and spec.submodule_search_locations) or ()]
    return frozenset(
        statement.name
        for root in roots
        for file in sorted(root.rglob("*.py"))
        for statement in ast.parse(file.read_bytes()).body
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and type(statement).__name__ == kind
    )
