"""The installed nnU-Net is as docs/nnunet.md expects it: signatures here, behaviour in nnunet_checks.

A failure says which part changed, what was expected of it, and which of our files to look at.
"""

import ast
import inspect
import re
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from trainers.nnunet_checks import CHECKS, Lab
from trainers.nnunet_checks.lab import TABLE as TABLE_FILE

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nnunet_igtv"
TABLE = TABLE_FILE.read_text()
TRIED = dict(re.findall(r"(\w+) (\d+\.\d+\.\d+)", TABLE))


class Part(NamedTuple):
    """A row of the table."""

    module: str
    name: str
    signature: str
    expected: str
    used_in: str

    def changed(self, how):
        package = self.module.split(".")[0]
        return (
            f"{package} {version(package)}: {self.name} {how}. Expected, as in {TRIED[package]}: "
            f"{self.expected}. Look at {self.used_in}; then correct docs/nnunet.md"
        )

    @property
    def object(self):
        found = import_module(self.module)
        for word in self.name.split("."):
            found = getattr(found, word)
        return found


def parts():
    places = [*re.finditer(r"^## (\S+)$", TABLE, re.MULTILINE)]
    for heading, following in pairwise([*places, None]):
        section = TABLE[heading.end() : following.start() if following else None]
        for row in re.findall(r"^\| `(\S+)` \| `(.*?)` \| (.*) \| (.*) \|$", section, re.MULTILINE):
            yield Part(heading[1], *row)


PARTS = {part.name: part for part in parts()}


@pytest.fixture
def lab(nnunet_world, monkeypatch, tmp_path):
    return Lab(nnunet_world, monkeypatch, tmp_path)


@pytest.mark.parametrize("part", PARTS.values(), ids=lambda part: part.name)
def test_a_part_has_the_signature_that_we_call_or_override(part):
    try:
        found = f"({', '.join(inspect.signature(part.object).parameters)})"
    except (ImportError, AttributeError) as error:
        pytest.fail(part.changed(f"is gone ({error})"))
    if found != part.signature:
        pytest.fail(part.changed(f"has the signature {found} instead of {part.signature}"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("part", PARTS.values(), ids=lambda part: part.name)
def test_a_part_behaves_as_expected(part, lab):
    try:
        CHECKS[part.name](lab)
    except Exception as error:
        pytest.fail(part.changed(f"behaves differently ({type(error).__name__}: {error})"))


def test_a_change_of_nnunet_is_reported_with_what_was_expected_and_our_file(lab, monkeypatch):
    part = PARTS["nnUNetTrainer.do_split"]
    monkeypatch.setattr(nnUNetTrainer, "do_split", lambda self, by_patient=True: ([], []))
    report = r"nnunetv2 [\d.]+: nnUNetTrainer.do_split {} Expected.*splits_final\.json.*Look at .*split\.py"
    with pytest.raises(pytest.fail.Exception, match=report.format(r"behaves differently .*")):
        test_a_part_behaves_as_expected(part, lab)
    with pytest.raises(pytest.fail.Exception, match=report.format(r"has the signature .self, by_patient.*")):
        test_a_part_has_the_signature_that_we_call_or_override(part)
    monkeypatch.delattr(nnUNetTrainer, "do_split")
    with pytest.raises(pytest.fail.Exception, match=report.format(r"is gone .*")):
        test_a_part_has_the_signature_that_we_call_or_override(part)


def test_every_row_has_a_check_and_every_check_a_row():
    assert set(CHECKS) == set(PARTS)


def test_the_table_names_files_that_exist():
    for part in PARTS.values():
        for name in part.used_in.split(", "):
            assert list(PACKAGE.rglob(name)), f"{part.name}: no file {name}"


# ------------------------------------------------------------------------------------ the table is complete


def imported_names():
    """Every name that the package imports from nnunetv2 or a loader of batchgenerators, also in a string."""
    pattern = re.compile(r"from ((?:nnunetv2|batchgenerators)\.[\w.]+) import ([\w, ]+)")
    for path in PACKAGE.rglob("*.py"):
        for _, names in pattern.findall(path.read_text()):
            yield from ((path.name, name.strip()) for name in names.split(","))


def members_used():
    """Every attribute of nnU-Net's trainer that the package's trainers use or override."""
    known = set(re.findall(r"self\.(\w+)", inspect.getsource(nnUNetTrainer))) | set(vars(nnUNetTrainer))
    for path in (PACKAGE / "trainers").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name in known:
                yield path.name, node.name
            if isinstance(node, ast.Attribute) and node.attr in known:
                owner = node.value
                called = isinstance(owner, ast.Call) and getattr(owner.func, "id", "") == "super"
                if called or (isinstance(owner, ast.Name) and owner.id in ("self", "trainer")):
                    yield path.name, node.attr


def test_every_import_from_nnunet_has_a_row():
    found = list(imported_names())
    assert len(found) > 15
    names = {part.name.split(".")[0] for part in PARTS.values()}
    assert not {(file, name) for file, name in found if name not in names}


def test_every_member_of_nnunets_trainer_that_is_used_has_a_row_or_is_named_in_one():
    rows = [part for part in PARTS.values() if part.name.startswith("nnUNetTrainer.")]
    named = {word for part in rows for word in re.findall(r"`(\w+)`", part.expected)}
    named |= {part.name.split(".")[1] for part in rows}
    used = set(members_used())
    assert {name for _, name in used} >= {"initialize", "do_split", "network", "_best_ema"}
    assert not {(file, name) for file, name in used if name not in named}
