"""The layout: imports run one way, words of the command line stay in `commands/`, files stay short."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nnunet_igtv"

# room -> the rooms of this package that it may import, itself apart; lower rooms first
MAY_IMPORT = {
    "errors": set(),
    "settings": set(),
    "atomic": {"errors"},
    "workspace": {"atomic", "errors"},
    "tables": {"errors"},
    "channels": {"errors"},
    "folds": {"channels"},
    "environment": {"errors"},
    "devices": {"errors"},
    "image_files": {"errors"},
    "nifti_header": {"errors"},
    "grids": {"errors", "image_files", "nifti_header"},
    "ops": set(),
    "dicom": {"errors", "grids"},
    "suv": {"dicom", "errors"},
    "structures": {"dicom", "errors", "grids"},
    "studies": {"dicom", "errors", "grids", "settings", "structures", "suv"},
    "export": {"atomic", "dicom", "errors", "grids", "structures", "studies"},
    "phantom": {"atomic", "errors", "export", "grids"},
    "dataset_conversion": {
        "atomic",
        "channels",
        "dicom",
        "environment",
        "errors",
        "folds",
        "grids",
        "nifti_header",
        "settings",
        "structures",
        "studies",
        "tables",
    },
    "evaluation": {"atomic", "errors", "grids", "tables"},
    "architectures": {"errors", "ops"},
    "weights": {"architectures", "atomic", "channels", "errors"},
    "plans": {"architectures", "errors"},
    "trainers": {
        "architectures",
        "atomic",
        "channels",
        "devices",
        "environment",
        "errors",
        "folds",
        "plans",
        "weights",
    },
    "nnunet_ext": {"trainers"},
    "prediction": {
        "channels",
        "dataset_conversion",
        "devices",
        "dicom",
        "environment",
        "errors",
        "grids",
        "structures",
        "studies",
        "weights",
    },
}
TOP = {"commands", "__init__", "__main__", "cli"}  # they import anything, and nothing imports them
# what must not import torch, neither at once nor inside a function
NO_NETWORKS = (
    "dicom",
    "suv",
    "structures",
    "studies",
    "dataset_conversion",
    "export",
    "phantom",
    "evaluation",
    "errors",
    "settings",
    "image_files",
    "nifti_header",
    "folds",
    "grids",
)
LONGEST = 400  # lines of a file
LARGEST = 0.18  # of all lines: a room
# foreign checkpoints hold this class as data
ARGPARSE_AS_DATA = "weights/reading.py"


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


def test_the_rules_go_downward_only():
    order = list(MAY_IMPORT)
    for room, below in MAY_IMPORT.items():
        assert below <= set(order[: order.index(room)]), room


@pytest.mark.parametrize("room", NO_NETWORKS)
def test_rooms_of_data_import_no_torch(room):
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in sources(room)
        for module in imported(path)
        if module.split(".")[0] == "torch"
    }
    assert not wrong


def test_every_room_of_the_package_has_its_rule():
    rooms = {path.parent.name for path in PACKAGE.glob("*/*.py")} | {f.stem for f in PACKAGE.glob("*.py")}
    assert rooms == set(MAY_IMPORT) | TOP


def test_the_rule_sees_imports_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    file = tmp_path / "ops" / "a.py"
    file.parent.mkdir()
    lines = ["from nnunet_igtv.weights import x", "from ..plans import y", "from .. import trainers"]
    file.write_text("def f():\n    " + "\n    ".join(lines))
    assert set(rooms_imported(file)) >= {"weights", "plans", "trainers"}


# -------------------------------------------------------------------------------------- command-line words


def below_the_commands():
    return [path for room in MAY_IMPORT for path in sources(room)]


def our_options():
    """Every option of our own commands that does not belong to nnU-Net or torchrun too."""
    import argparse
    from importlib import import_module

    from nnunet_igtv.commands.main import COMMANDS

    options, parsers = (
        set(),
        [import_module(f"nnunet_igtv.commands.{module}").parser() for module, _ in COMMANDS.values()],
    )
    for parser in parsers:
        for action in parser._actions:
            options |= {o for o in action.option_strings if o.startswith("--")}
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    nnunets = {"--c", "--val", "--val_best", "--npz", "--disable_checkpointing", "--disable_tta", "--help"}
    return options - nnunets


def test_no_file_below_the_commands_prints_or_parses_arguments():
    wrong = []
    for path in below_the_commands():
        name = str(path.relative_to(PACKAGE))
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        if any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls):
            wrong.append(f"{name} prints")
        if "argparse" in imported(path) and name != ARGPARSE_AS_DATA:
            wrong.append(f"{name} imports argparse")
    assert not wrong


def test_no_text_below_the_commands_names_an_option_of_ours():
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(o)}(?![\w-])" for o in our_options()))
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} says {found[0]}"
        for path in below_the_commands()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if (found := pattern.search(node.value))
    ]
    assert not wrong
    assert pattern.search("give --structure or --weight")


# -------------------------------------------------------------------------------------- size


def test_no_file_is_longer_than_a_reader_likes():
    lengths = {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_no_room_is_larger_than_a_reader_can_hold():
    def lines(files):
        return sum(len(file.read_text().splitlines()) for file in files)

    total = lines(PACKAGE.rglob("*.py"))
    sizes = {room: lines(sources(room)) / total for room in [*MAY_IMPORT, "commands"]}
    assert not {room: round(size, 3) for room, size in sizes.items() if size > LARGEST}
