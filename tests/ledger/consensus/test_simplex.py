"""No fault makes two final blocks at one height or convicts an honest validator, and all heal.

Every validator is the real machine, driven from one heap of (time, number, event). A seed decides the
scenario, the losses and the crashes; what a validator saved survives its crash, nothing else does.
"""

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from swarm.errors import (
    BadSignature,
    InvalidStatement,
    OutOfTurn,
    PeerFault,
    Reason,
    VerificationFailed,
)
from swarm.ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    VRF_PROOF_BYTES,
    Block,
    Certificate,
    Header,
    Validator,
    block_digest,
    body_root,
)
from swarm.ledger.consensus.branch import FinalPoint
from swarm.ledger.consensus.journal import Journal, load_journal
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
from swarm.ledger.consensus.votes import (
    Electorate,
    Equivocation,
    Proof,
    Proposal,
    Request,
    Statement,
    Vote,
)
from swarm.primitives.crypto import SecretKey, digest
from swarm.types import NO_DIGEST, Amount, Digest, Height, View

CHAIN = digest("genesis", b"a chain")
PACE = TimerParams(interval_s=1.0, delta_s=1.0)
NUM_SEEDS = 200


class PlainElectorate(Electorate):
    """Signatures that name their signer and cost nothing; everything else is real."""

    def sign_vote(self, secret: SecretKey, kind: int, view: View, block: Digest) -> Vote:
        index = self.index_of(secret.peer)
        assert index is not None
        return Vote(kind, view, block, index, self._mark(index, kind, view, block))

    def check_vote(self, vote: Vote) -> None:
        if vote.signature != self._mark(vote.voter, vote.kind, vote.view, vote.block):
            raise BadSignature("forged")

    def sign_proposal(
        self, secret: SecretKey, view: View, block: Block, certificates: tuple[Certificate, ...]
    ) -> Proposal:
        return Proposal(view, block, certificates, secret.peer * 2)

    def check_proposal(self, proposal: Proposal) -> None:
        self.check_place(proposal)
        leader = self.leader(proposal.view)
        if proposal.signature != self.validators[leader].peer * 2:
            raise BadSignature("forged")

    def check_certificate(self, certificate: Certificate) -> None:
        voters = [i for i in range(len(self)) if certificate.bitmap >> i & 1]
        marks = [
            self._mark(i, certificate.kind, certificate.view, certificate.block) for i in voters
        ]
        if list(certificate.signatures) != marks or not self.is_quorum(dict.fromkeys(voters, b"")):
            raise BadSignature("forged")

    def _mark(self, voter: int, kind: int, view: int, block: bytes) -> bytes:
        return _mark(voter, kind, view, block, self.epoch)


def _mark(voter: int, kind: int, view: int, block: bytes, epoch: int = 0) -> bytes:
    return b"%d/%d/%d/%d/" % (voter, kind, view, epoch) + block


class PlainExecutor:
    """Blocks without transactions; a body that says so is bad."""

    def __init__(self, secret: SecretKey, tip: Digest | None = None, epoch: int = 0) -> None:
        self.secret, self.epoch = secret, epoch
        self.twist = b""
        self.known = None if tip is None else {tip}
        """With a ``tip``, the blocks whose state is here; they alone can be built on."""

    def build(self, parent: Digest, height: Height, view: View) -> Block:
        transactions = (self.twist,) if self.twist else ()
        proof = bytes(VRF_PROOF_BYTES)
        root = body_root(transactions)
        header = Header(
            chain=CHAIN,
            height=height,
            epoch=self.epoch,
            view=view,
            parent=parent,
            state_root=NO_DIGEST,
            body_root=root,
            next_validators=NO_DIGEST,
            vrf_proof=proof,
            leader=self.secret.peer,
        )
        block = Block(header, transactions)
        self._know(block)
        return block

    def validate(self, block: Block) -> None:
        if block.transactions == (b"bad",):
            raise InvalidStatement(Reason.BAD_FIELD, "says so")
        self._know(block)

    def is_complete(self, block: Block) -> bool:
        return block.transactions != (b"unfair",)

    def _know(self, block: Block) -> None:
        if self.known is not None:
            assert block.header.parent in self.known, "a state that the validator does not have"
            self.known.add(block_digest(block.header))


class Equivocator(Simplex):
    """Proposes two blocks in every view it leads, and signs every vote there is."""

    def _propose(self) -> None:
        executor = self._executor
        assert isinstance(executor, PlainExecutor)
        for twist in (b"left", b"right"):
            executor.twist = twist
            self._proposals.pop(self.view, None)
            before = len(self._effects)
            super()._propose()
            wishes, self._effects[before:] = self._effects[before:], []
            half = [i for i in range(len(self._electorate)) if i % 2 == (twist == b"right")]
            for wish in wishes:
                if isinstance(wish, Send) and isinstance(wish.statement, Proposal):
                    self._effects += [Send(i, wish.statement) for i in half if i != self.me]
                else:
                    self._effects.append(wish)

    def _vote(self, kind: int, view: View, block: Digest) -> None:
        for false_kind in (NOTARIZE, NULLIFY, FINALIZE):
            name = NO_DIGEST if false_kind == NULLIFY else block
            if (false_kind == NULLIFY) == (name == NO_DIGEST):
                vote = self._electorate.sign_vote(self._secret, false_kind, view, name)
                self._vote_log.add(vote)
                self._effects.append(Send(None, vote))


@dataclass(frozen=True)
class Scenario:
    """What goes wrong, until it heals."""

    count: int = 4
    powers: tuple[int, ...] = ()
    loss: float = 0.0
    delay_max_s: float = 0.3
    equivocators: tuple[int, ...] = ()
    crashes: tuple[int, ...] = ()
    """Validators that stop at random times, several times, and come back."""
    dead: tuple[int, ...] = ()
    """Validators that stop once and stay away."""
    dead_from_s: float = 2.0
    """The earliest time at which they stop; the latest is 8 s later."""
    left_side: tuple[int, ...] = ()
    """Cut off from the others between 8 s and 20 s."""
    heals_s: float = 20.0
    ends_s: float = 60.0
    height_min: int = 8
    """Blocks everybody alive must have at the end."""
    epoch_blocks: int = 1 << 20
    sets: tuple[tuple[int, ...], ...] = ()
    """Validators of each epoch, over and over; empty: all of them in every epoch."""


SCENARIOS = {
    "one validator": Scenario(1, height_min=50),
    "one validator crashes": Scenario(1, crashes=(0,)),
    "two validators, loss": Scenario(2, loss=0.1),
    "two validators, one crashes": Scenario(2, crashes=(1,)),
    "four, clean": Scenario(4, height_min=45),
    "four, loss": Scenario(4, loss=0.1),
    "four, heavy loss": Scenario(4, loss=0.3),
    "four, slow network": Scenario(4, loss=0.05, delay_max_s=3.0),
    "four, slower than the timers": Scenario(
        4, delay_max_s=7.0, heals_s=100.0, ends_s=100.0, height_min=3
    ),
    "four, one dead, loss": Scenario(4, loss=0.1, dead=(3,)),
    "four, one crashes, loss": Scenario(4, loss=0.1, crashes=(2,)),
    "four, all crash": Scenario(4, loss=0.05, crashes=(0, 1, 2, 3)),
    "four, equivocator, loss": Scenario(4, loss=0.1, equivocators=(1,)),
    "four, equivocator, slow network": Scenario(4, loss=0.05, delay_max_s=3.0, equivocators=(1,)),
    "four, halves parted": Scenario(4, left_side=(0, 1)),
    "four, one parted, loss": Scenario(4, left_side=(2,), loss=0.05),
    "five, weighted, light equivocator": Scenario(5, (40, 15, 15, 15, 15), 0.1, equivocators=(2,)),
    "five, one holds two thirds": Scenario(5, (90, 5, 5, 5, 5), 0.1, crashes=(1, 2), dead=(3,)),
    "seven, one dead, equivocator, loss": Scenario(7, loss=0.1, equivocators=(1,), dead=(3,)),
    "seven, two equivocators, crash": Scenario(7, loss=0.1, equivocators=(1, 4), crashes=(2,)),
    "seven, parted": Scenario(7, left_side=(0, 1, 2)),
    "short epochs, one validator": Scenario(1, epoch_blocks=3, height_min=50),
    "short epochs, clean": Scenario(4, epoch_blocks=2, height_min=40),
    "short epochs, heavy loss": Scenario(4, loss=0.3, epoch_blocks=3),
    "short epochs, slow network": Scenario(4, loss=0.05, delay_max_s=3.0, epoch_blocks=3),
    "short epochs, all crash": Scenario(4, loss=0.05, crashes=(0, 1, 2, 3), epoch_blocks=4),
    "short epochs, equivocator": Scenario(4, loss=0.1, equivocators=(1,), epoch_blocks=3),
    "founder hands over, then dies": Scenario(
        5,
        (),
        0.05,
        dead=(0,),
        dead_from_s=14.0,
        epoch_blocks=5,
        sets=((0,), (0,), *((0, 1, 2, 3, 4),) * 50),
    ),
    "strangers take turns": Scenario(
        8, loss=0.1, epoch_blocks=4, sets=((0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7), (6, 7, 0, 1))
    ),
    "strangers take turns, crashes": Scenario(
        8, loss=0.1, crashes=(1, 4, 6), epoch_blocks=4, sets=((0, 1, 2, 3), (4, 5, 6, 7))
    ),
    "strangers take turns, parted": Scenario(
        8, left_side=(0, 4), epoch_blocks=5, sets=((0, 1, 2, 3), (4, 5, 6, 7))
    ),
}


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


class World:
    """All replicas, the links between them, and everything that must stay true."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.rng = scenario, random.Random(seed)
        self.now, self.number, self.num_statements = 0.0, 0, 0
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        secrets = [SecretKey.from_seed(bytes([i]) * 32) for i in range(scenario.count)]
        powers = scenario.powers or (1,) * scenario.count
        self.validators = [
            Validator(s.peer, Amount(p)) for s, p in zip(secrets, powers, strict=True)
        ]
        self.electorates: dict[int, PlainElectorate] = {}
        self.replicas = [Replica(i, secret) for i, secret in enumerate(secrets)]
        self.final: dict[int, Digest] = {}
        self.claimed: dict[tuple[int, int, int, int], Digest] = {}
        self.evidence: list[Equivocation] = []
        self.log = hashlib.sha256()

    def electorate(self, epoch: int) -> PlainElectorate:
        if epoch not in self.electorates:
            sets, count = (
                self.scenario.sets or (range(self.scenario.count),),
                self.scenario.epoch_blocks,
            )
            members = [self.validators[i] for i in sets[epoch % len(sets)]]
            last = (epoch + 1) * count - 1
            seed = bytes([epoch % 256]) * 32
            self.electorates[epoch] = PlainElectorate(CHAIN, members, seed, epoch=epoch, last=last)
        return self.electorates[epoch]

    def replica_of(self, electorate: Electorate, index: int) -> Replica:
        peer = electorate.validators[index].peer
        return next(replica for replica in self.replicas if replica.secret.peer == peer)

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.heap, (when, self.number, what))

    def run(self) -> None:
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
        while self.heap and self.heap[0][0] < scenario.ends_s:
            self.now, number, what = heapq.heappop(self.heap)
            self.log.update(b"%d %r;" % (number, self.now))
            what()

    def boot(self, replica: Replica) -> None:
        if replica.is_up:
            return
        replica.is_up, replica.before = True, None
        replica.journal = load_journal(sorted(replica.disk.items()))
        if not replica.disk:
            self.apply(replica, replica.journal.opening())
        self.begin_epoch(replica)

    def begin_epoch(self, replica: Replica) -> None:
        """Make the machine of the epoch that a replica has come to, if it is one of its validators."""
        top = replica.chain[-1].header if replica.chain else None
        epoch = (len(replica.chain) + 1) // self.scenario.epoch_blocks
        electorate, is_new = self.electorate(epoch), top is None or top.epoch != epoch
        replica.timer_at = float("inf")
        if electorate.index_of(replica.secret.peer) is None:
            replica.machine, replica.dies_in_midsentence = None, False
            self.at(self.now + 0.5, partial(self.follow, replica))
            return
        view = View(0) if top is None or is_new else replica.certificates[top.height].view
        name = CHAIN if top is None else block_digest(top)
        kind = Equivocator if replica.index in self.scenario.equivocators else Simplex
        replica.machine = kind(
            electorate,
            replica.secret,
            PlainExecutor(replica.secret, name, epoch),
            PACE,
            tip=FinalPoint(Height(len(replica.chain)), view, name),
            certificate=None if is_new else replica.certificates[len(replica.chain)],
            records=replica.journal.records,
        )
        self.carry_out(replica, replica.machine.start(self.now))

    def turn_epoch(self, replica: Replica) -> None:
        epoch = (len(replica.chain) + 1) // self.scenario.epoch_blocks
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
                    self.evidence.append(effect)
                case Muted(view):
                    raise AssertionError(f"validator {replica.index} lost its memory of {view}")
                case Save() | Send():
                    pass
        if replica.machine is not None:
            self.say(replica, replica.machine, effects)
        self.wind(replica)
        self.turn_epoch(replica)

    def say(self, replica: Replica, machine: Simplex, effects: list[Effect]) -> None:
        electorate = machine._electorate
        batches = batches_of(effects, me=machine.me, count=len(electorate))
        for index, statements in sorted(batches.items()):
            to = self.replica_of(electorate, index).index
            self.deliver(replica.index, to, statements, electorate.epoch)

    def deliver(self, sender: int, to: int, statements: list[Statement], epoch: int) -> None:
        scenario, is_healed = self.scenario, self.now >= self.scenario.heals_s
        for statement in statements:
            if sender not in scenario.equivocators and isinstance(statement, Vote):
                self.remember(statement, epoch)
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
                effects = machine.receive(statement, index, self.now)
                if machine is replica.machine:
                    self.carry_out(replica, effects)
                else:
                    assert not records_of(effects), "an epoch that is over is voted on"
                    self.say(replica, machine, effects)
                return
        if epoch > (len(replica.chain) + 1) // self.scenario.epoch_blocks:
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
                block_digest(replica.chain[-1].header) if replica.chain else CHAIN
            )
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

    def remember(self, vote: Vote, epoch: int) -> None:
        """An honest validator never takes a word back, crash or no crash."""
        key = (epoch, vote.voter, vote.kind, vote.view)
        assert self.claimed.setdefault(key, vote.block) == vote.block, "voted twice"
        rival = {NULLIFY: FINALIZE, FINALIZE: NULLIFY}.get(vote.kind)
        assert rival is None or (epoch, vote.voter, rival, vote.view) not in self.claimed, (
            "nullify and finalize"
        )


@pytest.mark.rule("L31a", "S9")
@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_whatever_fails_there_is_one_chain_and_it_grows_again(seed: int) -> None:
    name = sorted(SCENARIOS)[seed % len(SCENARIOS)]
    scenario = SCENARIOS[name]
    world = World(scenario, seed)
    replay = f'{name}; replay: pytest "{__file__}" -k "grows_again and {seed}]"'
    try:
        world.run()
    except AssertionError as error:
        raise AssertionError(f"{error}; {replay}") from error
    accused = {evidence.first.voter for evidence in world.evidence}
    assert accused <= set(scenario.equivocators), f"an honest validator is accused; {replay}"
    alive = [r for r in world.replicas if r.is_up and r.index not in scenario.equivocators]
    heights = [len(replica.chain) for replica in alive]
    assert min(heights) >= scenario.height_min, f"heights {heights}; {replay}"
    if scenario.equivocators and scenario.count > 1:
        assert accused == set(scenario.equivocators), f"an equivocator goes free; {replay}"


def test_a_seed_is_a_whole_history() -> None:
    logs = list[bytes]()
    for seed in (9, 9, 10):
        world = World(SCENARIOS["four, equivocator, loss"], seed)
        world.run()
        logs.append(world.log.digest())
    assert logs[0] == logs[1] != logs[2]


def a_quartet() -> tuple[list[Replica], PlainElectorate]:
    world = World(Scenario(4), 0)
    for replica in world.replicas:
        replica.machine = Simplex(
            world.electorate(0),
            replica.secret,
            PlainExecutor(replica.secret),
            PACE,
            tip=FinalPoint(Height(0), View(0), CHAIN),
            certificate=None,
        )
    return world.replicas, world.electorate(0)


def votes_in(effects: list[Effect], kind: int) -> list[Vote]:
    said = [effect.statement for effect in effects if isinstance(effect, Send)]
    return [vote for vote in said if isinstance(vote, Vote) and vote.kind == kind]


@pytest.mark.rule("L32", "S9")
def test_a_vote_is_saved_before_it_is_sent() -> None:
    replicas, electorate = a_quartet()
    machine = replicas[electorate.leader(View(1))].machine
    assert machine is not None
    effects = machine.start(0.0) + machine.expire(0.0)
    saved = 0
    for effect in effects:
        saved += isinstance(effect, Save)
        is_word = isinstance(effect, Send) and not isinstance(effect.statement, Request)
        assert not is_word or saved
    assert votes_in(effects, NOTARIZE)


@pytest.mark.rule("L34")
def test_blocks_come_at_the_interval() -> None:
    world = World(SCENARIOS["four, clean"], 3)
    world.run()
    assert 50 <= len(world.replicas[0].chain) <= 60


@pytest.mark.rule("L34")
def test_a_proposal_that_comes_early_is_voted_for_when_the_interval_has_passed() -> None:
    replicas, electorate = a_quartet()
    leaders = [electorate.leader(View(view)) for view in (1, 2)]
    me = next(i for i in range(4) if i not in leaders)
    machine = replicas[me].machine
    assert machine is not None
    machine.start(5.0)

    def proposed(height: int, parent: Digest) -> tuple[Proposal, int]:
        leader = leaders[height - 1]
        executor = PlainExecutor(replicas[leader].secret)
        block = executor.build(parent, Height(height), View(height))
        return electorate.sign_proposal(
            replicas[leader].secret, block.header.view, block, ()
        ), leader

    first, leader = proposed(1, CHAIN)
    name = block_digest(first.block.header)
    assert votes_in(machine.receive(first, leader, 5.0), NOTARIZE)
    for other in (i for i in range(4) if i != me):
        vote = electorate.sign_vote(replicas[other].secret, NOTARIZE, View(1), name)
        machine.receive(vote, other, 5.1)
    assert machine.view == 2
    early = machine.receive(*proposed(2, name), 5.2)
    assert not votes_in(early + machine.expire(5.9), NOTARIZE)
    assert machine.deadline == 6.0
    assert votes_in(machine.expire(6.0), NOTARIZE)


def test_a_bad_block_is_nullified_not_notarized() -> None:
    replicas, electorate = a_quartet()
    leader = electorate.leader(View(1))
    executor = PlainExecutor(replicas[leader].secret)
    executor.twist = b"bad"
    block = executor.build(CHAIN, Height(1), View(1))
    proposal = electorate.sign_proposal(replicas[leader].secret, block.header.view, block, ())
    machine = next(r.machine for r in replicas if r.index != leader)
    assert machine is not None
    machine.start(0.0)
    effects = machine.receive(proposal, leader, 0.1)
    assert votes_in(effects, NULLIFY)
    assert not votes_in(effects, NOTARIZE)


@pytest.mark.rule("L58")
def test_an_unfair_block_is_nullified_and_followed_where_others_notarize_it() -> None:
    replicas, electorate = a_quartet()
    leader = electorate.leader(View(1))
    executor = PlainExecutor(replicas[leader].secret)
    executor.twist = b"unfair"
    block = executor.build(CHAIN, Height(1), View(1))
    proposal = electorate.sign_proposal(replicas[leader].secret, block.header.view, block, ())
    others = [i for i in range(4) if i != leader]
    machine = replicas[others[0]].machine
    assert machine is not None
    machine.start(0.0)
    effects = machine.receive(proposal, leader, 0.1)
    assert votes_in(effects, NULLIFY)
    assert not votes_in(effects, NOTARIZE)
    name, voters = block_digest(block.header), sorted({0, 1, 2, 3} - {others[0]})
    marks = tuple(_mark(i, NOTARIZE, 1, name) for i in voters)
    notarized = Certificate(NOTARIZE, View(1), name, sum(1 << i for i in voters), marks)
    machine.receive(Proof(notarized), leader, 0.2)
    assert machine.view == 2, "three of four saw it otherwise: it is built on"


def test_a_bad_block_that_a_quorum_finalized_ends_the_validator() -> None:
    """It cannot be built on, and no honest validator signed it."""
    replicas, electorate = a_quartet()
    leader = electorate.leader(View(1))
    executor = PlainExecutor(replicas[leader].secret)
    executor.twist = b"bad"
    block = executor.build(CHAIN, Height(1), View(1))
    name, others = block_digest(block.header), [i for i in range(4) if i != leader]
    machine, me = replicas[others[0]].machine, others[0]
    assert machine is not None
    machine.start(0.0)
    machine.receive(
        electorate.sign_proposal(replicas[leader].secret, block.header.view, block, ()), leader, 0.1
    )
    voters = sorted(i for i in range(4) if i != me)
    marks = tuple(_mark(i, FINALIZE, 1, name) for i in voters)
    final = Certificate(FINALIZE, View(1), name, sum(1 << i for i in voters), marks)
    with pytest.raises(VerificationFailed, match="signed a bad block"):
        machine.receive(Proof(final), leader, 0.2)


def test_what_no_honest_validator_sends_is_the_peers_fault_and_changes_nothing() -> None:
    replicas, electorate = a_quartet()
    machine, me = replicas[0].machine, 0
    assert machine is not None
    machine.start(0.0)
    vote = electorate.sign_vote(replicas[1].secret, NOTARIZE, View(1), CHAIN)
    leader = electorate.leader(View(1))
    stranger = next(i for i in range(4) if i not in {leader, me})
    block = PlainExecutor(replicas[leader].secret).build(CHAIN, Height(1), View(1))
    certificate = Certificate(NULLIFY, View(1), NO_DIGEST, 1, (_mark(0, 1, 1, NO_DIGEST),))
    cases: list[tuple[Statement, int]] = [
        (vote, 2),
        (Vote(NOTARIZE, View(1), CHAIN, 1, b"forged"), 1),
        (Vote(7, View(1), CHAIN, 1, vote.signature), 1),
        (Vote(NULLIFY, View(1), CHAIN, 1, vote.signature), 1),
        (electorate.sign_proposal(replicas[leader].secret, block.header.view, block, ()), stranger),
        (Proposal(View(1), block, (), b"forged"), leader),
        (Proof(certificate), 1),
        (Request(View(1), blocks=(CHAIN,) * 33), 1),
    ]
    before = machine.deadline
    for statement, sender in cases:
        with pytest.raises(PeerFault):
            machine.receive(statement, sender, 0.1)
        assert (machine.view, machine.deadline) == (1, before)
    with pytest.raises(OutOfTurn):
        machine.receive(vote, 3, 0.1)


@pytest.mark.rule("L32")
def test_whoever_signed_what_its_journal_does_not_hold_votes_no_more() -> None:
    replicas, electorate = a_quartet()
    machine = replicas[0].machine
    assert machine is not None
    machine.start(0.0)
    signatures = tuple(_mark(i, NULLIFY, 1, NO_DIGEST) for i in (0, 1, 2))
    effects = machine.receive(
        Proof(Certificate(NULLIFY, View(1), NO_DIGEST, 7, signatures)), 1, 0.1
    )
    assert [effect for effect in effects if isinstance(effect, Muted)]
    assert machine.view == 2
    later = machine.expire(100.0)
    assert not [e for e in later if isinstance(e, Send) and isinstance(e.statement, Vote)]
    assert electorate.is_quorum(dict.fromkeys((0, 1, 2), b""))
