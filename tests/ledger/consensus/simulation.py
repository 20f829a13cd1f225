"""A network of consensus machines in virtual time, and everything that must stay true of it.

Every validator is the real machine, driven from one heap of (time, number, event). A seed decides the
scenario, the losses and the crashes; what a validator saved survives its crash, nothing else does.
"""

import hashlib
import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from swarm.errors import PeerFault
from swarm.ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    Block,
    Certificate,
    Validator,
    block_digest,
)
from swarm.ledger.consensus.branch import FinalPoint
from swarm.ledger.consensus.journal import Journal, ProposalRecord, load_journal
from swarm.ledger.consensus.simplex import (
    Behind,
    Effect,
    Finalized,
    Muted,
    Save,
    Send,
    Simplex,
    batches_of,
    records_of,
)
from swarm.ledger.consensus.timers import TimerParams
from swarm.ledger.consensus.votes import Electorate, Equivocation, Proposal, Statement, Vote
from swarm.primitives.crypto import SecretKey
from swarm.types import NO_DIGEST, Amount, Digest, Height, View
from tests.ledger.consensus.attackers import Equivocator, Forger, Plot, Whisperer
from tests.ledger.consensus.plain import CHAIN, PlainElectorate, PlainExecutor, is_bad
from tests.ledger.consensus.scenarios import SCENARIOS, Scenario

PACE = TimerParams(interval_s=1.0, delta_s=1.0)


def name_of(seed: int) -> str:
    """The scenario of a seed."""
    return sorted(SCENARIOS)[seed % len(SCENARIOS)]


def a_world(seed: int) -> "World":
    """The world of a seed, before anything has happened."""
    return World(SCENARIOS[name_of(seed)], seed)


@dataclass
class Replica:
    """One validator's process: the machine, and the disk that outlives it."""

    index: int
    secret: SecretKey
    machine: Simplex | None = None
    before: Simplex | None = None
    """The machine of the epoch before, which only answers."""
    is_up: bool = False
    """True while the process runs; it has no machine in an epoch in which it is no validator."""
    disk: dict[bytes, bytes] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal.empty)
    chain: list[Block] = field(default_factory=list)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    timer_at: float = float("inf")
    dies_in_midsentence: bool = False
    lives: int = 0
    silent_through: int = -1
    """Last epoch in which nothing is signed, since votes were forgotten."""


@dataclass(frozen=True)
class Found:
    """Evidence that was found: whom it accuses, who found it, and in which view."""

    evidence: Equivocation
    accused: int
    finder: int
    view: View


class World:
    """All replicas, the links between them, and everything that must stay true."""

    pace = PACE

    def __init__(
        self, scenario: Scenario, seed: int, keys: Sequence[SecretKey] = (), chain: Digest = CHAIN
    ) -> None:
        self.scenario, self.rng, self.chain = scenario, random.Random(seed), chain
        self.false = frozenset((*scenario.equivocators, *scenario.forgers))
        self.seed, self.now, self.number, self.num_statements = seed, 0.0, 0, 0
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        secrets = keys or [SecretKey.from_seed(bytes([i]) * 32) for i in range(scenario.count)]
        powers = scenario.powers or (1,) * scenario.count
        self.validators = [
            Validator(s.peer, Amount(p)) for s, p in zip(secrets, powers, strict=True)
        ]
        self.electorates: dict[int, Electorate] = {}
        self.replicas = [Replica(i, secret) for i, secret in enumerate(secrets)]
        self.final: dict[int, Digest] = {}
        self.claimed: dict[tuple[int, int, int, int], Vote] = {}
        """Votes of honest validators, by epoch, voter, kind and view."""
        self.signed: dict[tuple[int, int, int, Digest], dict[int, bytes]] = {}
        """Voters by epoch, kind, view and block, those that break the rules included."""
        self.plot = Plot(self.rng)
        self.proposed: dict[tuple[int, int], Digest] = {}
        """Blocks that honest leaders proposed, by epoch and view."""
        self.blocks: dict[Digest, Block] = {}
        """Every block that was proposed or saved."""
        self.found: list[Found] = []
        self.num_refused = 0
        """Statements of forgers that were found to be their fault."""
        self.log = hashlib.sha256()

    def electorate(self, epoch: int) -> Electorate:
        if epoch not in self.electorates:
            sets, count = (
                self.scenario.sets or (range(self.scenario.count),),
                self.scenario.epoch_blocks,
            )
            members = [self.validators[i] for i in sets[epoch % len(sets)]]
            last = (epoch + 1) * count - 1
            seed = hashlib.sha256(b"%d/%d" % (self.seed, epoch)).digest()
            kind = Electorate if self.scenario.real_keys else PlainElectorate
            self.electorates[epoch] = kind(self.chain, members, seed, epoch=epoch, last=last)
        return self.electorates[epoch]

    def replica_of(self, electorate: Electorate, index: int) -> Replica:
        peer = electorate.validators[index].peer
        return next(replica for replica in self.replicas if replica.secret.peer == peer)

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.heap, (when, self.number, what))

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen, up to the end or until this is true."""
        scenario = self.scenario
        for replica in self.replicas:
            self.boot(replica)
        for index in scenario.crashes:
            when = 2.0
            while (when := when + self.rng.uniform(1.0, 6.0)) < scenario.heals_s:
                back = when + self.rng.uniform(0.1, 4.0)
                self.at(when, partial(self.crash, self.replicas[index]))
                self.at(back, partial(self.boot, self.replicas[index]))
                when = back
        for index in scenario.dead:
            when = scenario.dead_from_s + self.rng.uniform(0.0, 8.0)
            self.at(when, partial(self.crash, self.replicas[index]))
        while self.heap and self.heap[0][0] < scenario.ends_s and not until():
            self.now, number, what = heapq.heappop(self.heap)
            self.log.update(b"%d %r;" % (number, self.now))
            what()

    def boot(self, replica: Replica) -> None:
        if replica.is_up:
            return
        replica.is_up, replica.before = True, None
        replica.lives += 1
        if replica.index in self.scenario.forgetful and replica.disk:
            replica.disk.clear()
            replica.silent_through = max(self.next_epoch(other) for other in self.replicas)
        replica.journal = load_journal(sorted(replica.disk.items()))
        if not replica.disk:
            self.apply(replica, replica.journal.opening())
        self.begin_epoch(replica)

    def next_epoch(self, replica: Replica) -> int:
        """The epoch of the block after those that a replica has."""
        return (len(replica.chain) + 1) // self.scenario.epoch_blocks

    def begin_epoch(self, replica: Replica) -> None:
        """Make the machine of the epoch that a replica has come to, if it is one of its validators."""
        top = replica.chain[-1].header if replica.chain else None
        epoch = self.next_epoch(replica)
        electorate, is_new = self.electorate(epoch), top is None or top.epoch != epoch
        replica.timer_at = float("inf")
        if electorate.index_of(replica.secret.peer) is None:
            replica.machine, replica.dies_in_midsentence = None, False
            self.at(self.now + 0.5, partial(self.follow, replica))
            return
        view = View(0) if top is None or is_new else replica.certificates[top.height].view
        name = self.chain if top is None else block_digest(top)
        kind = self.kind_of(replica)
        replica.machine = kind(
            electorate,
            replica.secret,
            PlainExecutor(replica.secret, name, epoch, self.chain, replica.lives),
            self.pace,
            tip=FinalPoint(Height(len(replica.chain)), view, name),
            certificate=None if is_new else replica.certificates[len(replica.chain)],
            records=replica.journal.records,
            is_muted=epoch <= replica.silent_through,
        )
        if isinstance(replica.machine, Forger):
            replica.machine.plot = self.plot
        self.carry_out(replica, replica.machine.start(self.now))

    def kind_of(self, replica: Replica) -> type[Simplex]:
        if replica.index in self.scenario.forgers:
            return Forger
        if replica.index in self.scenario.equivocators:
            return Whisperer if self.scenario.whispers else Equivocator
        return Simplex

    def turn_epoch(self, replica: Replica) -> None:
        epoch = self.next_epoch(replica)
        machine = replica.machine
        if replica.is_up and (machine is None or machine._electorate.epoch != epoch):
            replica.before = machine
            if machine is not None and not machine.is_over:
                last = machine._electorate.last
                machine.adopt(replica.chain[last - 1], replica.certificates[last], self.now)
            self.begin_epoch(replica)

    def follow(self, replica: Replica) -> None:
        """What a follower does: it asks for final blocks all the time."""
        if replica.is_up and replica.machine is None:
            self.sync(replica)
            if replica.machine is None:
                self.at(self.now + 0.5, partial(self.follow, replica))

    def crash(self, replica: Replica) -> None:
        """Stop at once, or after the next save and before the sends that follow it."""
        if self.rng.random() < 0.5 or replica.machine is None:
            replica.machine, replica.is_up = None, False
        else:
            replica.dies_in_midsentence = True

    def die(self, replica: Replica) -> None:
        replica.machine, replica.is_up, replica.dies_in_midsentence = None, False, False
        if replica.index not in self.scenario.dead:
            self.at(self.now + self.rng.uniform(0.1, 4.0), lambda: self.boot(replica))

    def carry_out(self, replica: Replica, effects: list[Effect]) -> None:
        for record in records_of(effects):
            if isinstance(record, ProposalRecord):
                block = record.proposal.block
                self.blocks[block_digest(block.header)] = block
            self.apply(replica, replica.journal.append(record))
            if replica.dies_in_midsentence:
                self.die(replica)
                return
        for effect in effects:
            match effect:
                case Finalized(blocks, certificate):
                    self.finalize(replica, blocks, certificate)
                case Behind():
                    self.at(self.now + 0.2, lambda: self.sync(replica))
                case Equivocation():
                    self.note(replica, effect)
                case Muted(view):
                    forgot = f"validator {replica.index} lost its memory of {view}"
                    assert replica.index in self.scenario.equivocators, forgot
                case Save() | Send():
                    pass
        if replica.machine is not None:
            self.say(replica, replica.machine, effects)
        self.wind(replica)
        self.turn_epoch(replica)

    def note(self, finder: Replica, evidence: Equivocation) -> None:
        machine = finder.machine
        assert machine is not None, "only a machine finds evidence"
        accused = self.replica_of(machine._electorate, evidence.first.voter)
        self.found.append(Found(evidence, accused.index, finder.index, machine.view))

    def say(self, replica: Replica, machine: Simplex, effects: list[Effect]) -> None:
        electorate = machine._electorate
        batches = batches_of(effects, me=machine.me, count=len(electorate))
        for index, statements in sorted(batches.items()):
            to = self.replica_of(electorate, index).index
            self.deliver(replica.index, to, statements, electorate.epoch)

    def deliver(self, sender: int, to: int, statements: list[Statement], epoch: int) -> None:
        scenario, is_healed = self.scenario, self.now >= self.scenario.heals_s
        for statement in statements:
            self.hear(statement, self.replicas[sender], epoch)
        self.num_statements += len(statements)
        is_parted = (sender in scenario.left_side) != (to in scenario.left_side)
        if is_parted and 8.0 <= self.now < 20.0:
            return
        if not is_healed and self.rng.random() < scenario.loss:
            return
        slowest = 0.3 if is_healed else scenario.delay_max_s
        for statement in statements:
            when = self.now + self.rng.uniform(0.02, slowest)
            self.at(when, partial(self.receive, self.replicas[to], statement, sender, epoch))

    def receive(self, replica: Replica, statement: Statement, sender: int, epoch: int) -> None:
        if not replica.is_up:
            return
        peer = self.replicas[sender].secret.peer
        for machine in (replica.machine, replica.before):
            if machine is not None and machine._electorate.epoch == epoch:
                index = machine._electorate.index_of(peer)
                assert index is not None
                try:
                    effects = machine.receive(statement, index, self.now)
                except PeerFault:
                    self.num_refused += 1
                    if sender not in self.scenario.forgers:
                        raise
                    return
                if machine is replica.machine:
                    self.carry_out(replica, effects)
                else:
                    assert not records_of(effects), "an epoch that is over is voted on"
                    self.say(replica, machine, effects)
                return
        if epoch > self.next_epoch(replica):
            self.at(self.now + 0.2, partial(self.sync, replica))

    def wind(self, replica: Replica) -> None:
        """Set the alarm of a replica to its machine's deadline; a later alarm is superseded."""
        machine = replica.machine
        if machine is not None and (deadline := machine.deadline) < replica.timer_at:
            replica.timer_at = deadline
            self.at(max(deadline, self.now), partial(self.ring, replica, machine, deadline))

    def ring(self, replica: Replica, machine: Simplex, timer_at: float) -> None:
        if replica.machine is machine and replica.timer_at == timer_at:
            replica.timer_at = float("inf")
            if machine.deadline <= self.now:
                self.carry_out(replica, machine.expire(self.now))
            else:
                self.wind(replica)

    def sync(self, replica: Replica) -> None:
        """What the shell's bulk sync does: all final blocks of somebody who is further."""
        if not replica.is_up:
            return
        if replica.dies_in_midsentence:
            self.die(replica)
            return
        other = max(self.replicas, key=lambda r: len(r.chain) if r.is_up else -1)
        epoch_blocks = self.scenario.epoch_blocks
        epoch = (len(replica.chain) + 1) // epoch_blocks
        count = min(len(other.chain), (epoch + 1) * epoch_blocks - 1)
        while count not in other.certificates and count > len(replica.chain):
            count -= 1
        if count <= len(replica.chain):
            return
        certificate = other.certificates[count]
        replica.chain = other.chain[:count]
        replica.certificates[count] = certificate
        self.apply(replica, replica.journal.prune(epoch, certificate.view))
        if (count + 1) // epoch_blocks != epoch or replica.machine is None:
            self.turn_epoch(replica)
            self.at(self.now + 0.2, partial(self.sync, replica))
            return
        executor = replica.machine._executor
        assert isinstance(executor, PlainExecutor)
        assert executor.known is not None
        executor.known.add(certificate.block)
        self.carry_out(replica, replica.machine.adopt(replica.chain[-1], certificate, self.now))

    def finalize(self, replica: Replica, blocks: tuple[Block, ...], last: Certificate) -> None:
        for block in blocks:
            header, name = block.header, block_digest(block.header)
            assert header.height == len(replica.chain) + 1
            assert header.parent == (
                block_digest(replica.chain[-1].header) if replica.chain else self.chain
            )
            electorate = self.electorate(header.epoch)
            leader = electorate.validators[electorate.leader(header.view)].peer
            assert header.leader == leader, "a final block of a validator that did not lead"
            assert not is_bad(block), "a final block that is invalid"
            assert self.final.setdefault(header.height, name) == name, "two final blocks"
            assert header.epoch == header.height // self.scenario.epoch_blocks
            replica.chain.append(block)
        assert last.block == block_digest(replica.chain[-1].header)
        replica.certificates[len(replica.chain)] = last
        self.apply(replica, replica.journal.prune(replica.chain[-1].header.epoch, last.view))

    def apply(self, replica: Replica, changes: list[tuple[str, bytes, bytes | None]]) -> None:
        for _, key, value in changes:
            if value is None:
                del replica.disk[key]
            else:
                replica.disk[key] = value

    def hear(self, statement: Statement, sender: Replica, epoch: int) -> None:
        """Note what is said, and check that the honest keep the rules."""
        is_honest = sender.index not in self.false
        match statement:
            case Vote(kind, view, block, voter):
                if sender.index not in self.scenario.forgers or voter == sender.index:
                    self.signed.setdefault((epoch, kind, view, block), {})[voter] = b""
                if is_honest:
                    assert epoch > sender.silent_through, "signs though it has forgotten votes"
                    self.remember(statement, epoch)
            case Proposal(view, block):
                name = block_digest(block.header)
                self.blocks[name] = block
                known = self.proposed.setdefault((epoch, view), name) if is_honest else name
                assert known == name, "proposed twice"
            case _:
                pass

    def remember(self, vote: Vote, epoch: int) -> None:
        """An honest validator never takes a word back, crash or no crash."""
        key = (epoch, vote.voter, vote.kind, vote.view)
        if key not in self.claimed and vote.kind == NOTARIZE:
            self.check_justified(vote, epoch)
        assert self.claimed.setdefault(key, vote).block == vote.block, "voted twice"
        rival = {NULLIFY: FINALIZE, FINALIZE: NULLIFY}.get(vote.kind)
        assert rival is None or (epoch, vote.voter, rival, vote.view) not in self.claimed, (
            "nullify and finalize"
        )

    def check_justified(self, vote: Vote, epoch: int) -> None:
        """A quorum notarized the parent of the block, and skipped every view since."""
        assert vote.block in self.blocks, "voted for a block that nobody proposed or saved"
        header = self.blocks[vote.block].header
        if header.view != vote.view:
            return  # the last block of an epoch, proposed again
        parent, electorate = self.blocks.get(header.parent), self.electorate(epoch)
        assert header.height <= electorate.last, "voted for a block after the last of its epoch"
        first = 0
        if parent is not None and parent.header.epoch == epoch:
            first = parent.header.view
            votes = self.signed.get((epoch, NOTARIZE, first, header.parent), {})
            assert electorate.is_quorum(votes), "voted for a block on one that is not certified"
        for view in range(first + 1, vote.view):
            votes = self.signed.get((epoch, NULLIFY, view, NO_DIGEST), {})
            assert electorate.is_quorum(votes), "voted for a block past a view that may be final"

    def live(self) -> None:
        """Run to the end, and check what must be true then."""
        self.run()
        scenario, accused = self.scenario, self.accused
        assert accused <= set(scenario.equivocators), "an honest validator is accused"
        heights = [len(r.chain) for r in self.replicas if r.is_up and r.index not in self.false]
        assert min(heights) >= scenario.height_min, f"heights {heights}"
        if scenario.equivocators and scenario.count > 1:
            assert accused == set(scenario.equivocators), "an equivocator goes free"
        assert bool(self.num_refused) == bool(scenario.forgers), "forgeries are refused"

    @property
    def accused(self) -> set[int]:
        """The replicas against which evidence was found."""
        return {found.accused for found in self.found}
