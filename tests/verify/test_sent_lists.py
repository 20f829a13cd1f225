"""Lists of what was sent are fetched, checked and compared, and the first proof of a lie is handed in."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from trio.testing import MockClock

from swarm.errors import PeerFault, Unreachable
from swarm.events import EventKind
from swarm.ledger.edges import EdgeMessage
from swarm.ledger.state.records import SegmentPhase, SegmentRecord
from swarm.primitives.codec import encode
from swarm.primitives.codec import replace as changed
from swarm.primitives.crypto import fast_digest
from swarm.primitives.edges import GradientSent, SentEntry, sent_root, signed_bytes
from swarm.store import Store
from swarm.types import NO_DIGEST
from swarm.verify.answers import key_of
from swarm.verify.edges import encode_list
from swarm.verify.sent_lists import SENT_PROTOCOL, SentLists, SentRequest
from tests.fakes import FakeHost, FakeNetwork
from tests.ledger.checking import Case, a_case
from tests.verify.simulated_network import SimulatedNetwork, a_network

WIRE = fast_digest("test", b"wire")
SENT = tuple(SentEntry(0, 0, step, 0, 0, WIRE, WIRE) for step in range(5))


def a_record(sent: tuple[SentEntry, ...] = SENT) -> SegmentRecord:
    return changed(a_case().record, sent_root=sent_root(sent))


@dataclass
class OneRecord:
    """A ledger with one segment on it."""

    record: SegmentRecord | None

    @property
    def state(self) -> "OneRecord":
        return self

    def segment(self, *key: object) -> SegmentRecord | None:
        return self.record if self.record is not None and key == key_of(self.record) else None

    def find_run(self, run: object) -> None:
        """It knows none."""


def lists(
    host: FakeHost, folder: Path, record: SegmentRecord | None, name: str = "store"
) -> SentLists:
    return SentLists(host, OneRecord(record), Store.open(folder / f"{name}.sqlite"))  # type: ignore[arg-type]


@pytest.mark.rule("V37")
async def test_a_list_is_fetched_from_whoever_has_it_and_kept(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The solver serves nothing, the first verifier has nothing: the second has fetched it before."""
    network, record = FakeNetwork(), a_record()
    mine, silent, empty, holder = (network.host(number) for number in range(1, 5))
    await lists(holder, tmp_path, record, "holder").keep(key_of(record), SENT)
    lists(empty, tmp_path, record, "empty")
    own = lists(mine, tmp_path, record, "mine")
    assert not own.has(record)
    peers = (silent.peer, mine.peer, empty.peer, holder.peer)
    assert await own.get(record, peers) == SENT
    assert own.has(record)
    calls = dict(mine.calls)
    assert await own.get(record, peers) == SENT
    assert dict(mine.calls) == calls
    assert mine.blamed == []
    raw = await mine.answer(empty.peer, SENT_PROTOCOL, encode(SentRequest(*key_of(record))))
    assert raw == encode_list(SENT), "who has fetched a list serves it"


@pytest.mark.rule("V37")
@pytest.mark.parametrize(
    "lie", [b"", b"nonsense", encode_list(SENT[1:]), encode_list(SENT) + b"\0"], ids=str
)
async def test_a_list_that_is_not_the_commits_is_its_servers_fault(
    lie: bytes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network, record = FakeNetwork(), a_record()
    mine, liar = network.host(1), network.host(2)

    async def serve_lie(_peer: object, _raw: bytes) -> bytes:
        return lie

    liar.serve(SENT_PROTOCOL, serve_lie, request_limit=64)
    with pytest.raises(Unreachable):
        await lists(mine, tmp_path, record).get(record, (liar.peer,))
    assert [peer for peer, _ in mine.blamed] == [liar.peer]


async def test_a_list_is_served_only_of_a_commit_that_names_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Before its commit, or after a crash and another one, it would accuse an honest seat."""
    network, record = FakeNetwork(), a_record()
    host, asker = network.host(1), network.host(2)
    request = encode(SentRequest(*key_of(record)))
    for number, ledger_has in enumerate((None, a_record(SENT[1:]))):
        own = lists(host, tmp_path, ledger_has, str(number))
        await own.keep(key_of(record), SENT)
        with pytest.raises(Unreachable):
            await host.answer(asker.peer, SENT_PROTOCOL, request)
    for junk in (b"", b"junk", encode((1, 2, 3, -4))):
        with pytest.raises(Unreachable):
            await host.answer(asker.peer, SENT_PROTOCOL, junk)
    assert all(isinstance(fault, PeerFault) for _, fault in host.blamed)


async def test_own_lists_survive_a_restart_and_go_with_their_segment(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    record, host = a_record(), FakeNetwork().host(1)
    await lists(host, tmp_path, record).keep(key_of(record), SENT)
    again = lists(host, tmp_path, record)
    assert await again.get(record, ()) == SENT
    case = a_case()
    await again.tidy(case.ledger.state)
    assert again.has(record)
    case.ledger.empty_blocks(400)
    assert case.ledger.state.segment(*key_of(record)) is None
    await again.tidy(case.ledger.state)
    assert not again.has(record)
    assert not lists(host, tmp_path, record).has(record)


def test_a_seat_that_sent_nothing_has_the_empty_list(tmp_path: Path) -> None:
    assert lists(FakeNetwork().host(1), tmp_path, None).has(a_record(()))
    assert a_record(()).sent_root == NO_DIGEST


# --- comparison ---


def a_lie(case: Case, step: int = 0) -> EdgeMessage:
    """A gradient that the solver signed, of a segment whose list is empty."""
    r, run = case.record, case.run
    unsigned = GradientSent(
        r.run, r.round, step, 0, 0, r.stage, 0, r.seat, 1, 0, r.incarnation, WIRE, -1, 8, WIRE, b""
    )
    chain = case.ledger.state.chain
    signature = case.solver.sign("micro-batch-grad", chain, run.spec_digest, signed_bytes(unsigned))
    return changed(unsigned, signature=signature)


@pytest.mark.rule("V37", "L92")
async def test_a_verifier_that_saw_another_message_has_the_solver_convicted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its own window is right, and nobody judges: every node sees the proof in a block."""
    case = a_case()
    async with a_network(case, tmp_path) as network:
        finder = network.able[0]
        await finder.checks.edges.note([a_lie(case)])
        network.start()
        await network.until_judged()
        await network.blocks(3)
        record = case.record
        assert record.phase is SegmentPhase.GUILTY
        assert record.proved_by == finder.secret.peer
        assert case.stake(case.solver) == 0
        told(network, finder.secret.peer)


def told(network: SimulatedNetwork, finder: bytes) -> None:
    """Every node has said once who was convicted, and who had the proof."""
    for node in network.nodes.values():
        texts = [text for kind, text in node.recorded.events if kind is EventKind.CONVICTED]
        assert len(texts) == 1
        assert "is false by what it signed itself" in texts[0]
    me = next(node for node in network.nodes.values() if node.secret.peer == finder)
    warnings = [text for kind, text in me.recorded.events if kind is EventKind.WARNING]
    assert any("it sent a gradient that its list does not have" in text for text in warnings)


@pytest.mark.rule("V37", "L92")
async def test_a_segment_that_was_verified_and_paid_is_convicted_too(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_case()
    async with a_network(case, tmp_path) as network:
        network.start()
        await network.until_judged()
        assert case.is_now(SegmentPhase.VERIFIED)
        finder = network.able[0]
        await finder.checks.edges.note([a_lie(case)])
        await network.until(SegmentPhase.GUILTY)
        await network.blocks(3)
        told(network, finder.secret.peer)


async def test_honest_messages_are_compared_and_forgotten(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Those of a segment that never came to the ledger, too, and those of our own."""
    case = a_case()
    async with a_network(case, tmp_path) as network:
        watch = network.able[0].checks.edges
        old = changed(a_lie(case), incarnation=-1)
        never = changed(a_lie(case), round=0)
        await watch.note([old, never])
        await network.solver.checks.edges.note([a_lie(case)])
        network.start()
        await network.until_judged()
        await network.blocks(3)
        assert case.is_now(SegmentPhase.VERIFIED)
        assert watch.compared == 1
        assert network.solver.checks.edges.compared == 0
