"""What a user installs: the wheel and the source archive hold all that the package needs, and one version."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from nnunet_igtv import __version__

ROOT = Path(__file__).parents[1]
REPORT = {
    f"evaluation/{name}"
    for name in ("report.css", "report.js", "contours.js", "report.html.jinja", "plots.html.jinja")
}
DATA = {"__init__.pyi", "py.typed"} | REPORT


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_every_file_of_the_package(built):
    (path,) = built.glob("*.whl")
    assert path.name == f"nnunet_igtv-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"nnunet_igtv-{__version__}.dist-info/METADATA").decode()
    package = ROOT / "nnunet_igtv"
    files = {
        str(p.relative_to(ROOT)) for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert {f"nnunet_igtv/{name}" for name in DATA} <= files
    assert files <= names
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nProject-URL: " in metadata
    assert not any(name.startswith(("tests", "docs")) for name in names)


def test_the_source_archive_holds_tests_documentation_and_tools(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "Makefile"}
    wanted |= {"constraints.txt", ".pre-commit-config.yaml", "pyproject.toml", "docs/api.md"}
    wanted |= {"examples/from_python.py", "tests/conftest.py", *(f"nnunet_igtv/{name}" for name in DATA)}
    assert wanted <= names
    assert not any(name.startswith((".venv", "demo/", "dist/")) for name in names)
