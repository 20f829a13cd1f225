"""Read gzip and zstandard files, and text in UTF-16 or UTF-32, as a stream of UTF-8 of bounded memory.

Shell: reads open files. Entry point of zstandard for files; ``gossip/codecs/int8.py`` is that for peers' bytes.

A packed file does not say how much is in it, and a kilobyte can stand for gigabytes. Never more than one small
piece is unpacked at a time, and a file that grows to more than any honest text is refused by name. A member or
frame that is damaged, or ends too early, is named with the byte of the packed file up to which it was read.
"""

import codecs
import io
import os
import shlex
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from swarm.errors import BadConfig
from swarm.training.data.kinds import Kind, packing_of, unpacked_name

READ_BYTES = 1 << 16
"""Bytes of the packed file read at once."""
FEED_BYTES = {"gzip": 1 << 13, "zstd": 1 << 10}
"""Bytes unpacked at once: at most 8 MiB of gzip come of them, 32 MiB of zstandard (128 KiB from 4 bytes)."""
WINDOW_BYTES_MAX = 1 << 27
"""Memory of a zstandard frame: what ``zstd --long`` asks for, and any zstd unpacks without being asked."""
GROWTH_MAX = 200
"""Bytes of text per byte of the file: four times the ratio of logs that repeat themselves."""
GROWTH_FREE_BYTES = 64 << 20
"""Bytes of text allowed for a small file, however repetitive."""


_UNPACK = Kind("", "{path}")
"""Its hint for a packed file is the command that unpacks it."""


class _Member(Protocol):
    """The decoder of one member of gzip, or of one frame of zstandard."""

    @property
    def eof(self) -> bool:
        """True if it has ended."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Bytes given that come after its end."""
        ...

    def decompress(self, data: bytes, /) -> bytes:
        """Return what some more bytes unpack to."""
        ...


def plain_name(path: Path) -> str:
    """Return the name of a file in small letters, without the suffix of a packed one."""
    return unpacked_name(path.name).lower()


def unpacked(file: BinaryIO, path: Path) -> BinaryIO:
    """Return an open file from its start, unpacked if its first bytes are those of gzip or zstandard."""
    file.seek(0)
    packing = packing_of(file.read(4))
    file.seek(0)
    if not packing:
        return file
    return io.BufferedReader(_Pieces(_unpack(file, path, packing)), READ_BYTES)


def as_utf8(stream: BinaryIO, encoding: str) -> BinaryIO:
    """Return a stream of UTF-8 from one in an encoding; reading may raise ``UnicodeDecodeError``."""
    return io.BufferedReader(_Pieces(_decode(stream, encoding)), READ_BYTES)


class _Pieces(io.RawIOBase):
    """A readable stream of the pieces that an iterator gives."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object, /) -> int:
        """Fill a buffer from the piece at hand, or the next; return the number of bytes, 0 at the end."""
        into = memoryview(buffer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(into), len(self._left))
        into[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _unpack(file: BinaryIO, path: Path, packing: str) -> Iterator[bytes]:
    size = os.fstat(file.fileno()).st_size
    room, feed = GROWTH_FREE_BYTES + GROWTH_MAX * size, FEED_BYTES[packing]
    begin, damaged = (_gzip_member, zlib.error) if packing == "gzip" else _zstd()
    member, offset, begun = begin(), 0, 0
    while data := file.read(READ_BYTES):
        at = 0
        while at < len(data):
            given = data[at : at + feed]
            if member.eof:
                if not data[at:].strip(b"\0"):
                    at = len(data)  # tapes pad with zeros
                    continue
                member, begun = begin(), offset + at
            try:
                piece = member.decompress(given)
            except damaged as error:
                raise _fault(path, packing, begun, offset + at, _cause(error)) from None
            at += len(given) - (len(member.unused_data) if member.eof else 0)
            room -= len(piece)
            if room < 0:
                raise BadConfig(
                    f"{path} has {size} bytes and grows to more than {GROWTH_MAX} times as much, at byte"
                    f" {offset + at}",
                    hint=f"{packing} -dc {shlex.quote(str(path))} | head -c 2000",
                )
            if piece:
                yield piece
        offset += len(data)
    if not member.eof:
        raise _fault(path, packing, begun, offset, "it ends too early")


def _gzip_member() -> _Member:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _zstd() -> tuple[Callable[[], _Member], type[Exception]]:
    import zstandard  # noqa: PLC0415  most files do without it

    library = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
    return library.decompressobj, zstandard.ZstdError


def _fault(path: Path, packing: str, begun: int, offset: int, cause: str) -> BadConfig:
    part = "member" if packing == "gzip" else "frame"
    return BadConfig(
        f"{path} is damaged: the {packing} {part} that begins at byte {begun} cannot be read past byte"
        f" {offset}: {cause}",
        hint=f"download it again, or take what can be read of it: {_UNPACK.hint(str(path), packing)}",
    )


def _cause(error: Exception) -> str:
    return " ".join(str(error).split())[:100]


def _decode(stream: BinaryIO, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    while data := stream.read(READ_BYTES):
        if text := decoder.decode(data):
            yield text.encode("utf-8")
    if text := decoder.decode(b"", final=True):
        yield text.encode("utf-8")
