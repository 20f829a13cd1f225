"""Only a plain file is opened, and nothing waits for the other end of a pipe."""

import os
from pathlib import Path

import pytest

from swarm.errors import BadConfig
from swarm.training.data.disk import open_regular


def test_a_plain_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"x"
    with open_regular(tmp_path / "link", follow=True) as file:
        assert file.read() == b"x"


@pytest.mark.parametrize("follow", [False, True])
def test_nothing_else_is(tmp_path: Path, follow: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "to-pipe").symlink_to("pipe")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "broken", tmp_path / "to-pipe",
                 tmp_path / "gone", Path("/dev/zero")):  # fmt: skip
        with pytest.raises(BadConfig, match=path.name) as caught:
            open_regular(path, follow=follow)
        assert caught.value.hint
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after == before


def test_a_link_is_called_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadConfig, match="it is a link"):
        open_regular(tmp_path / "link")
