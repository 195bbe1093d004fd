"""Files under a folder: all of them, or an error for what cannot be listed."""

import os

import pytest

from nnunet_igtv.dataset_conversion.sources import dicom_rt
from nnunet_igtv.dicom.files import find_files, list_files
from nnunet_igtv.errors import IGTVError
from nnunet_igtv.phantom.cohort import write_cohort
from nnunet_igtv.studies.inventory import inspect


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return folder, sorted(write_cohort("igtv", 2, 3, 32, 8, folder))


@pytest.fixture
def closed(cohort, monkeypatch):
    """A patient's folder that cannot be listed; permissions do not bind everybody who runs the tests."""
    scandir, folder = os.scandir, cohort[1][0]

    def refusing(path="."):
        if os.fspath(path) == os.fspath(folder):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return folder


def test_a_folder_that_cannot_be_listed_is_an_error_and_the_rest_is_found(cohort, closed):
    root, (_, other) = cohort
    files, [error] = find_files(root)
    assert {file.relative_to(root).parts[0] for file in files} == {other.name}
    assert error.file == str(closed)
    with pytest.raises(IGTVError, match="Permission denied"):
        list_files(root)


def test_a_batch_names_it_and_takes_the_other_studies(cohort, closed):
    found = list(dicom_rt.collect(cohort[0], dicom_rt.Options(structure="IGTV")))
    [error] = [entry for entry in found if isinstance(entry, IGTVError)]
    assert "Permission denied" in str(error)
    assert len(found) == 2
    unreadable = inspect(cohort[0])["unreadable"]
    assert [entry["reason"] for entry in unreadable] == ["cannot be read (Permission denied)"]


def test_a_link_to_nowhere_is_an_error_and_a_hidden_one_is_none(tmp_path):
    (tmp_path / "here.dcm").write_bytes(b"a file")
    (tmp_path / "elsewhere.dcm").symlink_to("not downloaded")
    (tmp_path / "loop.dcm").symlink_to("loop.dcm")
    (tmp_path / ".#lock").symlink_to("somebody@host:17")
    files, errors = find_files(tmp_path)
    assert [file.name for file in files] == ["here.dcm"]
    assert [os.path.basename(error.file) for error in errors] == ["elsewhere.dcm", "loop.dcm"]


def test_a_study_with_a_link_to_nowhere_is_not_converted_without_that_file(tmp_path):
    (study,) = write_cohort("igtv", 1, 3, 32, 8, tmp_path)
    last = sorted((study / "CT").iterdir())[-1]
    last.unlink()
    last.symlink_to("not downloaded")
    [item] = dicom_rt.collect(tmp_path, dicom_rt.Options(structure="IGTV"))
    with pytest.raises(IGTVError, match="No such file"):
        item.load()
