"""A file for a person is whole or not there, and a secret is nobody else's at any moment."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from swarm.files import give_name, write_whole


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.rule("C12")
def test_a_secret_has_its_mode_and_an_old_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_whole(path, b"new", is_secret=True)
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o600)
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.rule("C12")
@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_that_is_taken_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    """Also where the file system has no hard links, such as exFAT."""
    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    write_whole(tmp_path / "a", b"first", replaces=False)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a", b"second", replaces=False)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.rule("C12")
@pytest.mark.parametrize("has_links", [True, False])
def test_of_two_that_write_one_name_at_once_one_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    won, start = list[int](), threading.Barrier(8)

    def take(number: int) -> None:
        draft = tmp_path / f"draft{number}"
        draft.write_bytes(b"%d" % number)
        start.wait()
        try:
            give_name(draft, tmp_path / "name")
        except FileExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (tmp_path / "name").read_bytes() == b"%d" % won[0]


@pytest.mark.rule("C12")
def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.rule("C12")
def test_a_link_is_replaced_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    """A link in a folder of others must not choose the file that a secret goes into."""
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", b"new", is_secret=True)
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "link").is_symlink()
    write_whole(Path("/dev/null"), b"gone")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path, b"new")
