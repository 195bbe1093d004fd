"""Imports point one way: each room of the house imports only the rooms below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nnunet_igtv"

# room -> the rooms of this package that it may import, itself apart
MAY_IMPORT = {
    "errors": set(),
    "whole": set(),
    "ops": set(),
    "architectures": {"errors", "ops"},
    "weights": {"architectures", "errors", "whole"},
    "plans": {"architectures", "errors"},
    "trainers": {"architectures", "errors", "plans", "weights", "whole"},
    "nnunet_ext": {"trainers"},
    "env": set(),
    "dataset_conversion": {"errors", "whole"},
    "export": {"dataset_conversion", "errors", "whole"},
    "phantom": {"dataset_conversion", "errors", "export"},
    "evaluation": {"errors", "whole"},
}
# what the rooms of conversion, phantom, export and evaluation must not even import from outside
NO_NETWORKS = ("dataset_conversion", "export", "phantom", "evaluation")


def sources(room):
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def imported(path):
    """Every module that a file imports, at its top or inside a function, as absolute dotted names."""
    package = ("nnunet_igtv", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    for module in imported(path):
        parts = module.split(".")
        if parts[0] == "nnunet_igtv" and len(parts) > 1 and parts[1] != "__version__":
            yield parts[1]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_below_it(room):
    assert sources(room), f"{room} has no source files"
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {other}"
        for path in sources(room)
        for other in rooms_imported(path)
        if other != room and other not in MAY_IMPORT[room]
    }
    assert not wrong


@pytest.mark.parametrize("room", NO_NETWORKS)
def test_rooms_of_data_import_no_torch(room):
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in sources(room)
        for module in imported(path)
        if module.split(".")[0] == "torch"
    }
    assert not wrong


def test_every_folder_of_the_package_has_its_rule():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {"nnunet_ext"}
    assert rooms <= set(MAY_IMPORT)


def test_the_rule_sees_imports_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    file = tmp_path / "ops" / "a.py"
    file.parent.mkdir()
    lines = ["from nnunet_igtv.weights import x", "from ..plans import y", "from .. import trainers"]
    file.write_text("def f():\n    " + "\n    ".join(lines))
    assert set(rooms_imported(file)) >= {"weights", "plans", "trainers"}
