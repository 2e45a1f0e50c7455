"""A final name means a complete file, whatever happens while it is written."""

import os
import stat

import pytest

from bayes1bit.errors import InputError
from bayes1bit.files import complete_or_absent


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_complete_block_gives_the_file_its_name(tmp_path):
    path = tmp_path / "result.txt"
    with complete_or_absent(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path) == ["result.txt"]


def test_an_old_file_is_replaced_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with complete_or_absent(str(path)) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failed_block_leaves_everything_as_it_was(tmp_path, error, old):
    path = tmp_path / "result.txt"
    if old is not None:
        path.write_text(old)

    def fail():
        with complete_or_absent(path) as temporary:
            temporary.write_text("half of i")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == ([] if old is None else ["result.txt"])
    if old is not None:
        assert path.read_text() == old


def test_temporary_file_lies_in_the_same_folder_with_the_same_suffix(tmp_path):
    with complete_or_absent(tmp_path / "picture.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        # hidden, so that a pattern such as *.png does not find it
        assert temporary.name.startswith(".")


def test_two_writers_of_one_name_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "result.txt"
    with complete_or_absent(path) as first, complete_or_absent(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["result.txt"]


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "result.txt"
    with complete_or_absent(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, expected):
    before = os.umask(umask)
    try:
        with complete_or_absent(tmp_path / "result.txt") as temporary:
            temporary.write_text("new")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == expected


def test_refuses_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot write .*result\.txt"),
        complete_or_absent(tmp_path / "file" / "result.txt"),
    ):
        pass


def test_refuses_the_name_of_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(InputError, match="it is a folder"),
        complete_or_absent(tmp_path / "folder"),
    ):
        pass
    assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_refuses_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with (
            pytest.raises(InputError, match="cannot write"),
            complete_or_absent(tmp_path / "result.txt"),
        ):
            pass
    finally:
        tmp_path.chmod(0o700)
