"""Nodes hold checkpoints for other stages, over blobs in a network in memory, and these outlive their stage."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from torch import Tensor

from swarm.config.schema import NodeConfig
from swarm.errors import InvalidStatement, Reason, Unreachable
from swarm.events import EventKind
from swarm.gossip.blobs.service import Blobs
from swarm.ledger.state.state import State
from swarm.ledger.state.storage import receipts
from swarm.ledger.storage_statements import StorageProof, StoreReceipt
from swarm.ledger.transactions import Body
from swarm.ledger.transition.storage import holders_of, proof_end
from swarm.node.artifacts.cache import ArtifactCache
from swarm.node.artifacts.holding import AGAIN_BLOCKS, RETRY_BLOCKS, Holding
from swarm.node.control import holding as planning
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import SecretKey
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.training.model.stages import plans_of
from swarm.types import Digest, Height, PeerId
from tests.fakes import FakeHost, FakeNetwork
from tests.ledger.storing import SPEC, STAGE, Kept
from tests.node.fakes import FakeLedger, FakeNode

BOUND_S = 30.0
"""Seconds for what takes some milliseconds."""
SIZES = tuple(4 * plan.num_parameters for plan in plans_of(SPEC))


class KeptLedger(FakeLedger):
    """The ledger of the case, to which each statement brings a block."""

    def __init__(self, kept: Kept, secret: SecretKey) -> None:
        self.kept, self.secret = kept, secret
        self.said = list[Body]()
        self.refuses = False

    @property
    def state(self) -> State:
        return self.kept.state

    @property
    def height(self) -> Height:  # type: ignore[override]
        return self.kept.state.height

    async def submit(self, body: Body) -> Digest:
        self.said.append(body)
        if self.refuses:
            raise InvalidStatement(Reason.FULL, "not now")
        assert isinstance(body, StoreReceipt | StorageProof)
        self.kept.submit(body, self.secret)
        return Digest(bytes(32))


class Peer:
    """A node of the case, with blobs of its own."""

    def __init__(
        self,
        folder: Path,
        kept: Kept,
        network: FakeNetwork,
        secret: SecretKey,
        storage_mb: int = 2_000,
    ) -> None:
        folder.mkdir()
        self.kept = kept
        self.host = FakeHost(network, secret)
        network.hosts[secret.peer] = self.host
        host: Any = self.host
        self.blobs = Blobs(folder / "blobs", host, quota_bytes=1 << 26)
        self.store = Store.open(folder / "store.sqlite")
        self.artifacts = ArtifactCache(
            host,
            self.blobs,
            InlineExecutor(lambda _: 0.0),
            self.store,
            holders=lambda run, stage, round_: holders_of(kept.state, run.index, stage, round_),
        )
        self.ledger = KeptLedger(kept, secret)
        artifacts: Any = self.artifacts
        self.node = FakeNode(
            me=secret.peer,
            config=NodeConfig(storage_mb=storage_mb),
            ledger=self.ledger,
            blobs=self.blobs,
            artifacts=artifacts,
        )

    def holding(self, nursery: trio.Nursery) -> Holding:
        node: Any = self.node
        return Holding(node, nursery.start_soon)

    async def step(self, holding: Holding) -> None:
        await holding.step(self.kept.run)

    async def checkpoint(self) -> Tensor:
        return await self.artifacts.checkpoint(self.kept.run, STAGE, self.kept.checkpoint)


class Network:
    """The case as nodes: the poster of stage 0 has its checkpoint, nobody else has anything."""

    def __init__(self, folder: Path, storage_mb: int = 2_000) -> None:
        self.kept = Kept(SPEC, sizes=SIZES)
        self.network = FakeNetwork()
        self.peers = dict[PeerId, Peer]()
        self.folder = folder
        for roster in self.kept.run.seats:
            for seat in roster:
                self.add(self.kept.ledger.key_of(seat.peer), storage_mb)

    def add(self, secret: SecretKey, storage_mb: int = 2_000) -> Peer:
        folder = self.folder / secret.peer.hex()[:8]
        self.peers[secret.peer] = Peer(folder, self.kept, self.network, secret, storage_mb)
        return self.peers[secret.peer]

    @property
    def poster(self) -> Peer:
        return self.peers[self.kept.checkpoint.peer]

    async def publish(self) -> None:
        data = self.kept.weights[STAGE, self.kept.round]
        root = await self.poster.blobs.add(data, dtype="float32", shape=(len(data) // 4,))
        assert root == self.kept.checkpoint.phi_root

    async def drawn(self) -> list[Peer]:
        await self.publish()
        return [self.peers[peer] for peer in self.kept.draw()]

    def die(self, *peers: PeerId) -> None:
        for peer in peers:
            self.network.hosts[peer].is_alive = False


async def until(peer: Peer, holding: Holding, is_over: Callable[[], object]) -> None:
    """Let a node do what is due until something is so."""
    with trio.fail_after(BOUND_S):
        while not is_over():
            await peer.step(holding)
            await trio.sleep(0.01)


async def hold(peer: Peer, nursery: trio.Nursery) -> Holding:
    """Let a node fetch what it is drawn for, and say so."""
    holding, kept = peer.holding(nursery), peer.kept
    await until(peer, holding, lambda: peer.node.me in {h.peer for h in receipts(kept.storage)})
    return holding


@pytest.mark.rule("N23")
async def test_a_drawn_node_fetches_says_so_and_shows_what_each_epoch_draws(tmp_path: Path) -> None:
    network = Network(tmp_path)
    kept = network.kept
    peer, *_ = await network.drawn()
    async with trio.open_nursery() as nursery:
        holding = await hold(peer, nursery)
        mine = [h for h in receipts(kept.storage) if h.peer == peer.node.me]
        assert len(mine) == 1, "one receipt"
        kept.ask()
        while kept.state.height < proof_end(kept.state.params, kept.storage):
            await peer.step(holding)
            kept.tick()
    assert kept.state.contribution(kept.index, peer.node.me).proofs >= 1
    assert peer.node.me in holders_of(kept.state, kept.index, STAGE, kept.round)
    assert not peer.node.report.texts(EventKind.WARNING)


@pytest.mark.rule("L108", "N23")
async def test_a_checkpoint_survives_all_peers_of_its_stage_and_its_poster(tmp_path: Path) -> None:
    """Nobody of the stage is left: a newcomer has its weights from those that were drawn to hold them."""
    network = Network(tmp_path)
    kept = network.kept
    async with trio.open_nursery() as nursery:
        for peer in await network.drawn():
            await hold(peer, nursery)
    assert receipts(kept.storage)
    network.die(*kept.seated(STAGE), kept.checkpoint.peer)
    newcomer = network.add(kept.ledger.keys[20])
    found = await newcomer.checkpoint()
    assert hash_of(found) == kept.checkpoint.phi_root


@pytest.mark.rule("N23")
async def test_without_holders_it_would_be_lost_with_its_stage(tmp_path: Path) -> None:
    network = Network(tmp_path)
    await network.drawn()
    network.die(*network.kept.seated(STAGE), network.kept.checkpoint.peer)
    newcomer = network.add(network.kept.ledger.keys[20])
    with pytest.raises(Unreachable, match="no peer serves"):
        await newcomer.artifacts.checkpoint(
            network.kept.run, STAGE, network.kept.checkpoint, patience_s=0.1
        )


@pytest.mark.rule("N23")
async def test_holders_are_known_from_the_ledger_where_nobody_else_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newcomer that is connected to nobody, and a run without seats: the ledger alone says whom to ask."""
    network = Network(tmp_path)
    kept = network.kept
    peer = (await network.drawn())[0]
    async with trio.open_nursery() as nursery:
        await hold(peer, nursery)
    network.die(kept.checkpoint.peer)
    newcomer = network.add(kept.ledger.keys[20])
    monkeypatch.setattr(newcomer.host, "connected", list)
    monkeypatch.setattr(newcomer.artifacts, "peers_of", lambda _run: [])
    assert hash_of(await newcomer.checkpoint()) == kept.checkpoint.phi_root


@pytest.mark.rule("N24")
async def test_a_node_that_may_hold_nothing_says_so_once_and_gives_no_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(tmp_path, storage_mb=0)
    peer = (await network.drawn())[0]
    monkeypatch.setattr(planning, "guarded_stages", lambda _mine, _num: set[int]())
    async with trio.open_nursery() as nursery:
        holding = peer.holding(nursery)
        for _ in range(3):
            await peer.step(holding)
    assert peer.ledger.said == []
    warned = peer.node.report.texts(EventKind.WARNING)
    assert len(warned) == 1
    assert warned[0].endswith("is not held for others: storage_mb is 0 in node.toml")


@pytest.mark.rule("N23")
async def test_weights_that_cannot_be_had_cost_a_word_and_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poster that serves nobody: no receipt, and nobody is kept from anything else meanwhile."""
    network = Network(tmp_path)
    kept = network.kept
    peer = network.peers[kept.draw()[0]]
    keep = peer.artifacts.keep
    monkeypatch.setattr(peer.artifacts, "keep", partial(keep, patience_s=0.1))
    async with trio.open_nursery() as nursery:
        holding = peer.holding(nursery)
        await until(peer, holding, lambda: peer.node.report.events)
        assert "is not held for others yet: no peer serves" in peer.node.report.texts()[-1]
        assert peer.ledger.said == []
        await network.publish()
        monkeypatch.setattr(peer.artifacts, "keep", keep)
        kept.to_height(kept.state.height + RETRY_BLOCKS)
        await until(peer, holding, lambda: peer.ledger.said)
    assert isinstance(peer.ledger.said[-1], StoreReceipt)


@pytest.mark.rule("N23", "V20")
async def test_damaged_weights_are_never_said_to_be_held_and_are_fetched_again(
    tmp_path: Path,
) -> None:
    network = Network(tmp_path)
    kept = network.kept
    peer = (await network.drawn())[0]
    async with trio.open_nursery() as nursery:
        await peer.artifacts.keep(kept.run, STAGE, kept.checkpoint)
        path = peer.blobs.path(kept.checkpoint.phi_root)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        holding = peer.holding(nursery)
        await peer.step(holding)
        assert peer.ledger.said == []
        assert "are damaged: fetched again" in peer.node.report.texts()[-1]
        assert not peer.blobs.has(kept.checkpoint.phi_root)
        kept.to_height(kept.state.height + AGAIN_BLOCKS)
        await until(peer, holding, lambda: peer.ledger.said)
    assert isinstance(peer.ledger.said[-1], StoreReceipt)
    assert not peer.host.blamed


@pytest.mark.rule("N23")
async def test_a_statement_that_is_refused_is_made_again_later(tmp_path: Path) -> None:
    network = Network(tmp_path)
    kept = network.kept
    peer = (await network.drawn())[0]
    await peer.artifacts.keep(kept.run, STAGE, kept.checkpoint)
    async with trio.open_nursery() as nursery:
        holding = peer.holding(nursery)
        peer.ledger.refuses = True
        for _ in range(AGAIN_BLOCKS):
            await peer.step(holding)
            kept.tick()
        assert len(peer.ledger.said) == 1, "not in every block"
        peer.ledger.refuses = False
        await peer.step(holding)
        again = peer.holding(nursery)
        await peer.step(again)
    assert len(peer.ledger.said) == 2, "a restart says nothing twice: the ledger has it"
    assert receipts(kept.storage)
