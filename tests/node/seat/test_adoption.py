"""A restarted seat continues from the committed state of a replica; false and missing answers cost time
only.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import trio

from swarm.config.spec import RunSpec
from swarm.errors import Unreachable
from swarm.events import EventKind
from swarm.gossip.blobs.service import Blobs
from swarm.ledger.state.records import (
    NO_ROLLBACK,
    Checkpoint,
    Rollback,
    RoundInfo,
    Run,
    Seat,
    SegmentPhase,
)
from swarm.node.seat.adoption import StateServer, adopt_from_replica, former_state, keep_shard
from swarm.primitives.codec import encode
from swarm.primitives.codec import replace as changed
from swarm.primitives.commitments import hash_of
from swarm.training.averaging.adoption import (
    ADOPTION_PROTOCOL,
    AdoptedState,
    StateFound,
    StateMissing,
    StateRequest,
    decode_reply,
    parts_given,
)
from swarm.training.record.restore import adopted_shard
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.transcript import state_root
from tests.fakes import FakeHost, FakeNetwork
from tests.node.fakes import FakeArtifacts, FakeLedger, FakeNode, FakeStore, a_run, unused
from tests.training.test_shard import MUON_SPEC, PLAN, SPEC, TOKENS, a_last_stage, a_request

STAGE = StageIndex(1)
RUN = RunIndex(1)
ROUND = RoundIndex(6)
SENDERS = (1, 2)
NEWCOMER = 3


def a_trained_shard(steps: int = 3, spec: RunSpec = SPEC) -> Shard:
    shard = a_last_stage(spec)
    for step in range(steps):
        shard.loss(TOKENS, PLAN, a_request(step), 0)
        shard.step(PLAN, step)
    shard.begin_segment()
    return shard


@dataclass
class FakeSegment:
    """A committed segment, as far as it is read here."""

    end_root: Digest
    accusations: tuple[str, ...] = ()
    phase: SegmentPhase | None = None
    checks: tuple[object, ...] = ()


class Ledger(FakeLedger):
    """Final state as far as it is read here; commits appear at the height the test says."""

    def __init__(self, run: Run) -> None:
        self.height = Height(100)
        self.segments: dict[tuple[int, int], tuple[int, FakeSegment]] = {}
        self.current = run
        self.state = self

    def commit(self, index: int, round_: int, root: Digest, height: int = 100) -> None:
        self.segments[index, round_] = (height, FakeSegment(root))

    def segment(self, run: int, round_: int, stage: int, index: int) -> FakeSegment | None:
        assert (run, stage) == (RUN, STAGE)
        height, record = self.segments.get((index, round_), (0, None))
        return record if record is not None and self.height >= height else None

    def run(self, _: RunIndex) -> Run:
        return self.current


@dataclass
class Adopter(FakeNode):
    """A node with real blobs on fake links."""

    host: FakeHost = field(default_factory=unused)
    blobs: Blobs = field(default_factory=unused)


class ReplicaGroup:
    """Two seats that have committed and a newcomer, all in one stage."""

    def __init__(
        self, tmp_path: Path, *, rollback: Rollback = NO_ROLLBACK, spec: RunSpec = SPEC
    ) -> None:
        self.network = FakeNetwork(delay_s=0.001)
        rollbacks = (NO_ROLLBACK, rollback)
        self.run = a_run(spec, rollbacks=rollbacks)
        self.ledger = Ledger(self.run)
        self.nodes = {n: self._node(tmp_path, n) for n in (*SENDERS, NEWCOMER)}
        seats = tuple(self._seat(number) for number in self.nodes)
        self.change(((), seats))
        self.shards = {number: a_trained_shard(number + 1, spec) for number in SENDERS}

    def change(self, seats: tuple[tuple[Seat, ...], ...], *, is_begun: bool = True) -> None:
        """Let every node see a roster."""
        begun = RoundInfo(
            round=RoundIndex(ROUND + 1),
            height=Height(99),
            beacon=NO_DIGEST,
            seats=seats,
            drawn=(),
            consensus=-1,
            price=1,
        )
        self.run = changed(self.run, seats=seats, rounds=(begun,) if is_begun else ())
        self.ledger.current = self.run
        for node in self.nodes.values():
            node.run = self.run

    def _node(self, tmp_path: Path, number: int) -> Adopter:
        host, home = self.network.host(number), tmp_path / str(number)
        return Adopter(
            host.peer,
            home,
            run=self.run,
            run16=self.run.spec.digest[:16],
            host=host,
            ledger=self.ledger,
            blobs=Blobs(home / "blobs", host, quota_bytes=1 << 30),
            artifacts=FakeArtifacts(),
            store=FakeStore(),
        )

    def _seat(self, number: int) -> Seat:
        is_new = number == NEWCOMER
        last = -1 if is_new else ROUND
        joined = RoundIndex(ROUND + 1 if is_new else 0)
        peer = self.nodes[number].host.peer
        tokens = 0 if is_new else 1000
        return Seat(
            stage=STAGE,
            index=number,
            peer=peer,
            joined_round=joined,
            last_commit_round=last,
            last_end_root=NO_DIGEST,
            last_tokens=tokens,
            is_volunteer=False,
            last_verified_round=-1,
            is_on_trial=False,
            ask=0,
            seated_ask=0,
        )

    async def close(self, number: int, *, round_: int = ROUND, height: int = 100) -> None:
        """A sender ends a segment: saved on its disk, committed at a height."""
        shard, node = self.shards[number], self.nodes[number]
        await keep_shard(node, self.run, self._seat(number), shard, RoundIndex(round_))
        self.ledger.commit(number, round_, state_root(shard.components()), height)

    async def settle(self) -> "ReplicaGroup":
        for number in SENDERS:
            await self.close(number)
            StateServer(self.nodes[number]).serve()
        return self

    async def adopt(self) -> tuple[AdoptedState, str] | None:
        with trio.fail_after(120):
            return await adopt_from_replica(self.nodes[NEWCOMER], self.run, STAGE)

    async def ask(self, sender: int, request: bytes, asker: int = NEWCOMER) -> object:
        host = self.nodes[asker].host
        peer = self.nodes[sender].host.peer
        return decode_reply(await host.call(peer, ADOPTION_PROTOCOL, request, timeout_s=30))

    def giver_of(self, adopted: AdoptedState) -> int:
        (number,) = [
            n for n in SENDERS if torch.equal(self.shards[n].optimizer.v_A, adopted.optimizer.v_A)
        ]
        return number


REQUEST = {n: encode(StateRequest(RUN, STAGE, n)) for n in (*SENDERS, NEWCOMER)}


@pytest.mark.rule("N9", "T20d")
@pytest.mark.parametrize("spec", [SPEC, MUON_SPEC], ids=["adamw", "muon"])
async def test_a_newcomer_goes_on_from_what_a_replica_committed(
    tmp_path: Path, spec: RunSpec
) -> None:
    """With the second moments, which Muon has of AdamW's part alone; first moments and Muon's begin anew."""
    group = await ReplicaGroup(tmp_path, spec=spec).settle()
    found = await group.adopt()
    assert found is not None
    adopted, origin = found
    source = group.shards[group.giver_of(adopted)]
    assert torch.equal(adopted.phi_P, source.phi_P)
    assert adopted.optimizer.step == source.optimizer.step
    assert (adopted.optimizer.v_A.numel() < adopted.phi_P.numel()) == (spec is MUON_SPEC)
    assert bool(source.optimizer.m_P.any())
    assert not bool(adopted.optimizer.m_P.any() or adopted.momentum_P.any())
    anchor = (source.anchor_P, source.anchor_root)
    newcomer = adopted_shard(group.run.spec, STAGE, adopted, anchor, trio.current_time)
    newcomer.loss(TOKENS, PLAN, a_request(0), 0)
    assert newcomer.step(PLAN, 0) is not None
    assert newcomer.optimizer.step == source.optimizer.step + 1
    assert not torch.equal(newcomer.params_P, source.phi_P)
    assert f"committed in round {ROUND}" in origin
    assert group.nodes[NEWCOMER].blobs.roots() == [], "nothing is left on the disk"
    assert not [node for node in group.nodes.values() if node.host.blamed or node.report.events]


async def test_slow_weights_that_were_posted_meanwhile_stay_for_those_who_fetch_the_checkpoint(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    roots = {n: hash_of(group.shards[n].phi_P) for n in SENDERS}
    posted = tuple(
        Checkpoint(
            round=RoundIndex(ROUND + 1),
            height=Height(100),
            peer=group.nodes[n].host.peer,
            phi_root=root,
            phi_bytes=4 * group.shards[n].phi_P.numel(),
            seat=n,
            is_void=False,
        )
        for n, root in roots.items()
    )
    group.ledger.current = changed(group.run, checkpoints=((), posted))
    found = await group.adopt()
    assert found is not None
    assert group.nodes[NEWCOMER].blobs.roots() == [roots[group.giver_of(found[0])]]


async def test_a_commit_that_is_still_on_its_way_is_waited_for(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    for number in SENDERS:
        await group.close(number, round_=ROUND + 1, height=103)
    found = await group.adopt()
    assert found is not None
    assert f"round {ROUND + 1}" in found[1]
    assert group.ledger.height == 103


async def test_commits_that_never_come_are_not_waited_for_longer_than_a_round(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    for number in SENDERS:
        await group.close(number, round_=ROUND + 1, height=10_000)
    assert await group.adopt() is None
    assert group.ledger.height == 100 + SPEC.round_blocks


@pytest.mark.rule("N9")
async def test_the_dead_are_passed_over(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    group.nodes[1].host.is_alive = False
    found = await group.adopt()
    assert found is not None
    assert group.giver_of(found[0]) == 2
    group.nodes[2].host.is_alive = False
    assert await group.adopt() is None
    assert not group.nodes[NEWCOMER].host.blamed


@pytest.mark.rule("N9")
async def test_a_replica_that_lies_is_blamed_and_nothing_is_taken(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    for number in SENDERS:
        group.ledger.commit(number, ROUND, Digest(b"\x01" * 32))
    assert await group.adopt() is None
    blamed = {peer for peer, _ in group.nodes[NEWCOMER].host.blamed}
    assert blamed == {group.nodes[n].host.peer for n in SENDERS}


@pytest.mark.rule("N9", "L117")
async def test_nothing_is_taken_from_a_segment_that_is_disputed_was_undone_or_not_shown(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path, rollback=Rollback(2, ROUND + 1)).settle()
    assert await group.adopt() is None
    group = await ReplicaGroup(tmp_path / "again").settle()
    for _, record in group.ledger.segments.values():
        record.accusations = ("one",)
    assert await group.adopt() is None
    group = await ReplicaGroup(tmp_path / "unshown").settle()
    anew = tuple(changed(seat, anew_round=ROUND + 1) for seat in group.run.seats[STAGE])
    group.change(((), anew))
    assert await group.adopt() is None
    assert not group.nodes[NEWCOMER].host.blamed


@pytest.mark.rule("N9a")
async def test_who_has_left_the_stage_since_still_gives_what_it_had(tmp_path: Path) -> None:
    """The newcomer sits alone: those that held the stage left at the boundary, and are still there."""
    group = await ReplicaGroup(tmp_path).settle()
    before = group.run.rounds
    group.change(((), group.run.seats[STAGE][-1:]))
    group.run = changed(group.run, rounds=(*before, *group.run.rounds))
    group.ledger.current = group.run
    for node in group.nodes.values():
        node.run = group.run
    found = await group.adopt()
    assert found is not None
    assert group.giver_of(found[0]) in SENDERS
    forgotten = changed(group.run, rounds=group.run.rounds[-1:])
    for node in group.nodes.values():
        node.run = forgotten
    assert isinstance(await group.ask(1, REQUEST[1]), StateMissing), "its round is kept no more"


@pytest.mark.rule("N9a")
async def test_a_stage_that_was_yielded_is_taken_up_again_where_it_was_left(tmp_path: Path) -> None:
    group = ReplicaGroup(tmp_path)
    node, refused = group.nodes[1], set[Digest]()

    def known(root: Digest) -> bool:
        return root not in refused

    assert await former_state(node, group.run, STAGE, 7, known) is None
    await group.close(1, round_=4)
    found = await former_state(node, group.run, STAGE, 7, known)
    assert found is not None
    assert found[1] == 4
    assert torch.equal(found[0].optimizer.v_A, group.shards[1].optimizer.v_A)
    assert await former_state(node, group.run, STAGE, 1, known) is None, "that is the seat itself"
    newer = group.shards[2]
    await keep_shard(node, group.run, changed(group._seat(1), index=5), newer, RoundIndex(9))
    newest = await former_state(node, group.run, STAGE, 7, known)
    assert newest is not None
    assert newest[1] == 9
    refused.add(state_root(newer.components()))
    older = await former_state(node, group.run, STAGE, 7, known)
    assert older is not None
    assert older[1] == 4, "a segment that was refused is nothing to begin from"
    (node.home / "seats").joinpath(f"{node.run16.hex()}-{STAGE}-5.bin").write_bytes(b"junk")
    again = await former_state(node, group.run, STAGE, 7, known)
    assert again is not None
    assert again[1] == 4, "a damaged one is passed over"


async def test_states_are_for_those_who_sit_in_the_stage(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    assert isinstance(await group.ask(1, REQUEST[1]), StateFound)
    for request in (
        REQUEST[2],
        encode(StateRequest(RunIndex(9), STAGE, 1)),
        encode(StateRequest(RUN, StageIndex(0), 1)),
        encode(StateRequest(RUN, StageIndex(-1), 1)),
        encode(StateRequest(RUN, StageIndex(77), 1)),
    ):
        assert isinstance(await group.ask(1, request), StateMissing)
    stranger = group.network.host(9)
    peer = group.nodes[1].host.peer
    raw = await stranger.call(peer, ADOPTION_PROTOCOL, REQUEST[1], timeout_s=30)
    assert isinstance(decode_reply(raw), StateMissing)


async def test_a_newer_state_takes_the_place_of_the_older_one(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    first = await group.ask(1, REQUEST[1])
    assert await group.ask(1, REQUEST[1]) == first
    group.shards[1] = a_trained_shard(5)
    await trio.to_thread.run_sync(_later, tmp_path / "1")
    await group.close(1, round_=ROUND + 1)
    second = await group.ask(1, REQUEST[1])
    assert isinstance(first, StateFound)
    assert isinstance(second, StateFound)
    assert second.round == ROUND + 1
    blobs = group.nodes[1].blobs
    assert all(map(blobs.has, parts_given(second.components)))
    assert not blobs.has(parts_given(first.components)[1])


def _later(home: Path) -> None:
    """The clocks of some disks are coarse: a file that is replaced must not look unchanged."""
    for path in (home / "seats").iterdir():
        path.unlink()


async def test_a_damaged_shard_and_a_full_disk_give_nothing_and_are_reported(
    tmp_path: Path,
) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    (path,) = (tmp_path / "1" / "seats").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert isinstance(await group.ask(1, REQUEST[1]), StateMissing)
    node = group.nodes[2]
    node.blobs = Blobs(tmp_path / "full", group.network.host(20), quota_bytes=10)
    assert isinstance(await group.ask(2, REQUEST[2]), StateMissing)
    assert group.nodes[1].report.kinds() == node.report.kinds() == [EventKind.WARNING]


@pytest.mark.parametrize("raw", [b"", b"\xc1", bytes(200), bytes(100_000)])
async def test_junk_is_blamed(tmp_path: Path, raw: bytes) -> None:
    group = await ReplicaGroup(tmp_path).settle()
    with pytest.raises(Unreachable):
        await group.ask(1, raw)
    assert [peer for peer, _ in group.nodes[1].host.blamed] == [group.nodes[NEWCOMER].host.peer]


async def test_without_a_round_or_a_replica_there_is_no_peer_to_ask(tmp_path: Path) -> None:
    group = ReplicaGroup(tmp_path)
    seats = group.run.seats
    group.change(seats, is_begun=False)
    assert await group.adopt() is None
    (alone,) = [seat for seat in seats[1] if seat.index == NEWCOMER]
    group.change(((), (alone,)))
    assert await group.adopt() is None
    assert PeerId(alone.peer) == group.nodes[NEWCOMER].me
