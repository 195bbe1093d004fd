"""The documentation and the project's files say what is so: paths, command lines, code, and tools."""

import re
import shlex
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from nnunet_igtv.commands.main import COMMANDS, main
from nnunet_igtv.dataset_conversion.sources import SOURCES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PLACES = ("", "nnunet_igtv", "docs")  # where a path in the text may begin
PATH = re.compile(r"`((?:[\w.-]+/)*[\w.-]+(?:/|\.(?:py|pyi|md|css|jinja|js|toml|cff|yaml|sh|txt)))`")


def text_of(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_the_map_names_exists(page):
    named = set(PATH.findall(text_of(ROOT / page)))
    assert len(named) >= 15
    not_here = {"nnunet_igtv/dataset_conversion/sources/mydata.py"}  # of the example
    missing = {path for path in named if not any((ROOT / place / path).exists() for place in PLACES)}
    assert missing <= not_here


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text_of(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


TABLE = re.compile(r"<!-- table: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)


def test_tables_of_comparisons_are_those_that_were_run():
    """experiments/scripts/readme.py puts them there."""
    tables = [found for page in PAGES for found in TABLE.findall(text_of(page))]
    assert len(tables) >= 2
    for results, table in tables:
        assert table.strip() == text_of(ROOT / results / "short.md").strip()


def code_blocks(page):
    return re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)


def guides_source():
    """The source that CONTRIBUTING.md writes as an example."""
    program = next(block for block in code_blocks(ROOT / "CONTRIBUTING.md") if "SOURCE = Source(" in block)
    module = ModuleType("mydata_of_the_guide")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(program, vars(module))
    return module.SOURCE


# ---------------------------------------------------------------------------------------- command lines


def command_lines():
    """Every line of a code block that calls `nnunet-igtv`, without comments and what follows a pipe."""
    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", text_of(page))
        for line in text.splitlines():
            line = line.strip()
            if line.startswith("nnunet-igtv "):
                yield page.name, line
            yield from ((page.name, found) for found in re.findall(r"\$\((nnunet-igtv [^)]+)\)", line))
            yield from ((page.name, found) for found in re.findall(r"`(nnunet-igtv [^`]+)`", line))


def words_of(line):
    """The arguments of a command line; what is optional is written `[--x]` and is given here."""
    line = re.split(r"\s#\s|[|;>]", line)[0]
    line = re.sub(r"[\[\]]", " ", line).replace("…", " ").replace(" N ", " 1 ")
    line = line.replace("train|test", "train").replace(" ID ", " 501 ").replace(" SOURCE ", " lucid ")
    return shlex.split(line)[1:]


LINES = sorted(set(command_lines()))


def test_the_documentation_has_every_command():
    assert {words_of(line)[0] for _, line in LINES} >= set(COMMANDS)


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda text: text)
def test_every_documented_command_line_is_understood(page, line, capsys, monkeypatch):
    name, *words = words_of(line)
    monkeypatch.setitem(SOURCES, "mydata", guides_source())
    parser = import_module(f"nnunet_igtv.commands.{COMMANDS[name][0]}").parser()
    if not words:  # only the command's name, in a sentence
        return
    with suppress(SystemExit):
        parser.parse_args(words)
        return
    said = capsys.readouterr().err
    in_a_sentence = re.search(r"the following arguments are required", said) and f"`{line}`" in text_of(
        next(p for p in PAGES if p.name == page)
    )
    assert in_a_sentence, said


# ----------------------------------------------------------------------------------------------- examples


def test_the_source_in_contributing_converts_studies(tmp_path, monkeypatch, raw, read):
    """The example as it stands, listed and used through the command line."""
    monkeypatch.setitem(SOURCES, "mydata", guides_source())
    rng = np.random.default_rng(0)
    for study in ("one", "two", "three"):
        (tmp_path / "cohort" / study).mkdir(parents=True)
        label = np.zeros((6, 20, 20), np.uint8)
        label[2:4, 8:12, 8:12] = 1
        images = {
            "CT": rng.integers(-900, 200, label.shape),
            "PET": rng.random(label.shape) * 5,
            "gtv": label,
        }
        for name, voxels in images.items():
            kind = np.uint8 if name == "gtv" else np.float32
            sitk.WriteImage(
                sitk.GetImageFromArray(voxels.astype(kind)),
                str(tmp_path / "cohort" / study / f"{name}.nii.gz"),
            )
    (tmp_path / "cohort" / "two" / "CT.nii.gz").unlink()
    arguments = [str(tmp_path / "cohort"), "-d", "510", "-j", "1", "--mask", "gtv"]
    assert main(["convert", "mydata", *arguments]) == 1  # the study without a CT is refused
    labels = sorted((raw / "Dataset510_GTV" / "labelsTr").iterdir())
    assert len(labels) == 2
    assert read(labels[0]).sum() == 2 * 4 * 4


def test_the_trainer_in_contributing_is_a_variant():
    block = next(b for b in code_blocks(ROOT / "CONTRIBUTING.md") if "IGTVTransferTrainer_50epochs" in b)
    names = {}
    exec(block, names)
    assert names["IGTVTransferTrainer_50epochs"].epochs == 50


# -------------------------------------------------------------------------------------- the project's files


def test_the_hooks_are_the_checks_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]  # nothing is downloaded
    checks = {hook["id"]: hook["entry"].removesuffix(" --force-exclude") for hook in hooks[0]["hooks"]}
    wanted = re.search(r"^test: (.*)$", makefile, re.MULTILINE)[1].split()
    assert list(checks) == wanted
    for target, entry in checks.items():
        command = re.search(rf"^{target}: install\n\t(.*)$", makefile, re.MULTILINE)[1]
        assert command.replace("$(BIN)", ".venv/bin").removesuffix(" .") == entry


def test_the_citation_names_the_three_papers_of_the_readme():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    papers = [citation["preferred-citation"], *citation["references"]]
    readme = text_of(ROOT / "README.md")
    numbers = {i["value"] for paper in papers for i in paper.get("identifiers", [])}
    assert numbers == {"arXiv:2509.22841", "arXiv:2503.17261"}
    assert all(number in readme for number in numbers)
    for paper in papers:
        assert all(author["family-names"] in readme for author in paper["authors"]), paper["title"]
