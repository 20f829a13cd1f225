"""A key is made once, kept private, refused when unsafe or broken, and held by one process at a time."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.errors import BadIdentity
from swarm.host import identity
from swarm.host.identity import load_identity, lock_home


@pytest.mark.rule("H14")
def test_a_key_is_made_on_first_use_and_found_again(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    first = load_identity(home)
    assert load_identity(home) == first
    assert (home / "identity.key").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in home.iterdir()} == {"identity.key", "identity.unused"}
    assert int((home / "identity.unused").read_text()) == home.stat().st_ino


@pytest.mark.rule("H14", "S21")
def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    load_identity(tmp_path)
    (tmp_path / "identity.key").chmod(0o644)
    with pytest.raises(BadIdentity, match="other users") as caught:
        load_identity(tmp_path)
    assert "chmod 600" in caught.value.hint


@pytest.mark.rule("H14", "S21")
@pytest.mark.parametrize("text", [b"", b"zz" * 32, b"00" * 31, b"00" * 33, b"\xff" * 64])
def test_a_damaged_key_is_refused_and_left_alone(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(BadIdentity, match="does not hold a key"):
        load_identity(tmp_path)
    assert path.read_bytes() == text


@pytest.mark.rule("H14", "S21")
def test_a_key_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "identity.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadIdentity, match="is a link") as caught:
        load_identity(tmp_path)
    assert "cp --remove-destination" in caught.value.hint


@pytest.mark.rule("H14", "S21")
def test_a_disk_that_keeps_no_modes_is_refused_before_a_key_is_made_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows' disks under WSL show 0777 for every file, and chmod changes nothing there."""
    load_identity(tmp_path / "made")
    monkeypatch.setattr(identity, "_mode_of", lambda _: 0o777)
    for home in (tmp_path / "made", tmp_path / "new"):
        with pytest.raises(BadIdentity, match="keeps no modes") as caught:
            load_identity(home)
        assert "--home DIR on a disk of Linux" in caught.value.hint
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.rule("H14", "C12")
def test_a_key_is_made_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert load_identity(tmp_path) == load_identity(tmp_path)
    assert (tmp_path / "identity.key").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"identity.key", "identity.unused"}


@pytest.mark.rule("H14")
def test_a_home_is_held_by_one_process_and_freed_when_it_dies(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom swarm.host.identity import lock_home\n"
        "with lock_home(pathlib.Path(sys.argv[1])):\n print('held', flush=True)\n sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(BadIdentity, match=f"already in use by pid {holder.pid}"),
            lock_home(tmp_path),
        ):
            pass
        holder.kill()
    with lock_home(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
