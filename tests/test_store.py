"""What the store says it wrote is there after a crash, and damage is named, never used."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.errors import Corrupt, DiskFull, UsageError
from swarm.store import Store, key_of

WRITER = """
import sys
from pathlib import Path
from swarm.store import Store, key_of
store = Store.open(Path(sys.argv[1]))
number = 0
while True:
    store.write([("left", key_of(number), b"x" * 100), ("right", key_of(number), b"y" * 100)])
    print(number, flush=True)
    number += 1
"""


def test_values_are_there_after_reopening(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    store.put("votes", b"key", b"value")
    store.close()
    again = Store.open(tmp_path / "store.sqlite")
    assert again.get("votes", b"key") == b"value"
    assert again.get("votes", b"other") is None
    assert again.get("never_made", b"key") is None
    again.delete("votes", b"key")
    assert again.get("votes", b"key") is None
    again.close()


def test_items_come_in_order_of_their_keys(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    store.write([("blocks", key_of(height), b"%d" % height) for height in (300, 2, 70_000, 1)])
    heights = [int.from_bytes(key, "big") for key, _ in store.items("blocks", limit=10)]
    assert heights == [1, 2, 300, 70_000]
    assert store.items("blocks", after=key_of(2), limit=1) == [(key_of(300), b"300")]
    assert store.last("blocks", limit=2) == [(key_of(70_000), b"70000"), (key_of(300), b"300")]
    assert store.count("blocks") == 4
    assert store.items("empty", limit=5) == []
    store.close()


def test_a_write_is_all_or_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    store.put("votes", b"a", b"1")
    broken: list[tuple[str, bytes, bytes | None]] = [("votes", b"a", b"2"), ("fresh", b"b", b"3")]
    with pytest.raises(UsageError):
        store.write([*broken, ("Bad Name", b"c", b"4")])
    with pytest.raises(UsageError):
        store.write([*broken, ("votes", b"", b"an empty key")])
    store._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(UsageError):
        store.write(broken)
    store._connection.execute("PRAGMA query_only = 0")
    assert store.get("votes", b"a") == b"1"
    assert store.get("fresh", b"b") is None
    store.write(broken)
    assert store.get("fresh", b"b") == b"3"
    store.close()


@pytest.mark.rule("S24")
def test_a_damaged_file_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = Store.open(path)
    store.write([("blocks", key_of(i), os.urandom(500)) for i in range(200)])
    store.close()
    healthy = path.read_bytes()
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(Corrupt) as caught:
        Store.open(path)
    assert "damaged" in str(caught.value)
    assert caught.value.hint.startswith("mv ")
    path.write_bytes(healthy[:4096] + b"\xff" * 8192 + healthy[12288:])
    with pytest.raises(Corrupt):
        Store.open(path)
    assert path.exists(), "what is damaged is left for its owner to look at"


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.sqlite"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE photos (name TEXT)")
    foreign.close()
    with pytest.raises(Corrupt):
        Store.open(path)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    Store.open(path).close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(Corrupt, match="newer version"):
        Store.open(path)


def test_a_reader_sees_what_the_writer_has_written(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with pytest.raises(UsageError, match="no node has run"):
        Store.open_readonly(path)
    writer = Store.open(path)
    writer.put("blocks", key_of(1), b"first")
    reader = Store.open_readonly(path)
    assert reader.get("blocks", key_of(1)) == b"first"
    writer.put("blocks", key_of(2), b"second")
    assert reader.get("blocks", key_of(2)) == b"second"
    with pytest.raises(UsageError, match="reading only"):
        reader.put("blocks", key_of(3), b"third")
    reader.close()
    writer.close()
    after = Store.open_readonly(path)
    assert after.count("blocks") == 2
    after.close()


@pytest.mark.rule("S24")
def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    store.put("blocks", key_of(0), b"kept")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(DiskFull):
        store.write([("blocks", key_of(i), bytes(4000)) for i in range(1, 20)])
    assert store.count("blocks") == 1
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.put("blocks", key_of(1), b"there is room again")
    assert store.count("blocks") == 2
    store.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    store.close()
    store.close()
    with pytest.raises(UsageError, match="closed"):
        store.get("votes", b"key")


def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    Store.open(path).close()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.rule("S24")
async def test_write_soon_is_durable_when_it_returns(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    await store.write_soon([("votes", b"a", b"1")])
    reader = Store.open_readonly(tmp_path / "store.sqlite")
    assert reader.get("votes", b"a") == b"1"
    reader.close()
    store.close()


@pytest.mark.rule("S24")
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = -1
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged >= 30:
            break
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split("\n")[:-1]
    process.wait()
    process.stdout.close()
    acknowledged = max(acknowledged, *(int(line) for line in rest), -1)
    store = Store.open(path)
    left, right = store.count("left"), store.count("right")
    assert left == right >= acknowledged + 1
    store.close()
