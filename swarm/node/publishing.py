"""Publish the text of a run: a corpus cut here, or a dataset that was built before.

Shell: reads this machine's disk and adds blobs.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import outcome
import trio

from swarm.bounds import TOKEN_BYTES
from swarm.codec import replace
from swarm.config import run_spec
from swarm.errors import BadConfig, VerificationFailed
from swarm.events import EventKind
from swarm.gossip.blobs import Blobs
from swarm.node.reports import Reports
from swarm.run_file import RunFile
from swarm.spec import DataSpec
from swarm.training.data import Corpus, build_corpus
from swarm.training.data_files import read_source
from swarm.training.dataset import check_hash, check_same, data_spec
from swarm.training.dataset_files import (
    Dataset,
    open_dataset,
    read_tokenizer,
    verify_dataset,
)
from swarm.types import NO_DIGEST, Digest

TELL_INTERVAL_S = 5.0
"""A large dataset says that it is being read this often."""

T = TypeVar("T")


async def publish_data(file: RunFile, base: Path, blobs: Blobs, report: Reports) -> DataSpec:
    """Make the text of a run file fetchable and return its names; paths are relative to ``base``.

    Raises ``BadConfig`` for text that is too short or does not fit the model, and ``VerificationFailed``
    for a dataset of another hash than the run file pins, or naming the first chunk of one that is not what its
    manifest says.
    """
    if file.data.dataset:
        dataset = await trio.to_thread.run_sync(_opened, base, file.data.dataset)
        check_hash(dataset.manifest, file.data.dataset_hash, str(dataset.folder), {})
        data = data_spec(dataset.manifest)
        check_length(file, data)
        run_spec(file, data=data, init_root=NO_DIGEST)  # before gigabytes are read
        await _publish_dataset(dataset, blobs, report)
    else:
        report(EventKind.PROGRESS, "reading the text of the run")
        corpus = await trio.to_thread.run_sync(read_corpus, file, base)
        data = DataSpec(
            tokenizer=file.data.tokenizer,
            train_root=NO_DIGEST,
            train_bytes=len(corpus.train),
            heldout_root=NO_DIGEST,
            heldout_bytes=len(corpus.heldout),
        )
        check_length(file, data)
        roots = {"train_root": await blobs.add(corpus.train)}
        data = replace(data, **roots, heldout_root=await blobs.add(corpus.heldout))
    report(
        EventKind.PROGRESS,
        described(data),
    )
    return data


async def adopt_dataset(folder: Path, data: DataSpec, blobs: Blobs, report: Reports) -> None:
    """Take the text of a run that others launched from a dataset on this disk, and serve it.

    Raises ``VerificationFailed``, naming both hashes, for another dataset than the run's, or the first chunk
    that is not its manifest's, and ``BadConfig`` for a folder that is none, or a disk without room.
    """
    dataset = await trio.to_thread.run_sync(open_dataset, folder)
    check_same(dataset.manifest, data, str(folder))
    await _publish_dataset(dataset, blobs, report)


def check_length(file: RunFile, data: DataSpec) -> None:
    """Raise ``BadConfig`` for text too short for one window of the run."""
    size, seq_len = TOKEN_BYTES[data.dtype], file.model.seq_len
    train, heldout = data.train_bytes // size, data.heldout_bytes // size
    if min(train, heldout) <= seq_len:
        raise BadConfig(
            f"the run's text is too short: {train} training and {heldout} held-out tokens, with windows"
            f" of {seq_len}",
            hint="name more text under [data]",
        )


async def _publish_dataset(dataset: Dataset, blobs: Blobs, report: Reports) -> None:
    """Check every chunk, then copy what is not among the blobs yet."""
    manifest, name = dataset.manifest, dataset.folder.name

    async def check() -> bytes:
        await trio.to_thread.run_sync(verify_dataset, dataset)
        return read_tokenizer(dataset)

    raw = await _telling(report, f"checking the dataset {name}", check)
    for file, half in manifest.halves:
        if blobs.has(half.root):
            continue

        async def copy(path: Path = dataset.folder / file, num: int = half.num_bytes) -> Digest:
            shape = (num // TOKEN_BYTES[manifest.dtype],)
            return await blobs.add(path, dtype=manifest.dtype, shape=shape)

        if await _telling(report, f"publishing {file} of the dataset {name}", copy) != half.root:
            raise VerificationFailed(
                f"{dataset.folder / file} changed while it was read", hint="swarm data verify"
            )
    if raw:
        await blobs.add(raw)


async def _telling(report: Reports, what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do something that takes long, and say so while it does."""

    async def tell() -> None:
        began = trio.current_time()
        report(EventKind.PROGRESS, what)
        while True:
            await trio.sleep(TELL_INTERVAL_S)
            report(EventKind.PROGRESS, f"{what}: {trio.current_time() - began:.0f} s so far")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        result = await outcome.acapture(work)
        nursery.cancel_scope.cancel()
    return result.unwrap()


def _opened(base: Path, name: str) -> Dataset:
    return open_dataset(base / Path(name).expanduser())


def described(data: DataSpec) -> str:
    """How much text a run has, in words."""
    return (
        f"{data.train_bytes / 1e6:.1f} MB to train on, {data.heldout_bytes / 1e6:.1f} MB held out"
    )


def read_corpus(file: RunFile, base: Path) -> Corpus:
    """The text that ``[data] source`` names, cut into its halves; raises ``BadConfig`` as a launch does."""
    source = file.data.source
    names = source if isinstance(source, str) else [str(base / name) for name in source]
    data = file.data
    return build_corpus(
        read_source(names), max_bytes=data.max_bytes, heldout_every=data.heldout_every
    )
