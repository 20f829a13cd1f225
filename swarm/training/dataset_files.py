"""Open, list and verify the datasets on this disk.

Shell: reads the disk. Nothing in a folder is trusted before it was checked, and no link in it is followed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import BadConfig, SwarmError, VerificationFailed
from swarm.tensors import tensor_hash
from swarm.training.dataset import (
    MANIFEST_BYTES_MAX,
    MANIFEST_FILE,
    NAME,
    TOKENIZER_FILE,
    DatasetManifest,
    read_manifest,
)
from swarm.training.regular_files import open_regular
from swarm.training.token_files import Progress, check_token_file
from swarm.training.tokenizer import TOKENIZER_BYTES_MAX
from swarm.types import Digest

FOLDER = "datasets"
"""Where a home keeps those that were given a name."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder whose manifest holds together; ``verify_dataset`` looks at the files."""

    folder: Path
    manifest: DatasetManifest

    @property
    def num_bytes(self) -> int:
        """What it takes on the disk, the tokenizer aside."""
        return sum(half.num_bytes for _, half in self.manifest.halves)


def dataset_path(home: Path, base: Path, name: str) -> Path:
    """The folder that a name (in ``home``) or a path with a / (from ``base``) stands for.

    Raises ``BadConfig`` for what is neither: a slip of the pen would become a folder somewhere.
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
    """Read a manifest; raises ``BadConfig`` when there is none, ``VerificationFailed`` for an unsound one."""
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
    """The datasets of a home by name, and what is wrong with those that cannot be opened."""
    folder = home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            yield path, open_dataset(path)
        except SwarmError as error:
            yield path, error


def names_by_hash(home: Path) -> dict[str, str]:
    """The names of the sound datasets of a home by their hashes (hex)."""
    return {
        found.manifest.digest.hex(): path.name
        for path, found in list_datasets(home)
        if isinstance(found, Dataset)
    }


def verify_dataset(dataset: Dataset, progress: Progress | None = None) -> None:
    """Hash every file again; raises ``VerificationFailed`` naming the first chunk that is wrong."""
    manifest = dataset.manifest
    try:
        read_tokenizer(dataset)
        for name, half in manifest.halves:
            path = dataset.folder / name
            check_token_file(path, half, manifest.dtype, manifest.num_token_ids, progress)
    except BadConfig as error:  # a file that is gone, or a link
        raise VerificationFailed(str(error), hint=error.hint) from None


def read_tokenizer(dataset: Dataset) -> bytes:
    """The file a dataset was made with, nothing for bytes; raises ``VerificationFailed`` for another."""
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
    """The blob that a tokenizer's file is."""
    return tensor_hash("uint8", (len(raw),), raw)
