"""A dataset of any width goes from a launch to the others as blobs, and a bad one is refused before that."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

from swarm.config.load import parse_run_file, run_spec
from swarm.config.schema import RunFile
from swarm.config.spec import DataSpec
from swarm.errors import BadConfig, BrokenPromise, Unreachable, VerificationFailed
from swarm.gossip.blobs.service import BLOB_PROTOCOL, Blobs, Peers, Progress
from swarm.gossip.trade.messages import BlobChunksRequest, decode_blob_request
from swarm.ledger.state.records import Run
from swarm.node.artifacts.cache import ArtifactCache
from swarm.node.artifacts.text import keep_heldout, token_source
from swarm.node.launch.publish import adopt_dataset, publish_data
from swarm.node.reporting import EventLog
from swarm.primitives.codec import replace
from swarm.primitives.commitments import TENSOR_CHUNK_BYTES
from swarm.testing.executor import InlineExecutor
from swarm.testing.ledger import small_run_spec
from swarm.training.data.disk import open_dataset, open_tokens
from swarm.training.data.samples import windows
from swarm.types import NO_DIGEST, Digest, PeerId
from tests.fakes import FakeHost, FakeNetwork
from tests.node import fakes
from tests.node.fakes import FakeNode, unused
from tests.training.datasets import a_tokenizer, build, some_texts, write_texts

QUOTA = 64 << 20


def a_file(dataset: str, vocab_size: int = 1008, more: str = "") -> Any:  # noqa: ANN401
    text = (
        f'[data]\ndataset = "{dataset}"\n{more}\n[model]\nseq_len = 16\nvocab_size = {vocab_size}'
    )
    return parse_run_file(text, "test.toml")


def some_blobs(tmp_path: Path, host: FakeHost, quota: int = QUOTA) -> Blobs:
    return Blobs(tmp_path / f"blobs-{host.peer.hex()[:8]}", host, quota_bytes=quota)


@dataclass
class Fetching(FakeNode):
    """A node that fetches a text."""

    artifacts: ArtifactCache = field(default_factory=unused)
    blobs: Blobs = field(default_factory=unused)


def a_node(blobs: Blobs, host: FakeHost) -> Fetching:
    """Every peer of the network is asked."""
    port: Any = host
    artifacts = ArtifactCache(port, blobs, InlineExecutor(lambda _: 0.0), unused())
    return Fetching(blobs=blobs, artifacts=artifacts)


def a_run(file: RunFile, data: DataSpec) -> Run:
    return fakes.a_run(run_spec(file, data=data))


async def publish(file: Any, base: Path, blobs: Blobs) -> tuple[DataSpec, list[str]]:  # noqa: ANN401
    messages: list[str] = []
    report: Any = lambda _, text: messages.append(text)  # noqa: E731
    return await publish_data(file, base, blobs, report), messages


@pytest.mark.rule("N16")
@pytest.mark.parametrize(
    ("num_words", "dtype", "times"),
    [(0, "uint8", 250), (1000, "uint16", 520), (70_000, "uint32", 260)],
)
async def test_tokens_of_any_width_are_fetched_verified_and_mapped(
    tmp_path: Path, num_words: int, dtype: str, times: int
) -> None:
    """More than a chunk, so that it travels in pieces."""
    texts = write_texts(tmp_path / "in", [t * times for t in some_texts(30, num_words=900)])
    raw = a_tokenizer(num_words) if num_words else b""
    dataset = build(tmp_path / "set", texts, raw=raw).dataset
    network = FakeNetwork()
    ours, theirs = network.host(1), network.host(2)
    ids = dataset.manifest.num_token_ids
    data, messages = await publish(a_file("./set", ids), tmp_path, some_blobs(tmp_path, ours))
    assert data.dtype == dtype
    assert data.train_bytes > 1 << 20
    assert any("checking the dataset set" in text for text in messages)

    node = a_node(some_blobs(tmp_path, theirs), theirs)
    run = a_run(a_file("./set", ids), data)
    tokens = await token_source(node, run)
    assert await token_source(node, run) is tokens
    assert tokens.dtype == np.dtype(dtype)
    assert isinstance(tokens, np.memmap)
    assert np.array_equal(tokens, open_tokens(tmp_path / "set" / "train.bin", dtype))
    inputs_BT, labels_BT = windows(tokens, [0, len(tokens) - 17], 16)
    assert int(labels_BT[1, -1]) == int(tokens[-1])
    assert inputs_BT.shape == (2, 16)
    assert not num_words or node.blobs.path(data.tokenizer_root).read_bytes() == raw
    assert network.hosts[theirs.peer].blamed == []


@pytest.mark.rule("N16")
async def test_a_fetch_goes_on_where_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first chunks arrive, the next ones never do, and the node stops."""
    texts = write_texts(tmp_path / "in", [t * 1200 for t in some_texts(30)])
    build(tmp_path / "set", texts)
    network = FakeNetwork()
    ours, theirs = network.host(1), network.host(2)
    data, _ = await publish(a_file("./set", 256), tmp_path, some_blobs(tmp_path, ours))
    node = a_node(some_blobs(tmp_path, theirs), theirs)
    run = a_run(a_file("./set", 256), data)
    num_chunks = -(-data.train_bytes // TENSOR_CHUNK_BYTES)
    assert num_chunks >= 5
    asked: list[list[int]] = []
    answer, fetch = ours.answer, node.blobs.fetch

    async def note(asker: PeerId, protocol: str, request: bytes) -> bytes:
        message = decode_blob_request(request)
        if isinstance(message, BlobChunksRequest):
            asked.append(list(range(message.first, message.first + message.count)))
        return await answer(asker, protocol, request)

    async def answer_once(asker: PeerId, protocol: str, request: bytes) -> bytes:
        if asked:
            await trio.sleep_forever()
        return await note(asker, protocol, request)

    with trio.fail_after(60), trio.CancelScope() as scope:

        def stop(held: int, _: int) -> None:
            if held:
                scope.cancel()

        async def watched(root: Digest, num_bytes_max: int, peers: Peers, _: Progress) -> Path:
            return await fetch(root, num_bytes_max, peers, stop)

        monkeypatch.setattr(ours, "answer", answer_once)
        monkeypatch.setattr(node.blobs, "fetch", watched)
        await token_source(node, run)
    assert scope.cancelled_caught
    assert not node.blobs.has(data.train_root)
    held = asked[0]
    asked.clear()
    monkeypatch.setattr(ours, "answer", note)
    monkeypatch.setattr(node.blobs, "fetch", fetch)
    await token_source(node, run)
    assert sorted(index for some in asked for index in some) == [
        index for index in range(num_chunks) if index not in held
    ], "what is held is not asked for again"


async def test_what_a_peer_fetched_it_gives_on_held_out_text_and_tokenizer_too(
    tmp_path: Path,
) -> None:
    texts = write_texts(tmp_path / "in", [t * 520 for t in some_texts(30, num_words=900)])
    build(tmp_path / "set", texts, raw=a_tokenizer(), heldout_every=3)
    network = FakeNetwork()
    first, second, third = (network.host(number) for number in (1, 2, 3))
    data, _ = await publish(a_file("./set"), tmp_path, some_blobs(tmp_path, first))
    run = a_run(a_file("./set"), data)
    for host in (second, third):
        node = a_node(some_blobs(tmp_path, host), host)
        tokens = await token_source(node, run)
        await keep_heldout(node, run)
        first.is_alive = False
    assert np.array_equal(tokens, open_tokens(tmp_path / "set" / "train.bin", data.dtype))
    heldout = node.blobs.path(data.heldout_root).read_bytes()
    assert heldout == (tmp_path / "set" / "heldout.bin").read_bytes()
    assert node.blobs.has(data.tokenizer_root)
    assert third.calls[second.peer, BLOB_PROTOCOL] > data.train_bytes // TENSOR_CHUNK_BYTES


async def test_a_peer_that_serves_another_text_is_named_and_the_text_comes_from_others(
    tmp_path: Path,
) -> None:
    """A peer whose disk is rotten would notice; this one lies on purpose, one byte in each answer."""
    texts = write_texts(tmp_path / "in", [t * 600 for t in some_texts(30)])
    build(tmp_path / "set", texts)
    network = FakeNetwork()
    honest, cheat, theirs = (network.host(number) for number in (1, 2, 3))
    data, _ = await publish(a_file("./set", 256), tmp_path, some_blobs(tmp_path, honest))
    some_blobs(tmp_path, cheat)
    answer = cheat.answer

    async def lie(asker: PeerId, protocol: str, request: bytes) -> bytes:
        await answer(asker, protocol, request)
        raw = await honest.answer(asker, protocol, request)
        middle = len(raw) // 2
        return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]

    cheat.answer = lie  # type: ignore[method-assign]
    node = a_node(some_blobs(tmp_path, theirs), theirs)
    tokens = await token_source(node, a_run(a_file("./set", 256), data))
    assert np.array_equal(tokens, open_tokens(tmp_path / "set" / "train.bin"))
    assert [peer for peer, _ in theirs.blamed] == [cheat.peer]
    assert isinstance(theirs.blamed[0][1], BrokenPromise)


async def test_a_text_over_the_quota_is_refused_with_the_bound_and_its_key(tmp_path: Path) -> None:
    """Before a byte of it is written; one that a part is here of is refused alike."""
    texts = write_texts(tmp_path / "in", [t * 1200 for t in some_texts(30)])
    build(tmp_path / "set", texts)
    network = FakeNetwork()
    ours, theirs = network.host(1), network.host(2)
    data, _ = await publish(a_file("./set", 256), tmp_path, some_blobs(tmp_path, ours))
    run = a_run(a_file("./set", 256), data)
    small = data.train_bytes - 1
    node = a_node(some_blobs(tmp_path, theirs, quota=small), theirs)
    with pytest.raises(BadConfig, match=rf"do not fit: 0 of {small >> 20} MiB") as caught:
        await token_source(node, run)
    assert caught.value.hint == "raise disk_quota_mb in node.toml"
    assert node.stats.waits_for == ""

    node = a_node(some_blobs(tmp_path, theirs, quota=data.train_bytes + 4096), theirs)
    await token_source(node, run)
    await keep_heldout(node, run)
    assert "disk_quota_mb" in node.report.texts()[-1]
    assert not node.blobs.has(data.heldout_root)


async def test_a_part_of_a_text_is_no_text_of_a_run_that_calls_it_smaller(tmp_path: Path) -> None:
    """Neither the peer that has it nor our disk is at fault: the run is."""
    texts = write_texts(tmp_path / "in", [t * 1200 for t in some_texts(30)])
    build(tmp_path / "set", texts)
    network = FakeNetwork()
    ours, theirs = network.host(1), network.host(2)
    data, _ = await publish(a_file("./set", 256), tmp_path, some_blobs(tmp_path, ours))
    node = a_node(some_blobs(tmp_path, theirs), theirs)
    less = a_run(a_file("./set", 256), replace(data, train_bytes=data.train_bytes - 1))
    with pytest.raises(Unreachable, match="the peer that named it promised at most"):
        await token_source(node, less)
    assert theirs.blamed == []


async def test_a_dataset_that_changed_is_refused_with_its_chunk(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "in", [t * 600 for t in some_texts(30)])
    build(tmp_path / "set", texts, raw=a_tokenizer())
    path = tmp_path / "set" / "train.bin"
    with path.open("r+b") as file:
        file.seek((1 << 20) + 3)
        file.write(b"\xff\xff\xff")
    blobs = some_blobs(tmp_path, FakeNetwork().host(1))
    with pytest.raises(VerificationFailed, match=r"train\.bin: chunk 1 of") as caught:
        await publish(a_file("./set"), tmp_path, blobs)
    assert caught.value.exit_code == 6
    assert blobs.roots() == []


@pytest.mark.rule("N16", "S2")
async def test_tokens_beyond_the_vocabulary_are_refused(tmp_path: Path) -> None:
    """By the model of the run file, by the manifest that lies, and by the peer that fetches a lie."""
    texts = write_texts(tmp_path / "in", some_texts(30))
    dataset = build(tmp_path / "set", texts, raw=a_tokenizer()).dataset
    network = FakeNetwork()
    ours, theirs = network.host(1), network.host(2)
    blobs = some_blobs(tmp_path, ours)
    with pytest.raises(BadConfig, match="vocab_size 512 is below the 1001 token ids"):
        await publish(a_file("./set", 512), tmp_path, blobs)

    from swarm.primitives.codec import encode

    lie = replace(dataset.manifest, num_token_ids=300, separator=0)
    (tmp_path / "set" / "manifest.bin").write_bytes(encode(lie))
    with pytest.raises(VerificationFailed, match="and there are 300 ids"):
        await publish(a_file("./set", 512), tmp_path, blobs)

    manifest = dataset.manifest
    shape = (manifest.num_tokens(manifest.train),)
    root = await blobs.add(tmp_path / "set" / "train.bin", dtype="uint16", shape=shape)
    tokenizer = await blobs.add(a_tokenizer())
    data = DataSpec(
        tokenizer="file",
        train_root=root,
        train_bytes=2 * shape[0],
        heldout_root=root,
        heldout_bytes=2,
        dtype="uint16",
        num_token_ids=300,
        tokenizer_root=tokenizer,
    )
    node = a_node(some_blobs(tmp_path, theirs), theirs)
    with pytest.raises(BadConfig, match="and there are 300 ids"):
        await token_source(node, a_run(a_file("./set", 512), data))


async def test_a_run_that_calls_its_text_another_width_is_refused_and_the_disk_is_not_blamed(
    tmp_path: Path,
) -> None:
    """Whether the blob was here before or not: a stranger's run must not stop a node that checks it."""
    network = FakeNetwork()
    ours, theirs = network.host(1), network.host(2)
    root = await some_blobs(tmp_path, ours).add(bytes(range(200)) * 10)
    node = a_node(some_blobs(tmp_path, theirs), theirs)
    honest = DataSpec("bytes", root, 2000, NO_DIGEST, 1)
    wide = DataSpec(
        tokenizer="file",
        train_root=root,
        train_bytes=2000,
        heldout_root=root,
        heldout_bytes=2,
        dtype="uint16",
        num_token_ids=60_000,
        tokenizer_root=Digest(b"t" * 32),
    )
    for data in (wide, replace(honest, train_bytes=2400)):
        for _ in range(2):
            with pytest.raises(BadConfig, match="which it is not"):
                await node.artifacts.tokens(fakes.a_run(small_run_spec(data=data)))
    tokens = await node.artifacts.tokens(fakes.a_run(small_run_spec(data=honest)))
    assert len(tokens) == 2000


async def test_a_text_too_short_for_one_window_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "set", write_texts(tmp_path / "in", [b"a", b"b"]), heldout_every=2)
    blobs = some_blobs(tmp_path, FakeNetwork().host(1))
    with pytest.raises(BadConfig, match="2 training and 2 held-out tokens, with windows of 16"):
        await publish(a_file("./set", 256), tmp_path, blobs)
    with pytest.raises(BadConfig, match="there is no dataset"):
        await publish(a_file("./none", 256), tmp_path, blobs)


async def test_a_quota_is_reported_and_a_second_launch_copies_nothing(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "in", some_texts(30))
    build(tmp_path / "set", texts)
    host = FakeNetwork().host(1)
    with pytest.raises(BadConfig, match="do not fit") as caught:
        await publish(a_file("./set", 256), tmp_path, some_blobs(tmp_path, host, quota=100))
    assert caught.value.hint == "raise disk_quota_mb in node.toml"
    blobs = some_blobs(tmp_path, host)
    data, first = await publish(a_file("./set", 256), tmp_path, blobs)
    again, second = await publish(a_file("./set", 256), tmp_path, blobs)
    assert again == data
    assert any("publishing" in text for text in first)
    assert not any("publishing" in text for text in second)


async def test_a_tokenizer_that_no_peer_serves_is_waited_for_in_vain(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    host = FakeNetwork().host(1)
    blobs = some_blobs(tmp_path, host)
    data = DataSpec(
        tokenizer="file",
        train_root=NO_DIGEST,
        train_bytes=2,
        heldout_root=NO_DIGEST,
        heldout_bytes=2,
        dtype="uint16",
        num_token_ids=300,
        tokenizer_root=Digest(b"t" * 32),
    )
    with pytest.raises(Unreachable, match="no peer serves"):
        await token_source(a_node(blobs, host), a_run(a_file("./set"), data))


async def test_a_dataset_of_another_hash_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "in", some_texts(30))
    found = build(tmp_path / "set", texts).dataset.manifest.digest.hex()
    blobs = some_blobs(tmp_path, FakeNetwork().host(1))
    pinned = "ab" * 32
    with pytest.raises(VerificationFailed) as caught:
        await publish(a_file("./set", 256, f'dataset_hash = "{pinned}"'), tmp_path, blobs)
    assert (found in str(caught.value), pinned in str(caught.value)) == (True, True)
    assert blobs.roots() == []
    await publish(a_file("./set", 256, f'dataset_hash = "{found}"'), tmp_path, blobs)


async def test_a_joiner_serves_its_own_dataset_if_it_is_that_of_the_run(tmp_path: Path) -> None:
    """No peer is asked for anything; another dataset, a chunk or a size that lies is named, and not served."""
    texts = write_texts(tmp_path / "in", [text * 600 for text in some_texts(30)])
    for name, raw in (("set", a_tokenizer()), ("other", b"")):
        build(tmp_path / name, texts, raw=raw)
    ours, theirs = (FakeNetwork().host(number) for number in (1, 2))
    data, _ = await publish(a_file("./set"), tmp_path, some_blobs(tmp_path, ours))
    blobs, report = some_blobs(tmp_path, theirs), EventLog(tmp_path, None)
    other = open_dataset(tmp_path / "other").manifest.train.root
    with pytest.raises(VerificationFailed) as caught:
        await adopt_dataset(tmp_path / "other", data, blobs, report)
    assert data.train_root.hex() in str(caught.value)
    assert other.hex() in str(caught.value)
    with pytest.raises(BadConfig, match="there is no dataset"):
        await adopt_dataset(tmp_path / "gone", data, blobs, report)
    path = tmp_path / "set" / "heldout.bin"
    complete = path.read_bytes()
    for lie in (complete + b"\x01\x00", complete[:-2], b"\x01\x00" + complete[2:]):
        path.write_bytes(lie)
        with pytest.raises(VerificationFailed, match=r"heldout\.bin"):
            await adopt_dataset(tmp_path / "set", data, blobs, report)
    assert blobs.roots() == []
    path.write_bytes(complete)
    await adopt_dataset(tmp_path / "set", data, blobs, report)
    assert set(blobs.roots()) == {data.train_root, data.heldout_root, data.tokenizer_root}
    assert len(await token_source(a_node(blobs, theirs), a_run(a_file("./set"), data))) > 0
