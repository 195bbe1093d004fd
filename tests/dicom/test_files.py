"""Files under a folder: all of them, or an error for what cannot be listed."""

import os
import shutil

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


def test_links_to_folders_are_followed_and_each_folder_is_taken_once(tmp_path):
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    for folder in (archive / "one", archive / "two", cohort / "three"):
        folder.mkdir(parents=True)
        (folder / "a.dcm").write_bytes(b"a file")
    (cohort / "aaa").symlink_to(cohort / "three")
    (cohort / "one").symlink_to(archive / "one")
    (cohort / "once more").symlink_to(archive / "one")
    (archive / "one" / "next").symlink_to(archive / "two")
    (archive / "two" / "round").symlink_to(cohort)
    found = [str(file.relative_to(cohort)) for file in list_files(cohort)]
    assert found == ["once more/a.dcm", "once more/next/a.dcm", "three/a.dcm"]


def test_what_macos_adds_is_left_out(tmp_path):
    for name in ("CT.nii.gz", "._CT.nii.gz", "__MACOSX/CT.nii.gz", "a/._b/c.dcm", "a/_.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"a file")
    assert [file.name for file in list_files(tmp_path)] == ["CT.nii.gz", "_.dcm"]


@pytest.mark.parametrize("name", ["third.zip", "third.TAR.GZ", "second/CT.dcm.gz"])
def test_a_packed_study_is_named_and_the_others_are_taken(name, cohort, tmp_path):
    shutil.copytree(cohort[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"packed")
    found = list(dicom_rt.collect(tmp_path, dicom_rt.Options(structure="IGTV")))
    [error] = [entry for entry in found if isinstance(entry, IGTVError)]
    assert (error.what, error.file) == ("a packed archive is not read", name)
    assert len(found) == 3
    assert [each["file"] for each in inspect(tmp_path)["unreadable"]] == [name]


def test_a_study_with_a_link_to_nowhere_is_not_converted_without_that_file(tmp_path):
    (study,) = write_cohort("igtv", 1, 3, 32, 8, tmp_path)
    last = sorted((study / "CT").iterdir())[-1]
    last.unlink()
    last.symlink_to("not downloaded")
    [item] = dicom_rt.collect(tmp_path, dicom_rt.Options(structure="IGTV"))
    with pytest.raises(IGTVError, match="No such file"):
        item.load()
