"""Keep what must survive a crash: one sqlite file per node, with sorted tables of bytes.

Shell: the only user of sqlite3. Writes are all or nothing, and on the disk when they return.

A table is a sorted map from key to value. The node is the only writer of its file (its home is locked); the
command line may open the same file for reading while the node runs.
"""

import re
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from swarm.errors import Corrupt, DiskFull, UsageError
from swarm.machine import is_read_only

STORE_FILE = "store.sqlite"
"""Name of the file in the home of a node."""
ITEMS_MAX = 10_000
"""Most pairs that one read returns: a caller that wants more pages with ``after``."""
KEY_BYTES_MAX = 1024
"""Bytes of the longest key: four hashes and some words, far more than any package needs."""
VALUE_BYTES_MAX = 64 << 20
"""Bytes of the longest value, a state snapshot; tensors and blobs live in files of their own."""
BUSY_TIMEOUT_MS = 5_000
"""Milliseconds that a reader or writer waits for the other: a checkpoint of the log takes a few."""
_APPLICATION_ID = (
    0x7377726D  # "swrm" in the file header, so that no other database is taken for ours
)
_FORMAT = 1
_TABLE = re.compile(r"[a-z_]{1,30}")

Change = tuple[str, bytes, bytes | None]
"""(table, key, value): put the value, or delete the key if it is None."""


def key_of(number: int) -> bytes:
    """Return a height or index as a key of 8 bytes that sorts as the number does."""
    return number.to_bytes(8, "big")


class Store:
    """Sorted tables of bytes in one sqlite file.

    Calls take microseconds to a few milliseconds and may come from any thread, one at a time; use
    ``write_soon`` where the event loop must not wait for the disk.

    Raises, from every method: ``Corrupt`` if the file is damaged, ``DiskFull`` if there is no room.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, readonly: bool) -> None:
        self.path = path
        self.readonly = readonly
        self._connection = connection
        self._lock = threading.Lock()
        self._tables: set[str] = set()

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open or create the file for reading and writing; raise ``Corrupt`` if it is damaged."""
        with _translated(path):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        path.chmod(0o600)
        return cls(path, connection, readonly=False)

    @classmethod
    def open_readonly(cls, path: Path) -> "Store":
        """Open an existing file for reading, also while a node writes to it.

        Raises ``UsageError`` if there is no such file: no node has run in this home yet.
        """
        if not path.is_file():
            raise UsageError(
                f"no node has run in {path.parent} yet", hint="swarm launch, or swarm join TICKET"
            )
        with _translated(path):
            try:
                connection = _connect_readonly(path, "mode=ro")
            except sqlite3.OperationalError:
                if not is_read_only(path):
                    raise
                connection = _connect_readonly(path, _immutable(path))
        return cls(path, connection, readonly=True)

    def close(self) -> None:
        """Fold the log into the file and close it; closing twice is no error."""
        with self._lock:
            if not self.readonly:
                with suppress(sqlite3.Error):  # closed already, or open in a reader: the log stays
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the value of ``key``, or None."""
        rows = self._read(table, "SELECT value FROM {} WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set one value, durably."""
        self.write([(table, key, value)])

    def delete(self, table: str, key: bytes) -> None:
        """Remove one key, durably; a missing key is no error."""
        self.write([(table, key, None)])

    def items(self, table: str, *, after: bytes = b"", limit: int) -> list[tuple[bytes, bytes]]:
        """Return at most ``limit`` pairs with keys beyond ``after``, in order of the keys."""
        query = "SELECT key, value FROM {} WHERE key > ? ORDER BY key LIMIT ?"
        return self._read(table, query, (after, min(limit, ITEMS_MAX)))

    def last(self, table: str, *, limit: int = 1) -> list[tuple[bytes, bytes]]:
        """Return at most ``limit`` pairs with the greatest keys, greatest first."""
        query = "SELECT key, value FROM {} ORDER BY key DESC LIMIT ?"
        return self._read(table, query, (min(limit, ITEMS_MAX),))

    def count(self, table: str) -> int:
        """Return the number of keys in a table."""
        rows = self._read(table, "SELECT count(*), 0 FROM {}", ())
        return int(rows[0][0]) if rows else 0

    def delete_below(self, table: str, key: bytes, *, limit: int) -> int:
        """Remove at most ``limit`` of the keys below ``key``, smallest first; return how many it were."""
        if self.readonly:
            raise UsageError(f"{self.path} was opened for reading only")
        name = _quoted(table)
        query = f"DELETE FROM {name} WHERE key IN (SELECT key FROM {name} WHERE key < ? ORDER BY key LIMIT ?)"  # noqa: S608  (name checked)
        if not self.items(table, limit=1):
            return 0
        with self._lock, _translated(self.path):
            return self._connection.execute(query, (key, min(limit, ITEMS_MAX))).rowcount

    def write(self, changes: Sequence[Change]) -> None:
        """Carry out all changes or none; they are on the disk when this returns.

        Raises ``UsageError`` for a bad table name or key, or if the store was opened for reading.
        """
        if self.readonly:
            raise UsageError(f"{self.path} was opened for reading only")
        for table, key, value in changes:
            _check_change(table, key, value)
        with self._lock, _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for table, key, value in changes:
                    self._change(table, key, value)
                self._connection.execute("COMMIT")
            except BaseException:
                self._tables.clear()  # a table made in this transaction goes with it
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._tables.update(table for table, _, _ in changes)

    async def write_soon(self, changes: Sequence[Change]) -> None:
        """Call ``write`` in a worker thread: durable when it returns, even if cancelled meanwhile."""
        await trio.to_thread.run_sync(self.write, changes)

    def _change(self, table: str, key: bytes, value: bytes | None) -> None:
        if table not in self._tables:
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_quoted(table)} (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
            )
        if value is None:
            self._connection.execute(f"DELETE FROM {_quoted(table)} WHERE key = ?", (key,))  # noqa: S608  (name checked)
        else:
            self._connection.execute(
                f"INSERT OR REPLACE INTO {_quoted(table)} VALUES (?, ?)",  # noqa: S608  (name checked)
                (key, value),
            )

    def _read(
        self, table: str, query: str, arguments: tuple[bytes | int, ...]
    ) -> list[tuple[bytes, bytes]]:
        name = _quoted(table)
        with self._lock, _translated(self.path):
            if table not in self._tables:
                found = self._connection.execute(
                    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
                    (name.strip('"'),),
                ).fetchone()
                if not found:
                    return []
                self._tables.add(table)
            return self._connection.execute(query.format(name), arguments).fetchall()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set the file up for durable writes and check it for damage."""
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    fresh = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    if fresh and marked == 0:
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
    _check_header(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, verdict)


def _check_header(connection: sqlite3.Connection, path: Path) -> None:
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if marked != _APPLICATION_ID:
        raise _damaged(path, "it is not a database of this program")
    if version > _FORMAT:
        raise Corrupt(
            f"{path} was written by a newer version (format {version}, this one reads {_FORMAT})",
            hint="pipx upgrade swarm-train",
        )


def _connect_readonly(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        _check_header(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _immutable(path: Path) -> str:
    """Return how to open a file on a medium that cannot be written: without the files that readers share.

    Raises ``UsageError`` if the newest writes are still in the log beside it, which cannot be read then.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise UsageError(
            f"the node of {path.parent} did not end in order, and its newest writes can only be read where"
            " there is room to write",
            hint=f"cp -r {path.parent} COPY, then the same command with --home COPY",
        )
    return "mode=ro&immutable=1"


def _check_change(table: str, key: bytes, value: bytes | None) -> None:
    _quoted(table)
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise UsageError(f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(key)}")
    if value is not None and len(value) > VALUE_BYTES_MAX:
        raise UsageError(f"a value has at most {VALUE_BYTES_MAX} bytes, not {len(value)}")


def _quoted(table: str) -> str:
    """Return the SQL name of a table; raise ``UsageError`` unless it is plain lower case."""
    if not _TABLE.fullmatch(table):
        raise UsageError(f"{table!r} is not a table name: 1 to 30 of a-z and _")
    return f'"kv_{table}"'  # the prefix keeps clear of SQL words and sqlite's own tables


def _damaged(path: Path, detail: object) -> Corrupt:
    return Corrupt(
        f"{path} is damaged: {detail}",
        hint=f"mv {path} {path}.damaged   (then swarm join TICKET syncs it again)",
    )


@contextmanager
def _translated(path: Path) -> Generator[None]:
    """Turn sqlite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise DiskFull(
                f"no room left on the disk of {path}", hint=f"df -h {path.parent}"
            ) from None
        if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
            raise UsageError(
                f"cannot write {path}: {error}", hint=f"ls -ld {path.parent}"
            ) from None
        if code == sqlite3.SQLITE_BUSY:
            raise UsageError(f"{path} is locked by another process", hint=f"fuser {path}") from None
        raise _damaged(path, error) from None
    except sqlite3.ProgrammingError:
        raise UsageError(f"{path} is closed") from None
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from None
