"""A medium that cannot be written is read, a disk that is full is a state, and both are said in a sentence.

The disks are real ones, mounted for one process that sees them alone.
"""

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarm.cli.run_node import keep_open
from swarm.errors import DiskFull, Unreachable
from swarm.host.identity import load_identity
from swarm.node.start import Launch, Resume, Start
from swarm.store import STORE_FILE, Store

PATIENCE_S = 60.0
CAN_MOUNT = (
    subprocess.run(
        ["/bin/sh", "-c", "unshare -rm true"], capture_output=True, check=False
    ).returncode
    == 0
)
needs_mounts = pytest.mark.skipif(
    not CAN_MOUNT, reason="this machine lets nobody have mounts of its own"
)
READ = (
    "import sys; from pathlib import Path; from swarm.store import Store; from swarm.errors import UsageError\n"
    "try: print(Store.open_readonly(Path(sys.argv[1])).get('t', b'k'))\n"
    "except UsageError as error: print(error, '|', error.hint)"
)


def mounted(mount: str, command: list[str]) -> tuple[int, str, str]:
    """Run a command after a mount that it sees alone."""
    shell = ["unshare", "-rm", "/bin/sh", "-c", f'{mount} && "$@"', "sh", *command]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def swarm(*args: str) -> list[str]:
    return [sys.executable, "-m", "swarm.cli.main", *args]


def read_only(folder: Path) -> str:
    return f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"


@needs_mounts
@pytest.mark.rule("C12")
def test_a_home_on_a_medium_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    load_identity(home)
    store = Store.open(home / STORE_FILE)
    store.put("t", b"k", b"value")
    store.close()
    before = sorted(path.name for path in home.iterdir())
    read = [sys.executable, "-c", READ, str(home / STORE_FILE)]
    assert mounted(read_only(home), read)[1] == "b'value'\n"
    code, _, err = mounted(read_only(home), swarm("status", "--home", str(home)))
    assert code == 3
    assert "no node is running" in err
    code, out, _ = mounted(read_only(home), swarm("id", "show", "--home", str(home)))
    assert (code, bool(out)) == (0, True)
    assert sorted(path.name for path in home.iterdir()) == before


@needs_mounts
@pytest.mark.rule("C12")
def test_a_log_that_cannot_be_read_there_is_not_passed_over(tmp_path: Path) -> None:
    """The newest blocks lie in it: an answer without them would be an old one."""
    store = Store.open(tmp_path / STORE_FILE)
    store.put("t", b"k", b"value")
    (tmp_path / "copy").mkdir()
    for name in (STORE_FILE, f"{STORE_FILE}-wal"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
    store.close()
    read = [sys.executable, "-c", READ, str(tmp_path / "copy" / STORE_FILE)]
    out = mounted(read_only(tmp_path / "copy"), read)[1]
    assert "did not end in order" in out or out == "b'value'\n"
    assert "None" not in out


@needs_mounts
@pytest.mark.rule("C12", "C13")
def test_a_full_disk_leaves_no_half_of_a_key_and_status_says_it(tmp_path: Path) -> None:
    home, full = tmp_path / "home", tmp_path / "full"
    load_identity(home)
    full.mkdir()
    tiny = f"mount -t tmpfs -o size=64k none {full} && dd if=/dev/zero of={full}/x 2>/dev/null; ls {full}"
    code, out, err = mounted(
        f"{tiny} >/dev/null", swarm("id", "export", f"{full}/key", "--home", str(home))
    )
    assert (code, out) == (1, "")
    assert err.startswith("error: No space left on device")
    assert "try: df -h" in err
    code, _, err = mounted(tiny, swarm("status", "--home", str(full)))
    assert code == 3
    assert "whose disk is full: one that was started there waits for room" in err
    assert f"try: df -h {full}" in err


class Node:
    """Node whose disk is full some time after it has begun, or before."""

    def __init__(self, *, full_at_start: bool) -> None:
        self.starts = list[Start]()
        self.full_at_start = full_at_start
        self.is_back = trio.Event()

    @asynccontextmanager
    async def opened(self, start: Start) -> AsyncGenerator[None]:
        self.starts.append(start)
        error = DiskFull("no room left on the disk of store.sqlite")
        if self.full_at_start:
            raise error
        async with trio.open_nursery() as nursery:
            if len(self.starts) == 1:
                nursery.start_soon(self._fill, error)
            else:
                self.is_back.set()
            yield

    async def _fill(self, error: DiskFull) -> None:
        await trio.lowlevel.checkpoint()
        raise error


@pytest.mark.rule("C13", "S24")
async def test_a_node_whose_disk_was_full_goes_on_by_itself_when_there_is_room() -> None:
    node, waits = Node(full_at_start=False), list[str]()
    made, asked = trio.Event(), trio.Event()

    async def await_room(reason: str) -> None:
        waits.append(reason)
        asked.set()
        await made.wait()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            first = Launch()
            nursery.start_soon(keep_open, node.opened, first, await_room)
            await asked.wait()
            assert len(node.starts) == 1
            made.set()
            await node.is_back.wait()
            nursery.cancel_scope.cancel()
    assert waits == ["no room left on the disk of store.sqlite"]
    assert node.starts == [first, Resume()]


@pytest.mark.rule("C13")
async def test_a_node_that_never_began_for_want_of_room_is_a_failure() -> None:
    async def never(_: str) -> None:
        raise AssertionError

    with pytest.raises(DiskFull):
        await keep_open(Node(full_at_start=True).opened, Resume(), never)


@pytest.mark.rule("C13")
async def test_another_failure_comes_out_as_it_is() -> None:
    @asynccontextmanager
    async def opened(_: Start) -> AsyncGenerator[None]:
        raise BaseExceptionGroup("two", [Unreachable("gone"), DiskFull("full")])
        yield

    async def never(_: str) -> None:
        raise AssertionError

    with pytest.raises(BaseExceptionGroup):
        await keep_open(opened, Resume(), never)
