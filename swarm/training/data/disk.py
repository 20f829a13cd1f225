"""Token files and datasets on this disk: write, open, list and check them, one chunk in memory at a time.

Shell: reads and writes the disk.

Nothing in a folder is trusted before it was checked. Only regular files are opened: an untrusted folder may
hold links to files outside it, and pipes that never end.
"""

import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from swarm.config.bounds import BOUNDS, TOKEN_BYTES
from swarm.errors import BadConfig, Corrupt, SwarmError, VerificationFailed
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, chunk_digest, tensor_hash, tensor_root
from swarm.training.data.dataset import (
    MANIFEST_BYTES_MAX,
    MANIFEST_FILE,
    NAME,
    TOKENIZER_FILE,
    DatasetManifest,
    TokenArray,
    TokenFile,
    read_manifest,
    root_of_chunks,
)
from swarm.training.data.tokenizer import TOKENIZER_BYTES_MAX, Tokenizer, Tokens
from swarm.types import Digest

FILE_BYTES_MAX = 256 << 20
"""A text file is held in memory; a larger one should be built into a dataset."""
SPLIT_HINT = (
    "make a dataset of it: swarm data build FILE --out NAME, and [data] dataset of the run file"
)


def open_regular(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a file for reading; a link only if ``follow``.

    Raises ``BadConfig`` if the path is missing, unreadable, a link, or not a regular file.
    """
    # O_NONBLOCK: opening a pipe without a writer would wait for one.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        is_link = not follow and path.is_symlink()
        cause = "it is a link" if is_link else (error.strerror or "unknown")
        command = "chmod u+r" if error.errno == errno.EACCES else "ls -l"
        raise BadConfig(
            f"{path} cannot be read: {cause}", hint=f"{command} {shlex.quote(str(path))}"
        ) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadConfig(f"{path} is not a plain file", hint=f"ls -l {shlex.quote(str(path))}")
    return os.fdopen(handle, "rb")


HINT = "swarm data verify"
_ANOTHER = "swarm join ANOTHER_TICKET"

Progress = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""


class TokenWriter:
    """A token file that is being written; chunks are hashed as they fill."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._file = path.open("xb")
        self._dtype = dtype
        self._hashes = list[Digest]()
        self._num_bytes = 0
        self._first = b""
        self._rest = bytearray()

    def add(self, tokens: Tokens) -> None:
        """Append tokens; raise ``BadConfig`` if there are more than one blob can hold."""
        data = memoryview(tokens.astype(f"<u{TOKEN_BYTES[self._dtype]}", copy=False).tobytes())
        if self._num_bytes + len(self._rest) + len(data) > BOUNDS["train_bytes"][1]:
            raise BadConfig(
                f"more than {BOUNDS['train_bytes'][1] >> 30} GiB of tokens to train on or to hold out",
                hint="swarm data build --max-bytes LESS, or several datasets",
            )
        while data:
            room = TENSOR_CHUNK_BYTES - len(self._rest)
            self._rest += data[:room]
            data = data[room:]
            if len(self._rest) == TENSOR_CHUNK_BYTES:
                self._flush()

    def close(self) -> TokenFile:
        """Make the file durable; return its root, size and chunk hashes."""
        if self._rest:
            self._flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        half = TokenFile(Digest(b""), self._num_bytes, b"".join(self._hashes))
        if half.num_chunks > 1:
            root = root_of_chunks(half, self._dtype)
        else:
            shape = (self._num_bytes // TOKEN_BYTES[self._dtype],)
            root = tensor_hash(self._dtype, shape, self._first)
        return TokenFile(root, half.num_bytes, half.hashes)

    def abandon(self) -> None:
        """Close the file without completing it."""
        self._file.close()

    def _flush(self) -> None:
        chunk = bytes(self._rest)
        self._rest.clear()
        self._first = self._first or chunk
        self._hashes.append(chunk_digest(chunk))
        self._num_bytes += len(chunk)
        self._file.write(chunk)


def check_token_file(
    path: Path, half: TokenFile, dtype: str, num_token_ids: int, progress: Progress | None = None
) -> None:
    """Read a file of a dataset and raise ``VerificationFailed`` naming the first chunk that is wrong."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        first = b""
        for index in range(half.num_chunks):
            length = min(TENSOR_CHUNK_BYTES, half.num_bytes - index * TENSOR_CHUNK_BYTES)
            chunk = file.read(length)
            first = first or chunk
            if len(chunk) != length or chunk_digest(chunk) != half.chunk_hash(index):
                start = index * TENSOR_CHUNK_BYTES
                end = f"it ends at byte {size}" if size < start + length else "other bytes"
                raise VerificationFailed(
                    f"{path}: chunk {index} of {half.num_chunks}, bytes {start} to {start + length}, is"
                    f" not that of the manifest ({end})",
                    hint=HINT,
                )
            if fault := foreign_id(chunk, index, dtype, num_token_ids):
                raise VerificationFailed(f"{path}: {fault}", hint="swarm data build it again")
            if progress is not None:
                progress(len(chunk))
    if size != half.num_bytes:
        raise VerificationFailed(f"{path} goes on after its last chunk", hint=HINT)
    shape = (half.num_bytes // TOKEN_BYTES[dtype],)
    if half.num_chunks == 1 and tensor_hash(dtype, shape, first) != half.root:
        raise VerificationFailed(f"{path}: chunk 0 is not that of the root", hint=HINT)


def id_limit(dtype: str) -> int:
    """Return the number of ids that a dtype can represent."""
    return 1 << (8 * TOKEN_BYTES[dtype])


def foreign_id(chunk: bytes, index: int, dtype: str, num_token_ids: int) -> str:
    """Describe the first token of chunk ``index`` that is out of the vocabulary; "" if there is none."""
    if num_token_ids >= id_limit(dtype):
        return ""
    tokens = np.frombuffer(chunk, dtype=f"<u{TOKEN_BYTES[dtype]}")
    if int(tokens.max()) < num_token_ids:
        return ""
    at = int(np.argmax(tokens >= num_token_ids))
    position = index * (TENSOR_CHUNK_BYTES // TOKEN_BYTES[dtype]) + at
    return f"token {position} is {int(tokens[at])}, and there are {num_token_ids} ids"


def root_of_file(path: Path, dtype: str, num_token_ids: int) -> Digest:
    """Return the root of the current bytes of a token file, with one chunk in memory.

    Raises ``BadConfig`` for a token out of the vocabulary, or half a token: no run can use such a file.
    """
    digests, num_bytes, first = list[Digest](), 0, b""
    with open_regular(path) as file:
        for index, chunk in enumerate(_chunks(file)):
            if len(chunk) % TOKEN_BYTES[dtype]:
                raise BadConfig(f"{path} is no whole number of {dtype}", hint=_ANOTHER)
            if fault := foreign_id(chunk, index, dtype, num_token_ids):
                raise BadConfig(f"the text of the run, {path}: {fault}", hint=_ANOTHER)
            first = first or chunk
            digests.append(chunk_digest(chunk))
            num_bytes += len(chunk)
    shape = (num_bytes // TOKEN_BYTES[dtype],)
    if len(digests) > 1:
        return tensor_root(dtype, shape, num_bytes, digests)
    return tensor_hash(dtype, shape, first)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(TENSOR_CHUNK_BYTES):
        yield chunk


FOLDER = "datasets"
"""Subfolder of a home that holds its named datasets."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder whose manifest is consistent; ``verify_dataset`` checks the files."""

    folder: Path
    manifest: DatasetManifest

    @property
    def num_bytes(self) -> int:
        """Bytes of its token files on disk, without the tokenizer."""
        return sum(half.num_bytes for _, half in self.manifest.halves)


def dataset_path(home: Path, base: Path, name: str) -> Path:
    """Return the folder of a dataset given by name (in ``home``) or by a path with a / (from ``base``).

    Raises ``BadConfig`` for anything else, so that a mistyped name does not create a folder.
    """
    if NAME.fullmatch(name):
        return home / FOLDER / name
    if "/" not in name:
        raise BadConfig(
            f'"{name[:80]}" is no name of a dataset: a letter or digit, then at most 63 of these and . _ -',
            hint=f'another name, or a path with a /: "./{name[:80]}"',
        )
    return base / Path(name).expanduser()


def open_dataset(folder: Path) -> Dataset:
    """Read a manifest; raise ``BadConfig`` if there is none, ``VerificationFailed`` if it is unsound."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise BadConfig(f"there is no dataset {folder}", hint="swarm data ls, or swarm data build")
    with open_regular(path) as file:
        raw = file.read(MANIFEST_BYTES_MAX + 1)
    try:
        return Dataset(folder, read_manifest(raw))
    except BadConfig as error:
        raise VerificationFailed(f"{path}: {error}", hint=error.hint) from None


def list_datasets(home: Path) -> Iterator[tuple[Path, Dataset | SwarmError]]:
    """Yield the datasets of a home by name, or the error for each that cannot be opened."""
    folder = home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            yield path, open_dataset(path)
        except SwarmError as error:
            yield path, error


def names_by_hash(home: Path) -> dict[str, str]:
    """Return the names of the sound datasets of a home by their hashes (hex)."""
    return {
        found.manifest.digest.hex(): path.name
        for path, found in list_datasets(home)
        if isinstance(found, Dataset)
    }


def verify_dataset(dataset: Dataset, progress: Progress | None = None) -> None:
    """Hash every file again; raise ``VerificationFailed`` naming the first chunk that is wrong."""
    manifest = dataset.manifest
    try:
        read_tokenizer(dataset)
        for name, half in manifest.halves:
            path = dataset.folder / name
            check_token_file(path, half, manifest.dtype, manifest.num_token_ids, progress)
    except BadConfig as error:  # a missing file, or a link
        raise VerificationFailed(str(error), hint=error.hint) from None


def read_tokenizer(dataset: Dataset) -> bytes:
    """Return the tokenizer file, b"" for bytes; raise ``VerificationFailed`` if it has another hash."""
    if dataset.manifest.tokenizer == "bytes":
        return b""
    path = dataset.folder / TOKENIZER_FILE
    with open_regular(path) as file:
        raw = file.read(TOKENIZER_BYTES_MAX + 1)
    if tokenizer_root(raw) != dataset.manifest.tokenizer_root:
        raise VerificationFailed(
            f"{path} is not the tokenizer of the manifest", hint="swarm data build it again"
        )
    return raw


def tokenizer_root(raw: bytes) -> Digest:
    """Return the root that names a tokenizer's file as a blob."""
    return tensor_hash("uint8", (len(raw),), raw)


def open_tokens(path: Path, dtype: str = "uint8") -> TokenArray:
    """Memory-map a token file; raise ``Corrupt`` if it is missing or empty."""
    try:
        return np.memmap(path, dtype=f"<u{TOKEN_BYTES[dtype]}", mode="r")
    except (OSError, ValueError) as error:
        raise Corrupt(f"the token file {path} cannot be read: {error}") from None


def encode_file(path: Path, tokenizer: Tokenizer) -> TokenArray:
    """Return the tokens of a text file; bytes are mapped, other tokens are held in memory.

    Raises ``BadConfig`` for a file larger than ``FILE_BYTES_MAX`` or not UTF-8, unless the tokens are bytes.
    """
    if not tokenizer.raw:
        return open_tokens(path)
    with open_regular(path, follow=True) as file:
        text = file.read(FILE_BYTES_MAX + 1)
    if len(text) > FILE_BYTES_MAX:
        raise BadConfig(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB", hint=SPLIT_HINT)
    try:
        (tokens,) = tokenizer.encode([text])
    except UnicodeDecodeError as error:
        raise BadConfig(
            f"{path} is not UTF-8 at byte {error.start}", hint="iconv -t utf8"
        ) from None
    return tokens
