"""Publish as blobs the text of a run and, if it has any, the weights that it starts from.

Shell: reads this machine's disk and adds blobs.

The text is a corpus split here, or a dataset that was built before. The weights are a folder of transformers'
Llama, cut into stages.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import outcome
import trio

from swarm.config.bounds import TOKEN_BYTES
from swarm.config.load import run_spec
from swarm.config.schema import RunFile
from swarm.config.spec import DataSpec, RunSpec
from swarm.errors import BadConfig, VerificationFailed
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.gossip.blobs.service import Blobs
from swarm.node.reporting import EventLog
from swarm.primitives.codec import replace
from swarm.training.data.dataset import check_hash, check_same, data_spec
from swarm.training.data.disk import (
    Dataset,
    open_dataset,
    read_tokenizer,
    tokenizer_root,
    verify_dataset,
)
from swarm.training.data.documents import read_source
from swarm.training.data.samples import Corpus, build_corpus
from swarm.training.hf.load import HfFolder, open_folder, read_stage
from swarm.training.model.stages import plan_stages
from swarm.training.record.checkpoint import phi_bytes
from swarm.types import NO_DIGEST, Digest

TELL_INTERVAL_S = 5.0
"""Seconds between two reports while a large dataset is read."""

T = TypeVar("T")


async def publish_data(file: RunFile, base: Path, blobs: Blobs, report: EventLog) -> DataSpec:
    """Publish the text of a run file as blobs and return its data spec; paths are relative to ``base``.

    Raises ``BadConfig`` for text that is too short or does not fit the model, and ``VerificationFailed`` for a
    dataset of another hash than the run file pins, or naming the first chunk that is not what the manifest
    says.
    """
    if file.data.dataset:
        dataset = await trio.to_thread.run_sync(_opened, base, file.data.dataset)
        check_hash(dataset.manifest, file.data.dataset_hash, str(dataset.folder), {})
        data = data_spec(dataset.manifest)
        check_length(file, data)
        run_spec(file, data=data)  # before gigabytes are read
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


async def adopt_dataset(folder: Path, data: DataSpec, blobs: Blobs, report: EventLog) -> None:
    """Publish the text of a run that others launched, from a dataset on this disk.

    Raises ``VerificationFailed``, naming both hashes, for another dataset than the run's, or naming the first
    chunk that is not what its manifest says, and ``BadConfig`` for a folder that is no dataset, or a disk
    without room.
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


async def _publish_dataset(dataset: Dataset, blobs: Blobs, report: EventLog) -> None:
    """Check every chunk, then copy the files that are not among the blobs yet."""
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


async def _telling(report: EventLog, what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Await ``work`` and return its result; report every ``TELL_INTERVAL_S`` that it goes on."""

    async def report_waits() -> None:
        began = trio.current_time()
        report(EventKind.PROGRESS, what)
        while True:
            await trio.sleep(TELL_INTERVAL_S)
            report(EventKind.PROGRESS, f"{what}: {trio.current_time() - began:.0f} s so far")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(report_waits)
        result = await outcome.acapture(work)
        nursery.cancel_scope.cancel()
    return result.unwrap()


def _opened(base: Path, name: str) -> Dataset:
    return open_dataset(base / Path(name).expanduser())


def described(data: DataSpec) -> str:
    """Return the amount of text of a run, in words."""
    train, heldout = (
        f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
        for count in (data.train_bytes, data.heldout_bytes)
    )
    return f"{train} to train on, {heldout} held out"


def read_corpus(file: RunFile, base: Path) -> Corpus:
    """Return the text that ``[data] source`` names, cut into its halves; raises ``BadConfig``."""
    source = file.data.source
    names = source if isinstance(source, str) else [str(base / name) for name in source]
    data = file.data
    return build_corpus(
        read_source(names), max_bytes=data.max_bytes, heldout_every=data.heldout_every
    )


async def opened_start(base: Path, name: str) -> HfFolder:
    """Open the folder of ``init_from``; raises ``BadConfig`` if it is not a Llama that this build supports."""
    return await trio.to_thread.run_sync(_opened_start, base, name)


async def publish_start(
    start: HfFolder, spec: RunSpec, blobs: Blobs, compute: ExecutorPort, report: EventLog
) -> tuple[Digest, ...]:
    """Publish the initial weights of every stage, one stage in memory at a time; return their roots.

    Raises ``BadConfig`` for a value that is not finite, or a disk that is full.
    """
    report(EventKind.PROGRESS, f"reading the weights of {start.folder}")
    if start.tokenizer and tokenizer_root(start.tokenizer) != spec.data.tokenizer_root:
        kind = "bytes" if spec.data.tokenizer_root == NO_DIGEST else "another tokenizer"
        report(
            EventKind.WARNING,
            f"the text of this run is cut by {kind}, and {start.folder} has a tokenizer of its own: the model"
            " must learn its tokens anew; try: swarm data build --tokenizer",
        )
    roots = list[Digest]()
    for plan in plan_stages(spec.model, spec.num_stages):
        phi_P = await compute.run(read_stage, start, plan)
        roots.append(await blobs.add(phi_bytes(phi_P), dtype="float32", shape=tuple(phi_P.shape)))
    return tuple(roots)


def _opened_start(base: Path, name: str) -> HfFolder:
    return open_folder(base / Path(name).expanduser())
