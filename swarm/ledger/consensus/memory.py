"""Remember beside the database what this validator signed last, and tell whether that memory is whole.

Shell: one small file in the home of a node. A database can be rolled back, restored from a backup, or copied
with the home around it; votes that it has forgotten would then be contradicted. The file holds the number of
the last entry of the vote log, written after the entry and before anything it covers is sent. It names its
folder by inode: in a copy or a restored home it is of another one.

    whole     the vote log reaches to the mark or beyond, in the folder that the mark names
    lost      anything else, also no mark at all, unless the key was made here and was never used

A validator that lost its memory signs nothing in the epoch in which it learns what the others have, nor in any
before: votes are signed for an epoch, so that none of a later one can contradict them.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import BadEncoding, DiskFull, UsageError
from swarm.host.identity import UNUSED_FILE, folder_number
from swarm.ledger.consensus.journal import Journal
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Digest

MARK_FILE = "votes.mark"
UNKNOWN = -1
"""No epoch."""
MARK_BYTES_MAX = 256
SEAL_BYTES = 32


class VoteMark(Message, frozen=True):
    """Last signed entry of a vote log."""

    folder: int
    """Inode of the home."""
    number: int
    entry: Digest
    silent_through: int
    """Last epoch in which nothing is signed; ``UNKNOWN``: none."""


@dataclass(slots=True)
class VoteMemory:
    """Mark of a home; ``open`` reads it, or finds that there is none."""

    home: Path
    mark: VoteMark | None

    @classmethod
    def open(cls, home: Path) -> "VoteMemory":
        """Read the mark of a home; a key that was made in it and never used begins with a whole memory."""
        memory = cls(home, _read(home / MARK_FILE))
        unused, folder = home / UNUSED_FILE, folder_number(home)
        if unused.exists():
            is_ours = unused.read_bytes()[:MARK_BYTES_MAX].strip() == b"%d" % folder
            if memory.mark is None and is_ours and not (home / MARK_FILE).exists():
                memory.write(VoteMark(folder, 0, NO_DIGEST, UNKNOWN))
            unused.unlink()
        return memory

    def is_whole(self, journal: Journal) -> bool:
        """Return True if the vote log holds everything that was signed, as far as the mark can tell."""
        mark = self.mark
        if mark is None or mark.folder != folder_number(self.home):
            return False
        known = {number: name for number, _, name in journal.entries}
        known[journal.base.number] = journal.base.entry
        return (
            journal.head.number >= mark.number and known.get(mark.number, mark.entry) == mark.entry
        )

    @property
    def number(self) -> int:
        """Number of the newest entry that is known to have been signed; 0 before one."""
        return 0 if self.mark is None else self.mark.number

    @property
    def silent_through(self) -> int:
        """Last epoch in which nothing is signed; ``UNKNOWN``: none."""
        return UNKNOWN if self.mark is None else self.mark.silent_through

    def note(self, journal: Journal) -> None:
        """Make durable that the vote log has come to its head. Raises as ``write``."""
        self._move_to(journal, self.silent_through)

    def be_silent(self, through: int, journal: Journal) -> None:
        """Make durable that nothing is signed up to the end of epoch ``through``, and begin anew from there."""
        self._move_to(journal, through)

    def accept(self, journal: Journal) -> None:
        """End a silence: its owner says that the vote log has all that was signed. Raises as ``write``."""
        self._move_to(journal, UNKNOWN)

    def _move_to(self, journal: Journal, silent_through: int) -> None:
        head = journal.head
        folder = folder_number(self.home)
        self.write(VoteMark(folder, head.number, head.entry, silent_through))

    def write(self, mark: VoteMark) -> None:
        """Replace the mark, durably; one that was cut short counts as none.

        Raises ``DiskFull``, or ``UsageError`` if the home cannot be written: nothing may be signed then.
        """
        data = encode(mark)
        sealed = digest("vote-mark", data) + bytes([len(data)]) + data
        path = self.home / MARK_FILE
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(handle, sealed.ljust(MARK_BYTES_MAX, b"\0"), 0)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(
                    f"no room left on the disk of {path}", hint=f"df -h {self.home}"
                ) from None
            raise UsageError(f"cannot write {path}: {error}", hint=f"ls -ld {self.home}") from None
        self.mark = mark


def _read(path: Path) -> VoteMark | None:
    """Return the mark of a file; None if there is none, or not a whole one."""
    try:
        raw = path.read_bytes()[:MARK_BYTES_MAX]
    except OSError:
        return None
    seal, data = (
        raw[:SEAL_BYTES],
        raw[SEAL_BYTES + 1 :][: raw[SEAL_BYTES] if raw[SEAL_BYTES:] else 0],
    )
    if digest("vote-mark", data) != seal:
        return None
    try:
        return decode(VoteMark, data)
    except BadEncoding:
        return None
