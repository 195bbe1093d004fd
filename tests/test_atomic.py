import os
import stat

import pytest

from nnunet_igtv.atomic import is_free, place, write_text, written_whole


def test_a_file_takes_its_place_when_it_is_complete_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")
    with written_whole(path) as beside:
        beside.write_text("after")
        assert path.read_text() == "before"
    assert [(entry, entry.read_text()) for entry in tmp_path.iterdir()] == [(path, "after")]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def write():
        with written_whole(path) as beside:
            beside.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert [(entry, entry.read_text()) for entry in tmp_path.iterdir()] == [(path, "before")]


def test_what_a_killed_run_left_is_gone_with_the_next_also_where_its_permissions_were_wider(tmp_path):
    path, left = tmp_path / "secret.csv", tmp_path / ".secret.csv.partial"
    left.write_text("half")
    left.chmod(0o644)
    write_text(path, "räume\r\n", mode=0o600)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ["räume\r\n".encode()]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_names_that_are_not_utf8_are_written_as_escapes(tmp_path):
    write_text(tmp_path / "table.csv", os.fsdecode(b"Andr\xe9"))
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == r"Andr\udce9"


def test_a_journal_gives_away_the_files_that_it_placed_and_no_others(tmp_path):
    output, unfinished, journal = (tmp_path / name for name in ("x", ".x.partial", ".x.journal"))
    for mine in (False, True):
        unfinished.write_text("of a killed run")
        place({unfinished: output}, journal)
        if mine:
            output.unlink()
            output.write_text("mine")
        assert is_free(output) is not mine
        assert not journal.exists()
    assert output.read_text() == "mine"
    journal.write_text("damaged")
    assert not is_free(output)
    assert list(tmp_path.iterdir()) == [output]
