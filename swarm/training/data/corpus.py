"""Find and read the files of a corpus.

Shell: reads the disk; the bytes are split and encoded by ``training/data/samples.py``.
"""

import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from swarm.config.bounds import TOKEN_BYTES
from swarm.errors import BadConfig, Corrupt
from swarm.training.data.disk import open_regular
from swarm.training.data.documents import files_below
from swarm.training.data.samples import TokenSource
from swarm.training.data.tokenizer import Tokenizer

STDLIB = "python-stdlib"
"""Name by which a run file asks for the standard library of the running interpreter."""
FILE_BYTES_MAX = 256 << 20
"""A text file is held in memory; a larger one should be built into a dataset."""
_SPLIT = (
    "make a dataset of it: swarm data build FILE --out NAME, and [data] dataset of the run file"
)
_NOT_PROSE = frozenset({"test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3"})
"""Tests are repetitive, and installed packages differ between machines."""


def read_source(source: str | Sequence[str]) -> Iterator[bytes]:
    """Yield the files that a run file's ``[data] source`` names; raise ``BadConfig`` for an unreadable one."""
    if isinstance(source, str):
        if source != STDLIB:
            raise BadConfig(
                f"unknown data source {source!r}", hint=f'use "{STDLIB}" or a list of paths'
            )
        yield from stdlib_files()
        return
    for name in source:
        yield from _read_path(Path(name).expanduser())


def stdlib_files() -> Iterator[bytes]:
    """Yield the source files of this interpreter's standard library, in order of path."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if not _NOT_PROSE.intersection(path.relative_to(root).parts):
            yield path.read_bytes()


def open_tokens(path: Path, dtype: str = "uint8") -> TokenSource:
    """Memory-map a token file; raise ``Corrupt`` if it is missing or empty."""
    try:
        return np.memmap(path, dtype=f"<u{TOKEN_BYTES[dtype]}", mode="r")
    except (OSError, ValueError) as error:
        raise Corrupt(f"the token file {path} cannot be read: {error}") from None


def encode_file(path: Path, tokenizer: Tokenizer) -> TokenSource:
    """Return the tokens of a text file; bytes are mapped, other tokens are held in memory.

    Raises ``BadConfig`` for a file larger than ``FILE_BYTES_MAX`` or not UTF-8, unless the tokens are bytes.
    """
    if not tokenizer.raw:
        return open_tokens(path)
    with open_regular(path, follow=True) as file:
        text = file.read(FILE_BYTES_MAX + 1)
    if len(text) > FILE_BYTES_MAX:
        raise BadConfig(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB", hint=_SPLIT)
    try:
        (tokens,) = tokenizer.encode([text])
    except UnicodeDecodeError as error:
        raise BadConfig(
            f"{path} is not UTF-8 at byte {error.start}", hint="iconv -t utf8"
        ) from None
    return tokens


def _read_path(path: Path) -> Iterator[bytes]:
    """Yield a file, or the files below a folder, without links and hidden files (``documents.find_inputs``)."""
    if not path.is_dir():
        yield _read_file(path, follow=True)
        return
    for below in files_below(path):
        if below.is_file() and not below.is_symlink():
            yield _read_file(below, follow=False)


def _read_file(path: Path, *, follow: bool) -> bytes:
    try:
        with open_regular(path, follow=follow) as file:
            data = file.read(FILE_BYTES_MAX + 1)  # bounded whatever size it states
    except (OSError, BadConfig) as error:
        cause = str(error) if isinstance(error, BadConfig) else f"{path}: {error.strerror}"
        raise BadConfig(
            f"the data file cannot be used: {cause}",
            hint="name files that are there under [data] source of the run file",
        ) from None
    if len(data) > FILE_BYTES_MAX:
        raise BadConfig(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB", hint=_SPLIT)
    return data
