"""Do the phantom's files hold what the DICOM standard requires of their kind?"""

import shutil
import subprocess

import pytest
from pydicom import dcmread

from nnunet_igtv.phantom.cohort import write_cohort

PARTS = ("CT", "PET", "RTSTRUCT")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    return [next(iter(write_cohort(kind, 1, 0, 32, 12, folder))) for kind in ("gtv", "igtv")]


@pytest.mark.parametrize("part", PARTS)
def test_required_attributes_of_every_mandatory_module(studies, part):
    """Types 1 and 2 at all levels, by the tables of the standard that highdicom carries."""
    standard = pytest.importorskip("highdicom._standard_utils")
    for study in studies:
        for path in (study / part).iterdir():
            dataset = dcmread(path)
            iod = standard.get_sop_class_iod_map()[dataset.SOPClassUID]
            modules = [m["key"] for m in standard.get_iod_module_map()[iod] if m["usage"] == "M"]
            assert len(modules) >= 6
            for module in modules:
                standard.check_required_attributes(dataset, module)


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed"
)
@pytest.mark.parametrize("part", PARTS)
def test_dciodvfy_finds_nothing(studies, part):
    for study in studies:
        path = sorted((study / part).iterdir())[0]
        report = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr
        assert "Error" not in report
        assert "Warning" not in report
