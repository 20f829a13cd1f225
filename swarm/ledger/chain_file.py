"""Write the final blocks of a network to a file, and read them again: what an auditor without a node needs.

Shell: a file. It begins with ``MAGIC``; a frame is its length as 4 bytes, big-endian, and that many bytes. The
first frame is the genesis, the second a ``ChainStart``, and each further one a ``ChainLink``, in order of
height from block 1 on, or from the one after the start.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding, SwarmError, UsageError, VerificationFailed
from swarm.ledger.blocks import BLOCK_BYTES_MAX, VALIDATORS_MAX, Block, Certificate
from swarm.ledger.light import LIGHT_PROOF_BYTES_MAX, Handoff
from swarm.ledger.state.state import SNAPSHOT_BYTES_MAX, check_genesis
from swarm.primitives.codec import FRAME_BYTES_MAX, Message, decode, encode
from swarm.primitives.crypto import SIGNATURE_BYTES

MAGIC = b"swarm chain 2\n"
LENGTH_BYTES = 4
LINK_BYTES_MAX = BLOCK_BYTES_MAX + 2 * VALIDATORS_MAX * SIGNATURE_BYTES + 1024
"""Bytes of a block and its finalization."""

START_BYTES_MAX = LIGHT_PROOF_BYTES_MAX + SNAPSHOT_BYTES_MAX

Link = tuple[Block, Certificate | None]


class ChainStart(Message, frozen=True):
    """Start of the blocks of a file: the end of an epoch, the state after it, and what leads to it."""

    handoffs: tuple[Handoff, ...]
    boundary: Handoff | None
    """None if the blocks begin with block 1."""
    state: bytes


WHOLE = ChainStart((), None, b"")
"""Start of a file that has all blocks."""


class ChainLink(Message, frozen=True):
    """A final block, and its own finalization if it has one."""

    block: Block
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class ChainFile:
    """Genesis of a file of blocks, and where they are."""

    path: Path
    genesis: Genesis
    start: ChainStart

    def links(self) -> Iterator[Link]:
        """Yield the blocks and their finalizations as they stand there; nothing but their form is checked.

        Raises ``VerificationFailed`` where a frame is cut off, too long, or does not decode.
        """
        with _opened(self.path) as file:
            _read_genesis(file, self.path)
            _read_frame(file, self.path, START_BYTES_MAX)
            number = 0
            while (frame := _read_frame(file, self.path, LINK_BYTES_MAX)) is not None:
                number += 1
                try:
                    link = decode(ChainLink, frame, limit=LINK_BYTES_MAX)
                except BadEncoding as error:
                    raise VerificationFailed(f"{self.path}, block {number}: {error}") from None
                yield link.block, link.certificate


def write_chain(
    path: Path, genesis: Genesis, links: Iterable[Link], start: ChainStart = WHOLE
) -> int:
    """Write a new file, and return the number of blocks in it.

    It has its name only once it is whole. Raises ``UsageError`` if there is something already, or nothing can
    be written there.
    """
    if path.exists():
        raise UsageError(f"{path} exists already", hint="name a new file")
    unfinished, count = path.with_name(f"{path.name}.part"), 0
    try:
        with unfinished.open("wb") as file:
            file.write(MAGIC + _frame(encode(genesis)) + _frame(encode(start)))
            for block, certificate in links:
                file.write(_frame(encode(ChainLink(block, certificate))))
                count += 1
        unfinished.rename(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    except SwarmError:
        unfinished.unlink(missing_ok=True)
        raise
    return count


def open_chain(path: Path) -> ChainFile:
    """Return a file with its genesis, which is checked.

    Raises ``UsageError`` if it is unreadable, and ``VerificationFailed`` if it is no such file.
    """
    with _opened(path) as file:
        genesis = _read_genesis(file, path)
        frame = _read_frame(file, path, START_BYTES_MAX) or b""
    try:
        start = decode(ChainStart, frame, limit=START_BYTES_MAX)
        if start.boundary is None and start != WHOLE:
            raise BadEncoding("a snapshot without its header")
        return ChainFile(path, genesis, start)
    except BadEncoding as error:
        raise VerificationFailed(f"{path}, its beginning: {error}") from None


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="swarm ledger export FILE writes one"
        ) from None


def _read_genesis(file: BinaryIO, path: Path) -> Genesis:
    if file.read(len(MAGIC)) != MAGIC:
        raise VerificationFailed(f"{path} is no file of swarm ledger export")
    frame = _read_frame(file, path, FRAME_BYTES_MAX)
    try:
        genesis = decode(Genesis, frame or b"")
        check_genesis(genesis)
    except BadEncoding as error:
        raise VerificationFailed(f"{path}, genesis: {error}") from None
    return genesis


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _read_frame(file: BinaryIO, path: Path, limit: int) -> bytes | None:
    """Return the next frame, or None at the end of the file."""
    head = file.read(LENGTH_BYTES)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    if len(head) < LENGTH_BYTES or not 0 < length <= limit:
        raise VerificationFailed(f"{path} is damaged: a frame of {length} bytes, at most {limit}")
    data = file.read(length)
    if len(data) < length:
        raise VerificationFailed(f"{path} is cut off")
    return data
