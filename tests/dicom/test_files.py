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
