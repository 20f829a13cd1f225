"""One node checks windows of another at elements, and gets its result, a proof, or somebody to blame."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from swarm.errors import Unreachable, UsageError
from swarm.gossip.blobs.service import Blobs
from swarm.ledger.state.records import Run, SegmentRecord
from swarm.primitives.codec import decode, encode, replace
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.answers import Sought
from swarm.verify.log_store import ShownBlobs
from swarm.verify.ports import LedgerPort
from swarm.verify.program.computed import Log, Step
from swarm.verify.program.opened import Window
from swarm.verify.spots import service
from swarm.verify.spots.checking import Spot
from swarm.verify.spots.exchange import (
    SPOT_PROTOCOL,
    SpotMissing,
    SpotReply,
    request_of,
)
from swarm.verify.spots.proof import FalseTrace
from swarm.verify.spots.service import QUEUE_MAX, SEEDS_MAX, OwnWindow, SpotChecks
from swarm.verify.spots.solving import Solved
from tests.fakes import FakeHost, FakeNetwork
from tests.verify.spots.test_checking import Liar, Sample, with_one_step
from tests.verify.windows import CHAIN

ITEMS = 32


@pytest.fixture(autouse=True)
def _trained() -> None:
    """Train before the clock of a test runs."""
    with_one_step("int8", 1)


class Node:
    """A node with blobs and spot checks; it has the window of a sample if that is its own."""

    def __init__(
        self, host: FakeHost, folder: Path, sample: Sample, items: int, job_s: float = 0.1
    ) -> None:
        self.host, self.network, self.sample = host, host._network, sample
        self.is_admitted = True
        folder.mkdir()
        self.drawn: PeerId | None = None
        self.forced: Digest | None = None
        self.blobs = Blobs(folder / "blobs", host, quota_bytes=1 << 30)
        self.store = Store.open(folder / "store.sqlite")
        ledger = cast("LedgerPort", SimpleNamespace(state=SimpleNamespace(chain=CHAIN)))
        self.checks = SpotChecks(
            host=host,
            secret=host.secret,
            ledger=ledger,
            blobs=self.blobs,
            shelf=ShownBlobs(self.store, self.blobs),
            compute=InlineExecutor(lambda _: job_s),
            turn=self._turn,
            own=self._own,
            spot=self._spot,
            admits=lambda *_: self.is_admitted,
            is_drawn=lambda peer, _: peer == self.drawn,
            forced=lambda peer, _: self.forced if peer == self.drawn else None,
            items=items,
        )

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        yield

    async def _own(self, key: WindowKey) -> OwnWindow:
        spot = self.sample.spot
        if key != spot.key:
            raise Unreachable("not here")
        return OwnWindow(spot.window, self.sample.log, spot)

    async def _spot(self, _: Sought) -> Spot:
        return self.sample.spot


@asynccontextmanager
async def two_nodes(folder: Path, items: int = ITEMS) -> AsyncGenerator[tuple[Node, Node]]:
    """A solver with its window, at work, and a verifier."""
    sample, network = with_one_step("int8", 1), FakeNetwork()
    mine = FakeHost(network, sample.secret)
    network.hosts[mine.peer] = mine
    solver = Node(mine, folder / "solver", sample, items, job_s=5.0)
    verifier = Node(network.host(77), folder / "verifier", sample, items)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(solver.checks.run)
        with trio.fail_after(300):
            yield solver, verifier
        nursery.cancel_scope.cancel()


def sought(sample: Sample, solver: PeerId) -> Sought:
    """The window as the verifier looks for it."""
    record = SimpleNamespace(peer=solver)
    run = SimpleNamespace(spec_digest=sample.spot.plan.run_digest)
    return Sought(sample.spot.key, cast("SegmentRecord", record), cast("Run", run))


async def test_an_honest_window_gives_the_result_of_a_replay(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with two_nodes(tmp_path) as (solver, verifier):
        found = await verifier.checks.check(sought(solver.sample, solver.host.peer))
        assert found.proof is None
        window = solver.sample.spot.key.window
        assert found.result == solver.sample.segment.claims()[window]
        assert not verifier.host.blamed
        again = await verifier.checks.check(sought(solver.sample, solver.host.peer))
        assert again.statement == found.statement


async def test_a_lie_comes_back_as_its_proof(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path, 2048) as (solver, verifier):
        sample = solver.sample
        honest = Step(sample.spot.window, sample.log, 0, sample.log.account)
        lie = (honest.update, honest.program(honest.update).outputs["params"])
        monkeypatch.setattr(service, "Solved", lambda window, log, _: Liar(window, log, lie))
        found = await verifier.checks.check(sought(sample, solver.host.peer))
        assert isinstance(found.proof, FalseTrace)
        sample.check(found.proof)


@pytest.mark.rule("V54")
async def test_a_solver_that_shows_something_else_is_blamed_and_has_served_nothing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path) as (solver, verifier):

        class Forger(Solved):
            def __init__(self, window: Window, log: Log, forced: Digest | None) -> None:
                super().__init__(window, log, forced)
                account = replace(self.opened.account, tokens=1)
                self.opened = replace(self.opened, account=account)

        monkeypatch.setattr(service, "Solved", Forger)
        with pytest.raises(Unreachable, match="nothing that can be checked"):
            await verifier.checks.check(sought(solver.sample, solver.host.peer))
        assert verifier.host.faults() == {solver.host.peer: 1}


@pytest.mark.parametrize("error", [ValueError, IndexError, ZeroDivisionError, UsageError])
async def test_attack_what_would_stop_a_verifier_costs_its_sender_its_standing(
    error: type[Exception],
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise error("a check that is missing")

    async with two_nodes(tmp_path) as (solver, verifier):
        monkeypatch.setattr(service, "check_opened", stop)
        with pytest.raises(Unreachable, match="nothing can be computed with it"):
            await verifier.checks.check(sought(solver.sample, solver.host.peer))
        assert verifier.host.faults() == {solver.host.peer: 1}


async def test_who_has_no_such_window_or_asks_too_often_is_told_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with two_nodes(tmp_path) as (solver, verifier):
        solver.is_admitted = False
        with pytest.raises(Unreachable, match="no such window"):
            await verifier.checks.check(sought(solver.sample, solver.host.peer))


async def test_attack_requests_without_end_keep_a_solver_from_its_verifiers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Each is answered at once and few are computed; whom the ledger waits for goes before them."""
    async with two_nodes(tmp_path) as (solver, verifier):
        key, peer = solver.sample.spot.key, solver.host.peer
        flooding = [verifier.network.host(number) for number in range(80, 120)]

        async def ask(host: FakeHost, seed: bytes) -> SpotReply:
            raw = await host.call(
                peer, SPOT_PROTOCOL, encode(request_of(key, seed)), timeout_s=5.0, reply_limit=2048
            )
            return decode(cast("type[SpotReply]", SpotReply), raw, limit=2048)

        for number, host in enumerate(flooding):
            seeds = [bytes([number, n]) * 16 for n in range(SEEDS_MAX + 2)]
            kinds = [type(await ask(host, seed)) for seed in seeds]
            assert kinds[SEEDS_MAX:] == [SpotMissing] * 2, "a check needs one seed"
        assert len(solver.checks._queue) <= QUEUE_MAX
        solver.drawn = verifier.host.peer
        waiting = len(solver.checks._queue)
        assert waiting > QUEUE_MAX // 2
        found = await verifier.checks.check(sought(solver.sample, peer))
        assert found.proof is None
        assert len(solver.checks._queue) > waiting - 8, "the flood waits"


async def test_what_was_shown_before_a_crash_does_not_stay_on_the_disk(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with two_nodes(tmp_path) as (solver, verifier):
        await verifier.checks.check(sought(solver.sample, solver.host.peer))
        assert len(solver.blobs.roots()) == 2
        assert not verifier.blobs.roots(), "what was checked goes"
        other = await solver.blobs.add(b"a checkpoint")
        shelf = ShownBlobs(solver.store, solver.blobs)
        await shelf.clear()
        assert solver.blobs.roots() == [other]
        await shelf.clear()
        again = await shelf.put(b"shown")
        await shelf.drop(again)
        assert solver.blobs.roots() == [other]


async def test_a_second_try_has_the_same_seed_unless_the_statement_is_another(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Who knew the seed could state something that fits it."""
    async with two_nodes(tmp_path) as (solver, verifier):
        said = (await verifier.checks.check(sought(solver.sample, solver.host.peer))).statement
        seed = verifier.checks._seed_for(said)
        assert seed == verifier.checks._seed_for(said)
        assert seed != verifier.checks._seed_for(replace(said, claim=bytes(32)))
        assert {what[2] for what in solver.checks._made} == {b"", seed}


@pytest.mark.rule("V56")
async def test_one_verifier_is_told_something_false_and_another_the_truth_by_a_statement_for_each(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with two_nodes(tmp_path, 512) as (solver, verifier):
        sample, key = solver.sample, solver.sample.spot.key
        other = Node(verifier.network.host(78), tmp_path / "other", sample, 512)
        solver.drawn, solver.forced = verifier.host.peer, Digest(bytes(32))
        told = await verifier.checks.check(sought(sample, solver.host.peer))
        true = await other.checks.check(sought(sample, solver.host.peer))
        assert isinstance(told.proof, FalseTrace)
        assert told.statement.to == verifier.host.peer
        assert true.proof is None
        assert true.statement.to == other.host.peer
        assert told.statement.claim == true.statement.claim
        assert told.result == true.result
        assert not verifier.host.blamed
        shown = await solver.checks.false_elements(
            key, verifier.host.peer, solver.forced, bytes(32)
        )
        assert {one.statement for one in shown} == {told.statement}, "the one that it looked at"


@pytest.mark.rule("V51")
async def test_a_statement_for_somebody_else_is_not_served(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path) as (solver, verifier):
        signed, another = solver.checks._signed, verifier.network.host(79).peer
        monkeypatch.setattr(
            solver.checks, "_signed", lambda stated, own, _: signed(stated, own, another)
        )
        with pytest.raises(Unreachable, match="for somebody else"):
            await verifier.checks.check(sought(solver.sample, solver.host.peer))
        assert verifier.host.faults() == {solver.host.peer: 1}
