"""A file that the system refuses to read is not called damaged, by any reader."""

import errno
import json

import pytest

from nnunet_igtv.dicom.files import read_header
from nnunet_igtv.errors import IGTVError, blamed
from nnunet_igtv.studies.grouping import index_file
from nnunet_igtv.tables import read_lines, read_table
from nnunet_igtv.weights.description import read_json
from nnunet_igtv.weights.pickled import check_pickle
from nnunet_igtv.weights.reading import load_checkpoint

DAMAGED = IGTVError("damaged", file="x", remedy="export it again")


def test_only_the_systems_errors_are_blamed_on_the_system():
    assert blamed(ValueError("no"), DAMAGED) is DAMAGED
    assert blamed(OSError("broken data stream"), DAMAGED) is DAMAGED  # of a decoder: no number
    refused = blamed(PermissionError(errno.EACCES, "Permission denied"), DAMAGED)
    assert refused.what == "cannot be read (Permission denied)"
    assert refused.file == "x"
    assert "export" not in refused.remedy
    with pytest.raises(OSError, match="Too many"):
        blamed(OSError(errno.EMFILE, "Too many open files"), DAMAGED)


READERS = (
    read_header,
    index_file,
    load_checkpoint,
    check_pickle,
    read_json,
    lambda path: read_table(path, "the table"),
    lambda path: read_lines(path, "the list"),
)


@pytest.mark.parametrize("read", READERS)
def test_a_reader_names_the_systems_reason(read, tmp_path, monkeypatch):
    path = tmp_path / "file.dcm"
    path.write_text(json.dumps({}))

    def refuse(code, text):
        def opened(*_, **__):
            raise OSError(code, text, str(path))

        monkeypatch.setattr("builtins.open", opened)
        monkeypatch.setattr("io.open", opened)

    refuse(errno.EACCES, "Permission denied")
    if read is index_file:  # one file of many: the others are read
        assert "Permission denied" in read(path).error.what
    else:
        with pytest.raises(IGTVError, match="Permission denied"):
            read(path)
    refuse(errno.EMFILE, "Too many open files")
    with pytest.raises(OSError, match="Too many open files"):
        read(path)
