"""Datasets: the manifest that names two token files and their tokenizer, and the half of each document.

Core: pure functions. Source: docs/spec/data.md.

A manifest names no paths: the files of a dataset have fixed names in its folder, so a forged manifest cannot
point anywhere else. Documents are named by their hash and dealt in the order of their names, so the order in
which they were found does not matter, a duplicate counts once, and a limit takes a fair sample.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from swarm.config.bounds import BOUNDS, TOKEN_BYTES, TOKENIZERS, token_dtype
from swarm.config.spec import DataSpec
from swarm.errors import BadConfig, BadEncoding, VerificationFailed
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES, tensor_root
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Digest

TokenArray = npt.NDArray[np.unsignedinteger[Any]]
"""Tokens: uint8, uint16 or uint32; usually a read-only memory map of a token file."""


class TokenSource(Protocol):
    """The tokens of a run: all of them as an array, or those pieces of their file that are here."""

    def __len__(self) -> int:
        """Return the number of tokens in the whole file."""
        ...

    def __getitem__(self, span: slice, /) -> TokenArray:
        """Return some tokens that follow each other."""
        ...


FORMAT = 1
"""Version of the manifest format; any other number is rejected."""
MANIFEST_FILE = "manifest.bin"
TRAIN_FILE = "train.bin"
HELDOUT_FILE = "heldout.bin"
TOKENIZER_FILE = "tokenizer.json"
DATASET_FILES = (MANIFEST_FILE, TRAIN_FILE, HELDOUT_FILE, TOKENIZER_FILE)
"""Files in the folder of a dataset; the last one is absent if the dataset was made from bytes."""
MANIFEST_BYTES_MAX = 2 << 20
"""Two lists of 16,384 hashes: two halves of 16 GiB."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Name of a dataset in a home; anything else is a path."""
_HASH_BYTES = 32
_HINT = "swarm data build it again"


class TokenFile(Message, frozen=True):
    """One half of a dataset: the root that names its blob, its size and the hashes of its chunks."""

    root: Digest
    """``tensors.tensor_hash``: the name of the blob."""
    num_bytes: int
    hashes: bytes
    """32 bytes for each 1 MiB chunk, also if there is only one."""

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.num_bytes // TENSOR_CHUNK_BYTES)

    def chunk_hash(self, index: int) -> bytes:
        """Return the digest of chunk ``index``."""
        return self.hashes[_HASH_BYTES * index : _HASH_BYTES * (index + 1)]


class DatasetManifest(Message, frozen=True):
    """Manifest of a dataset; it and its hash depend on the text and the settings alone."""

    format: int
    tokenizer: str
    """``bytes``, or ``file`` for the ``tokenizer.json`` in the folder."""
    tokenizer_root: Digest
    """Root of the tokenizer's file; ``NO_DIGEST`` for bytes."""
    dtype: str
    num_token_ids: int
    separator: int
    """The id that ends every document."""
    heldout_every: int
    num_documents: int
    """Distinct documents in both halves; one whose end is held out counts in each."""
    train: TokenFile
    heldout: TokenFile

    @property
    def digest(self) -> Digest:
        """The hash of the dataset."""
        return digest("dataset", encode(self))

    @property
    def halves(self) -> tuple[tuple[str, TokenFile], ...]:
        """Both token files, with their names in the folder."""
        return ((TRAIN_FILE, self.train), (HELDOUT_FILE, self.heldout))

    def num_tokens(self, half: TokenFile) -> int:
        """Return the number of tokens in one of the halves."""
        return half.num_bytes // TOKEN_BYTES[self.dtype]


def read_manifest(raw: bytes) -> DatasetManifest:
    """Decode and check a manifest; raise ``BadConfig`` unless all of its parts are consistent."""
    try:
        manifest = decode(DatasetManifest, raw, limit=MANIFEST_BYTES_MAX)
    except BadEncoding as error:
        raise BadConfig(f"not the manifest of a dataset: {error}", hint=_HINT) from None
    fault = _fault(manifest)
    if fault:
        raise BadConfig(f"not the manifest of a dataset: {fault}", hint=_HINT)
    return manifest


def data_spec(manifest: DatasetManifest) -> DataSpec:
    """Return the data section of the run spec for this dataset."""
    train, heldout = manifest.train, manifest.heldout
    return DataSpec(
        tokenizer=manifest.tokenizer,
        train_root=train.root,
        train_bytes=train.num_bytes,
        heldout_root=heldout.root,
        heldout_bytes=heldout.num_bytes,
        dtype=manifest.dtype,
        num_token_ids=manifest.num_token_ids,
        tokenizer_root=manifest.tokenizer_root,
    )


def check_hash(
    manifest: DatasetManifest, pinned: str, where: str, others: Mapping[str, str]
) -> None:
    """Raise ``VerificationFailed`` unless a dataset has the hash (hex) that a run file pins; "" accepts any.

    ``others`` are known datasets by hash: if one has the pinned hash, the hint names it.
    """
    found = manifest.digest.hex()
    if pinned in ("", found):
        return
    build = "swarm data build it again from the same text, or ask the peer that pinned it for the folder"
    raise VerificationFailed(
        f"the dataset {where} has the hash {found}, and the run file asks for {pinned}",
        hint=f'dataset = "{others[pinned]}" under [data]' if pinned in others else build,
    )


def check_same(manifest: DatasetManifest, spec: DataSpec, where: str) -> None:
    """Raise ``VerificationFailed``, naming both hashes, unless a dataset is the one that a run trains on."""
    mine = data_spec(manifest)
    if mine == spec:
        return
    parts = (
        (TRAIN_FILE, mine.train_root, spec.train_root),
        (HELDOUT_FILE, mine.heldout_root, spec.heldout_root),
        (TOKENIZER_FILE, mine.tokenizer_root, spec.tokenizer_root),
    )
    wrong = [
        f"its {name} is {a.hex()}, and the run's is {b.hex()}" for name, a, b in parts if a != b
    ]
    raise VerificationFailed(
        f"the dataset {where} is not that of the run:"
        f" {wrong[0] if wrong else 'the files are the same, and the run misnames their sizes or ids'}",
        hint="join without --dataset: the text then comes from other peers",
    )


def _fault(manifest: DatasetManifest) -> str:
    """Return the first fault of a manifest in words, or "" if it has none."""
    if manifest.format != FORMAT:
        return f"format {manifest.format} where {FORMAT} is known"
    least, most = BOUNDS["num_token_ids"]
    ids, is_bytes = manifest.num_token_ids, manifest.tokenizer == "bytes"
    if not least <= ids <= most or manifest.dtype != token_dtype(ids):
        return f"{ids} token ids as {manifest.dtype[:16]!r}"
    faults = (
        (manifest.tokenizer not in TOKENIZERS, "an unknown tokenizer"),
        (len(manifest.tokenizer_root) != _HASH_BYTES, "a tokenizer's hash of another length"),
        (is_bytes != (manifest.tokenizer_root == NO_DIGEST), "a tokenizer without its file"),
        (is_bytes and ids != 256, f"bytes with {ids} ids"),
        (not 0 <= manifest.separator < ids, "a separator outside the vocabulary"),
        (manifest.heldout_every < 2 or manifest.num_documents < 2, "counts that no build writes"),
    )
    wrong = [fault for is_wrong, fault in faults if is_wrong]
    wrong += [_file_fault(name, half, manifest.dtype) for name, half in manifest.halves]
    return next((fault for fault in wrong if fault), "")


def _file_fault(name: str, half: TokenFile, dtype: str) -> str:
    least, most = BOUNDS["train_bytes"]
    if not least <= half.num_bytes <= most or half.num_bytes % TOKEN_BYTES[dtype]:
        return f"{name} of {half.num_bytes} bytes"
    if len(half.hashes) != _HASH_BYTES * half.num_chunks or len(half.root) != _HASH_BYTES:
        return f"{name} with the wrong number of hashes"
    if half.num_chunks > 1 and root_of_chunks(half, dtype) != half.root:
        return f"{name} whose chunks are not those of its root"
    return ""


def root_of_chunks(half: TokenFile, dtype: str) -> Digest:
    """Return the root of a token file of more than one chunk, from the digests of its chunks."""
    digests = [Digest(half.chunk_hash(index)) for index in range(half.num_chunks)]
    shape = (half.num_bytes // TOKEN_BYTES[dtype],)
    return tensor_root(dtype, shape, half.num_bytes, digests)


SEPARATOR = b"\x00"
"""Separates documents: text does not contain it, so a model can learn that one ends."""
TRAIN, HELDOUT = 0, 1


def document_name(document: bytes) -> Digest:
    """Return the hash by which a document is sorted and duplicates are found."""
    return digest("corpus-file", document)


HELDOUT_BYTES_MIN = 256
"""Held-out text that ends of documents give together: less says nothing of a model."""
_ENDS = (b"\n\n", b"\n", b" ")
"""Places to cut a document before its end: after a paragraph, a line or a word."""


class Split:
    """Assignment of distinct documents, in the order of their names, to the two halves.

    Where there are too few documents to hold out a whole one, the end of each is held out instead.
    """

    def __init__(self, *, max_bytes: int, heldout_every: int, num_documents: int) -> None:
        """Take the settings, and the number of distinct documents that will be dealt."""
        self._max_bytes = self._room = max_bytes
        self._heldout_every = heldout_every
        self._taken = [0, 0]
        self._num_left_out = self.num_seen = 0
        """Distinct documents dealt."""
        self._bytes_seen = self._heldout_bytes = 0
        self.is_cut = num_documents < heldout_every
        """True if the ends of documents are held out."""

    def deal(self, document: bytes) -> list[tuple[int, bytes]]:
        """Return the parts as (``TRAIN`` or ``HELDOUT``, text without separators); none if it does not fit."""
        index = self.num_seen
        self.num_seen += 1
        text = document.replace(SEPARATOR, b"")
        self._bytes_seen += len(text)
        if self.is_cut:
            cut = cut_of(text, self._heldout_every)
            parts = [part for part in ((TRAIN, text[:cut]), (HELDOUT, text[cut:])) if part[1]]
        else:
            is_last = index % self._heldout_every == self._heldout_every - 1
            parts = [(HELDOUT if is_last else TRAIN, text)]
        num_bytes = sum(len(part) + len(SEPARATOR) for _, part in parts)
        if num_bytes > self._room:
            self._num_left_out += 1
            return []
        self._room -= num_bytes
        for half, part in parts:
            self._taken[half] += 1
            self._heldout_bytes += len(part) if half == HELDOUT else 0
        return parts

    @property
    def num_taken(self) -> int:
        """Documents in both halves; one that was cut is two."""
        return sum(self._taken)

    @property
    def num_left_out(self) -> int:
        """Documents that did not fit."""
        return self._num_left_out

    def close(self) -> None:
        """Raise ``BadConfig`` if either half is empty, or too little was cut off to be held out."""
        enough = HELDOUT_BYTES_MIN if self.is_cut else 0
        if all(self._taken) and self._heldout_bytes >= enough:
            return
        found = f"{self.num_seen} different document{'s' * (self.num_seen != 1)}"
        if self._num_left_out or not self.is_cut:
            raise BadConfig(
                f"{found} were found, and max_bytes = {self._max_bytes} leaves room for"
                f" {self.num_seen - self._num_left_out}: too little for both halves",
                hint="a higher max_bytes (--max-bytes)",
            )
        raise self._too_little(found)

    def _too_little(self, found: str) -> BadConfig:
        needed, every = HELDOUT_BYTES_MIN * self._heldout_every, self._heldout_every
        possible = self._bytes_seen // HELDOUT_BYTES_MIN
        less = f"heldout_every = {possible} under [data], or --heldout-every {possible}"
        return BadConfig(
            f"there are {self._bytes_seen:,} bytes of text, {found}, and {needed:,} are needed to hold out one"
            f" in {every} of them",
            hint=less
            if 2 <= possible < every
            else f"name {needed - self._bytes_seen:,} bytes more",
        )


def cut_of(text: bytes, heldout_every: int) -> int:
    """Return where the end of a document begins that is held out: about its last ``1 / heldout_every``.

    It begins after a paragraph, else a line, else a word, else a character, and has up to twice that length.
    """
    share = -(-len(text) // heldout_every)
    last, first = len(text) - share, max(len(text) - 2 * share, len(text) // 4)
    for end in _ENDS:
        if (at := text.rfind(end, first, last)) >= 0:
            return at + len(end)
    while last > 0 and text[last] & 0xC0 == 0x80 and last > len(text) - share - 4:
        last -= 1
    return last
