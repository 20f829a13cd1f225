"""Streams of transactions over all kinds, most of them sensible and many of them wrong, against one ledger.

``Stream`` acts on the dice that it is given: those of Hypothesis, which makes a failing stream short, or those
of a seed. It knows what honest peers, liars, silent ones and nonsense would sign at this height, and checks
after each step what must hold whatever is signed:

    python -m tests.ledger.streams --seeds N [--from N] [--steps N]

plays many (``scripts/soak streams``). In every stream:

* nothing but ``InvalidStatement`` comes out of a transaction, and one that is refused changes nothing;
* money is conserved, counted over all entries;
* the state survives its own encoding, and every accepted transaction has one;
* two transactions that touch different entries commute.

At its end every run and every segment ends by time alone, and all money is in accounts.
"""

import argparse
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from swarm.config.spec import NANO, SPOTS, CheckSpec
from swarm.errors import InvalidStatement
from swarm.ledger.blocks import FINALIZE, NOTARIZE, VOTE_PURPOSES, vote_parts
from swarm.ledger.chain import Head
from swarm.ledger.check_statements import (
    AMOUNT_MAX,
    ForcedError,
    Fraud,
    VerifyCommit,
    VerifyReveal,
)
from swarm.ledger.demands import DemandEntry, ShowEntry
from swarm.ledger.edges import EdgeMessage, sender_of
from swarm.ledger.payouts import find_log
from swarm.ledger.settlement_statements import SettlementKey, SignPayouts, Withdraw
from swarm.ledger.state.records import (
    Check,
    Checkpoint,
    Run,
    RunPhase,
    Seat,
    SegmentPhase,
    SegmentRecord,
)
from swarm.ledger.state.state import State, account_key, audit_supply, decode_state, encode_state
from swarm.ledger.state.storage import Storage, receipts
from swarm.ledger.storage_statements import StoreReceipt
from swarm.ledger.transactions import (
    BackOwner,
    Body,
    ChangeAsk,
    CloseRun,
    ContinueRun,
    Evidence,
    FreeStatement,
    FundRun,
    Join,
    Leave,
    OpenRun,
    PauseRun,
    PostCheckpoint,
    ResumeRun,
    SignedVote,
    Stake,
    Transfer,
    Unstake,
    Validate,
    parse_transaction,
)
from swarm.ledger.transition.apply import apply_block, apply_transaction, begin_block
from swarm.ledger.transition.forced import known_seed
from swarm.ledger.transition.prices import run_deposit
from swarm.ledger.transition.storage import prove_storage
from swarm.primitives.codec import encode
from swarm.primitives.codec import replace as changed
from swarm.primitives.commitments import spot_answer, tensor_hash, verify_commit
from swarm.primitives.crypto import SecretKey, digest, expand
from swarm.primitives.edges import open_place, sent_root
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.primitives.state_parts import PHI
from swarm.testing.ledger import (
    CheckedSegment,
    InMemoryLedger,
    end_components,
    make_segment,
    small_run_spec,
    verifier_salt,
)
from swarm.types import NO_DIGEST, Amount, Digest, PeerId, RoundIndex, StageIndex, View
from tests.ledger.edges import (
    ACTIVATION,
    GRADIENT,
    INCARNATION,
    OFFER,
    SENT,
    lie_of,
    message_of,
    other,
    sign_message,
)
from tests.ledger.forcing import signed
from tests.ledger.scripted import scripted_court
from tests.ledger.statements import contradiction_of

T = TypeVar("T")

MESSAGES: tuple[EdgeMessage, ...] = (ACTIVATION, GRADIENT, OFFER)
REMEMBERED = 8
"""Accepted statements that may be offered again."""
PEERS = 7
"""Keys with an account; the two after them have none."""
VALIDATORS = 4
RUNS_MAX = 3
GOING_ON_STEPS = 30
"""Steps in runs that shareholders go on with, once all others have ended."""
FORGOTTEN_BLOCKS = 80
"""Blocks within which the last round of a run is forgotten after it is settled."""
ENDING_BLOCKS = 1_200
"""Blocks within which everything ends by itself: more than the rounds and the challenge window of a run."""
SETTINGS: dict[str, object] = {
    "price_max": 3,
    "round_blocks": 6,
    "replicas_max": 4,
    "checkpoint_rounds": 1,
    "numerics": "seq-f32/1",
    "checks": CheckSpec(NANO, 5, 30),
}
SPEC = small_run_spec(rounds=5, **SETTINGS)
NATIVE = changed(SPEC, numerics="native")
LOOKED_AT = changed(SPEC, checks=CheckSpec(NANO, 1, 30, way=SPOTS, forced_nano=NANO // 2))
ROLLBACK = changed(SPEC, checks=changed(SPEC.checks, on_fraud="rollback"))
LONG = small_run_spec(num_stages=1, rounds=60, **SETTINGS)
"""A run of which some rounds are trained well: it ends early, and has shares and a checkpoint to go on with."""
WELL_BLOCKS = 7 * LONG.round_blocks


PHI_BYTES = 20_000
"""Bytes of invented slow weights: some 20 leaves."""


def weights_of(where: Sequence[int]) -> bytes:
    """Return the invented slow weights at the end of a segment, by run, round, stage and seat."""
    return expand(encode(tuple(where)), "invented-phi", PHI_BYTES)


def components_of(where: Sequence[int]) -> list[Digest]:
    """Return the parts of the state at the end of a segment, of which the weights can be shown."""
    parts = end_components(encode(tuple(where)))
    parts[PHI] = tensor_hash("float32", (PHI_BYTES // 4,), weights_of(where))
    return parts


def end_of(where: Sequence[int]) -> Digest:
    """Return the root of the state at the end of a segment."""
    return merkle_root(components_of(where))


class Dice(Protocol):
    """Dice: the number of a side, from 0."""

    def __call__(self, sides: int, /) -> int: ...


@dataclass
class Made:
    """A segment as it was computed, and as its solver claims it."""

    true: CheckedSegment
    claimed: CheckedSegment


class PlainLedger(InMemoryLedger):
    """A ledger whose blocks have no header: dice come from the height, nobody signs a block."""

    def block(self, *transactions: bytes, skipped: int = 0) -> State:
        self.head = Head(self.head.digest, self.after(transactions, skipped))
        return self.state

    def after(self, transactions: tuple[bytes, ...], skipped: int = 0) -> State:
        """The state after a block with these transactions."""
        view = View(self.state.globals.view + 1 + skipped)
        return apply_block(
            self.state, transactions, leader=self.leader(), beta=self.beta(), view=view
        )

    def leader(self) -> PeerId:
        voters = self.state.validators
        return voters[self.state.height % len(voters)].peer

    def beta(self) -> bytes:
        height = (self.state.height + 1).to_bytes(8, "big")
        return digest("beta", height) + digest("beta", height, b"2")


@dataclass
class Stream:
    """One history under way."""

    dice: Dice
    ledger: PlainLedger = field(
        default_factory=lambda: PlainLedger(PEERS, VALIDATORS, epoch_blocks=16, stake_segments=20)
    )
    made: dict[tuple[int, int, int, int], Made] = field(
        default_factory=dict[tuple[int, int, int, int], Made]
    )
    weights: dict[Digest, bytes] = field(default_factory=dict[Digest, bytes])
    """Weights of the checkpoints that were offered."""
    body: list[bytes] = field(default_factory=list[bytes])
    """What the next block has so far."""
    accepted: list[bytes] = field(default_factory=list[bytes])
    refusals: dict[str, int] = field(default_factory=dict[str, int])
    kinds: dict[str, int] = field(default_factory=dict[str, int])

    def run(self, steps: int) -> None:
        """Act so many times, then let time pass until all is over; moves are read by the scripted court."""
        with scripted_court():
            self._run(steps)

    def _run(self, steps: int) -> None:
        if self.dice(4) == 0:
            self._train_well()
        self._offer(self.key(0), self._open())
        for voter in self.state.validators if self.dice(2) else ():
            self._offer(self.ledger.key_of(voter.peer), self._settlement_key(voter.peer))
        for _ in range(steps):
            self.step()
        self.end()
        if self._go_on():
            for _ in range(GOING_ON_STEPS):
                self.step()
            self.end()

    def step(self) -> None:
        """Sign something, or let time pass."""
        chance = self.dice(16)
        if chance < 5:
            self._pass_time(1 + self.dice(3), skipped=self.dice(8) // 7)
        elif chance < 12 and self.segments():
            self._check(self._one(self.segments()))
        elif chance < 15:
            self._work()
        else:
            self._money()

    def _train_well(self) -> None:
        """Play some rounds in which all do what they should; then the owner stops."""
        self._offer(self.key(0), OpenRun(encode(LONG), Amount(60_000)))
        self._pass_time(1)
        if not self.state.runs():
            return  # it was spoiled
        index = self.state.runs()[-1].index
        self._offer(self.key(1), Join(index))
        for _ in range(WELL_BLOCKS):
            run = self.state.run(index)
            for info in run.rounds[-3:-1]:
                for seat in (seat for roster in info.seats for seat in roster):
                    self._commit_well(run, info.round, seat)
            self._post(run)
            self._hold(run)
            for record in self.segments():
                self._check_well(record)
            self._pass_time(1)
        self._offer(self.key(0), CloseRun(index))

    def _commit_well(self, run: Run, round_: int, seat: Seat) -> None:
        where = (run.index, round_, seat.stage, seat.index)
        if self.state.segment(run.index, RoundIndex(round_), seat.stage, seat.index) is None:
            if where not in self.made:
                true = make_segment(
                    self.ledger, run, *where[1:], num_steps=5, tokens=5_000, end_root=end_of(where)
                )
                self.made[where] = Made(true, true)
            self._offer(self.ledger.key_of(seat.peer), self.made[where].claimed.commit)

    def _check_well(self, record: SegmentRecord) -> None:
        made = self.made[record.run, record.round, record.stage, record.seat].true
        if record.phase in {SegmentPhase.POSTED, SegmentPhase.SAMPLED}:
            for key in self.ledger.keys[:PEERS]:
                self._request(record, made, key)
        if record.phase is SegmentPhase.SEALED:
            self._offer(self.ledger.key_of(record.peer), made.reveal())
        if record.phase in {SegmentPhase.SAMPLED, SegmentPhase.REVEALED}:
            say = made.blind if record.phase is SegmentPhase.SAMPLED else made.shown
            for check in record.checks:
                answer = say(self.state, check.peer, check.window)
                self._offer(self.ledger.key_of(check.peer), answer)

    def _go_on(self) -> bool:
        """Let holders of shares go on with runs that ended early, once nothing of these is on record."""
        runs = [run for run in self.state.runs() if run.final_round < run.spec.rounds]
        self._pass_time(FORGOTTEN_BLOCKS if runs else 0)
        for run in runs:
            keys = [self.key(number) for number in range(PEERS)]
            holders = [k for k in keys if self.state.contribution(run.index, k.peer).shares]
            wanted = self._one([*holders, self.someone()])
            for key in holders if self.dice(4) else holders[:1]:
                self._offer(key, BackOwner(run.index, wanted.peer))
            self._pass_time(1)
            for key, escrow in ((self.someone(), 20_000), (wanted, 1), (wanted, 9_000)):
                self._offer(key, ContinueRun(run.index, Amount(escrow)))
            self._pass_time(1)
        return bool(self.state.globals.active_runs)

    # --- what is looked at ---

    @property
    def state(self) -> State:
        return self.ledger.state

    def key(self, number: int) -> SecretKey:
        return self.ledger.keys[number]

    def someone(self) -> SecretKey:
        return self.key(self.dice(PEERS + 2))

    def segments(self) -> tuple[SegmentRecord, ...]:
        return self.state.live_segments()

    def _one(self, options: Sequence[T]) -> T:
        return options[self.dice(len(options))]

    # --- what is signed ---

    def _open(self) -> OpenRun:
        spec = self._one([SPEC, SPEC, NATIVE, ROLLBACK, LOOKED_AT])
        escrow = self._one([100_000, 20_000, run_deposit(self.state.params, spec), 1])
        return OpenRun(encode(spec), Amount(escrow))

    def _money(self) -> None:
        """Move money and stakes, offer to validate, sign two ways, and steer runs."""
        account = self.state.account(self.key(self.dice(PEERS)).peer)
        amounts = [0, 1, account.balance // 3, account.balance, account.stake, AMOUNT_MAX]
        amount = Amount(self._one(amounts))
        to = self.someone().peer
        bodies: list[Body] = [
            Transfer(to, amount),
            Stake(amount),
            Unstake(amount),
            Validate(self.dice(2) == 1),
            self._evidence(),
            Withdraw(Amount(max(amount, 1)), to[:20]),
            Withdraw(Amount(25), to[:20]),
            self._settlement_key(to),
            SignPayouts(max(self.state.next_epoch - 1 - self.dice(2), 0), bytes(65)),
        ]
        self._offer(self.someone(), self._one(bodies))

    def _work(self) -> None:
        """What trains: joining, committing, posting checkpoints, and what an owner decides."""
        runs = self.state.runs()
        if not runs or (len(runs) < RUNS_MAX and self.dice(12) == 0):
            self._offer(self.key(self.dice(3)), self._open())
            return
        run = self._one(runs)
        chance = 15 if run.phase is RunPhase.PAUSED else self.dice(16)
        if chance < 8:
            self._commit(run)
        elif chance < 11:
            ask = self.dice(4)
            key = self.ledger.key_of(self._one(self._members(run)))
            if self.dice(3):
                self._offer(self.someone(), Join(run.index, ask))
            else:
                self._offer(key, ChangeAsk(run.index, ask))
        elif chance < 13:
            key = self.ledger.key_of(self._one(self._members(run)))
            self._offer(key, Leave(run.index))
        elif chance < 15:
            (self._post if self.dice(2) else self._hold)(run)
        else:
            index = run.index
            steers: list[Body] = [
                *[PauseRun(index)] * 4,
                CloseRun(index),
                FundRun(index, Amount(1 + self.dice(3_000))),
                BackOwner(index, self.someone().peer),
                ContinueRun(index, Amount(20_000)),
                ResumeRun(index),
            ]
            steer = self._one(steers[-1:] if run.phase is RunPhase.PAUSED else steers)
            owner = self.ledger.key_of(run.owner)
            self._offer(owner if self.dice(4) else self.someone(), steer)

    @staticmethod
    def _members(run: Run) -> list[PeerId]:
        """Return those that sit or wait, the owner first; the owner alone once nobody does."""
        peers = [seat.peer for roster in run.seats for seat in roster]
        waiting = [waiter.peer for waiter in run.waiting]
        return [run.owner, *(peer for peer in peers if peer != run.owner), *waiting]

    def _commit(self, run: Run) -> None:
        """The roster of a round commits, one seat or all of them; some lie, some claim too much."""
        if not run.rounds:
            return
        info = run.rounds[max(len(run.rounds) - 2 - self.dice(4) // 3, 0)]
        seats = [seat for roster in info.seats for seat in roster]
        for seat in seats if self.dice(2) else [self._one(seats)]:
            where = (run.index, info.round, seat.stage, seat.index)
            steps = (1 + self.dice(10)) if info.consensus < 0 else 0
            tokens = self._one([5_000, 0, 5_000, 1 << 31]) if steps else 0
            edges: dict[str, Any] = {"sent_root": sent_root(SENT), "incarnation": INCARNATION}
            edges = edges if self.dice(3) else {}
            true = make_segment(
                self.ledger,
                run,
                *where[1:],
                num_steps=steps,
                tokens=tokens,
                end_root=end_of(where),
                **edges,
            )
            lie = self.dice(len(true.results))
            claimed = true.with_lie(lie) if not self.dice(3) else true
            self.made.setdefault(where, Made(true, claimed))
            self._offer(self.ledger.key_of(seat.peer), self.made[where].claimed.commit)

    def _post(self, run: Run) -> None:
        """The drawn seat of some stage posts, with a proof that may fit."""
        if not run.rounds:
            return
        info, stage = run.rounds[-1], self.dice(run.spec.num_stages)
        index = info.drawn[stage]
        seat = next((seat for seat in info.seats[stage] if seat.index == index), None)
        key = self.someone() if seat is None else self.ledger.key_of(seat.peer)
        made = self.made.get((run.index, info.round - 1, stage, index))
        where = (run.index, info.round - 1, stage, index) if made is not None else ()
        leaves = components_of(where)
        body = PostCheckpoint(
            run=run.index,
            round=info.round,
            stage=StageIndex(stage),
            seat=max(index, 0),
            phi_root=leaves[PHI],
            phi_bytes=PHI_BYTES,
            proof=merkle_proof(leaves, PHI),
        )
        self.weights[body.phi_root] = weights_of(where)
        self._offer(key, body)

    def _hold(self, run: Run) -> None:
        """Somebody says that it holds a checkpoint, or shows its leaves: mostly who should."""
        stage = self.dice(run.spec.num_stages)
        if not run.checkpoints[stage]:
            return
        kept = self._one(run.checkpoints[stage])
        storage = self.state.storage(run.index, stage, kept.round)
        if storage is None:
            return
        for holder in storage.holders if self.dice(8) else ():
            self._say_held(run, StageIndex(stage), kept, storage, holder.peer)
        if not self.dice(4):
            self._say_held(run, StageIndex(stage), kept, storage, self.someone().peer)

    def _say_held(
        self, run: Run, stage: StageIndex, kept: Checkpoint, storage: Storage, peer: PeerId
    ) -> None:
        receipt = StoreReceipt(run.index, kept.round, stage, peer)
        is_held = any(holder.peer == peer for holder in receipts(storage))
        data = memoryview(self.weights[kept.phi_root])
        proof = prove_storage(kept, storage, receipt, data)
        self._offer(self.ledger.key_of(peer), proof if is_held else receipt)

    def _check(self, record: SegmentRecord) -> None:
        """What somebody may sign about a segment: mostly what its phase asks for."""
        made = self.made.get((record.run, record.round, record.stage, record.seat))
        if made is None:
            return
        phase = record.phase if self.dice(5) else self._one(list(SegmentPhase))
        if phase in {SegmentPhase.POSTED, SegmentPhase.SAMPLED} and self.dice(2):
            for key in self.ledger.keys[:PEERS]:
                self._request(record, made.claimed, key)
        if phase is SegmentPhase.SEALED:
            self._offer(self.ledger.key_of(record.peer), made.claimed.reveal())
        if record.phase is SegmentPhase.SAMPLED and (record.contests or not self.dice(3)):
            self._contest(record, made.claimed)
            return
        if phase in {SegmentPhase.SAMPLED, SegmentPhase.REVEALED, SegmentPhase.DISPUTED}:
            for check in record.checks if self.dice(3) else record.checks[:1]:
                is_shown = phase is not SegmentPhase.SAMPLED
                view = self._like(made, check.peer)
                if check.window < len(view.results):
                    self._answer(record, view, check, is_shown=is_shown)
        if phase not in {SegmentPhase.POSTED, SegmentPhase.SAMPLED, SegmentPhase.SEALED}:
            self._report(made)
        if phase is SegmentPhase.DISPUTED or not self.dice(16):
            self._move(record, made)
        if not self.dice(32):
            self._prove(record)
        if record.sent_root != NO_DIGEST and not self.dice(6):
            self._demand(record)

    def _answer(
        self, record: SegmentRecord, view: CheckedSegment, check: Check, *, is_shown: bool
    ) -> None:
        """A verifier answers, or shows that; what it looked at is right or false as its key has it."""
        key, spec = self.ledger.key_of(check.peer), self.state.run(record.run).spec
        if not spec.checks.spots or check.is_report:
            say = view.shown if is_shown else view.blind
            self._offer(key, say(self.state, check.peer, check.window))
            return
        solver, salt = self.ledger.key_of(record.peer), verifier_salt(check.peer)
        said = signed(self.ledger, view, solver, check.peer, check.window)
        is_false, place = check.peer[1] % 2 == 1, record.checks.index(check)
        where = (record.run, record.round, record.stage, record.seat, place)
        if not is_shown:
            answer = spot_answer(said.claim, said.digest, is_false=is_false)
            hidden = verify_commit(answer, salt, check.peer)
            self._offer(key, VerifyCommit(*where, check.window, hidden))
            return
        shown = record.claims[check.window] if record.claims else said.claim
        is_forced = known_seed(record, spec, check) is not None
        body = VerifyReveal(
            *where,
            salt,
            b"" if said.claim == shown else said.claim,
            said.digest,
            is_false,
            encode(said) if is_forced else b"",
        )
        self._offer(key, body)
        self._offer(solver, ForcedError(*where, self.dice(3), b"nothing"))

    def _contest(self, record: SegmentRecord, claimed: CheckedSegment) -> None:
        """A verifier complains, or witnesses say what they like."""
        if record.contests and record.contests[-1].draw is not None:
            for key in self.ledger.keys[:PEERS]:
                with contextlib.suppress(InvalidStatement):
                    body = claimed.witness(self.state, key, is_served=self.dice(2) == 1)
                    if body is not None:
                        self._offer(key, body)
        elif record.checks:
            peer = self._one(record.checks).peer
            self._offer(self.ledger.key_of(peer), claimed.complaint(self.state, peer))

    def _like(self, made: Made, peer: PeerId) -> CheckedSegment:
        """What a peer says of a segment: the truth, what its solver says, or now this and now that."""
        kind = peer[0] % 4
        if kind == 3:
            other = made.true.with_lie(0)
            return self._one([made.true, made.claimed, other])
        return made.claimed if kind == 2 else made.true

    def _report(self, made: Made) -> None:
        window, key = self.dice(3), self.someone()
        if window < len(made.claimed.results) and self.dice(2):
            self._offer(key, self._like(made, key.peer).report(key.peer, window))

    def _move(self, record: SegmentRecord, made: Made) -> None:
        """A side of a dispute moves, as the scripted court reads it; or somebody else, or out of turn."""
        dispute = record.dispute
        window = dispute.window if dispute is not None else self.dice(2)
        guilty = made.true is not made.claimed if self.dice(4) else self.dice(2) == 1
        last = b"guilty" if guilty else b"false"
        what = self._one([b"open", b"next", last, last, b"lie"])
        if dispute is not None and not dispute.game and self.dice(4):
            what = b"open"
        movers = [record.peer, self.someone().peer]
        movers += [dispute.accuser] * 2 if dispute is not None else []
        self._offer(self.ledger.key_of(self._one(movers)), made.claimed.move(window, what))

    def _prove(self, record: SegmentRecord) -> None:
        """Somebody shows what the solver, or another, signed: it is not in its list, or it never claimed it."""
        if record.sent_root != NO_DIGEST:
            return
        signer = self.ledger.key_of(record.peer) if self.dice(2) else self.someone()
        run_digest = self.state.run(record.run).spec_digest
        where = (record, signer, self.state.chain, run_digest)
        lie: Fraud = lie_of(*where) if self.dice(2) else contradiction_of(*where)
        self._offer(self.someone(), lie)

    def _demand(self, record: SegmentRecord) -> None:
        """Somebody demands what the solver, or another, has signed, true or false; or somebody shows it."""
        waiting = [at for at, one in enumerate(record.demands) if one.is_open]
        if waiting and self.dice(3):
            at = self._one(waiting)
            opening = open_place(SENT, record.demands[at].place)
            assert opening is not None, "the list has entries"
            number = at if self.dice(6) else at + 1
            where = (record.run, record.round, record.stage, record.seat)
            self._offer(self.someone(), ShowEntry(*where, number, opening))
            return
        signer = self.ledger.key_of(record.peer) if self.dice(4) else self.someone()
        message = message_of(record, self._one(MESSAGES))
        message = message if self.dice(3) else other(message)
        run_digest = self.state.run(record.run).spec_digest
        signed = sign_message(signer, self.state.chain, run_digest, message)
        self._offer(self.someone(), DemandEntry(*sender_of(signed), signed))

    def _request(self, record: SegmentRecord, claimed: CheckedSegment, key: SecretKey) -> None:
        """A drawn verifier asks, or one that hopes to be."""
        if not record.draws:
            return
        try:
            body = claimed.request(self.state, key, self.dice(len(record.draws)))
        except InvalidStatement:
            return
        if body is not None:
            self._offer(key, body)

    def _settlement_key(self, peer: PeerId) -> SettlementKey:
        contract = bytes(19) + (b"2" if self.dice(8) == 0 else b"1")
        return SettlementKey(peer[:20], bytes(65), 1, contract)

    def _evidence(self) -> Evidence:
        """Two votes of one validator in one view, that clash or do not."""
        state = self.state
        voter = self.ledger.key_of(self._one(state.validators).peer)
        epoch, view = max(state.next_epoch - self.dice(3), 0), View(1 + self.dice(3))
        votes = list[SignedVote]()
        for number in range(2):
            kind = self._one([NOTARIZE, FINALIZE])
            block = digest("block", bytes([number * self.dice(2)]))
            parts = vote_parts(state.chain, epoch, view, block)
            votes.append(SignedVote(kind, block, voter.sign(VOTE_PURPOSES[kind], *parts)))
        return Evidence(voter.peer, epoch, view, *votes)

    # --- what becomes of it ---

    def _offer(self, key: SecretKey, body: Body) -> None:
        """Put a statement into the next block, sometimes spoiled first, if it is valid there."""
        data = self._spoiled(self._signed(key, body))
        before = encode_state(self.state) if self.dice(16) == 0 else b""
        try:
            self.ledger.after((*self.body, data))
        except InvalidStatement as refusal:
            reason = f"{type(body).__name__}: {refusal.reason}"
            self.refusals[reason] = self.refusals.get(reason, 0) + 1
            assert not before or encode_state(self.state) == before, "it changed the state"
            return
        assert encode(parse_transaction(data)) == data, "an accepted statement has two encodings"
        if self.body:
            self._commutes(self._one(self.body), data)
        name = type(parse_transaction(data).body).__name__
        self.kinds[name] = self.kinds.get(name, 0) + 1
        self.body.append(data)

    def _signed(self, key: SecretKey, body: Body) -> bytes:
        if isinstance(body, FreeStatement):
            return self.ledger.sign(key, body)
        waiting = sum(parse_transaction(data).sender == key.peer for data in self.body)
        nonce = self.state.account(key.peer).nonce + 1 + waiting
        if self.dice(8):
            return self.ledger.sign(key, body, nonce=nonce)
        nonce, expiry = nonce + self.dice(20) - 4, self.state.height + self.dice(20) - 3
        return self.ledger.sign(key, body, nonce=nonce, expiry=expiry, fee=self.dice(50))

    def _spoiled(self, data: bytes) -> bytes:
        """Most statements as they are; of some a byte changed, a byte too many, or an old one again."""
        chance = self.dice(20)
        if chance == 0:
            at = self.dice(len(data))
            return data[:at] + bytes([data[at] ^ (1 + self.dice(255))]) + data[at + 1 :]
        if chance == 1:
            return data + b"\0"
        if chance == 2 and self.accepted:
            return self._one(self.accepted)
        return data

    def _commutes(self, first: bytes, second: bytes) -> None:
        """Two statements that touch different entries have one result in either order."""
        try:
            touched = self._touched(first) & self._touched(second)
        except InvalidStatement:
            return  # one needs the other, or a third
        if touched <= {b"g"}:
            both = ((first, second), (second, first))
            roots = {self.ledger.after(pair).root for pair in both}
            assert len(roots) == 1, "the order of independent statements matters"

    def _touched(self, data: bytes) -> set[bytes]:
        """Return the entries that a statement writes, and its signer's account, whose stake it may read."""
        leader = self.ledger.leader()
        draft = begin_block(self.state, leader=leader, beta=self.ledger.beta())
        attempt = draft.attempt()
        _, signer = apply_transaction(attempt, data)
        touched = {*attempt.changes, account_key(signer)}
        paid = changed(draft.account(leader), balance=attempt.account(leader).balance)
        if signer != leader and paid == attempt.account(leader):
            touched.discard(account_key(leader))  # it got the fee
        return touched

    def _pass_time(self, blocks: int, skipped: int = 0) -> None:
        for _ in range(blocks):
            body, self.body = tuple(self.body), list[bytes]()
            if skipped:  # another beacon and other validators: what was valid may not be
                self.ledger.block(skipped=skipped)
            else:
                self.ledger.block(*body)
                self.accepted = [*self.accepted, *body][-REMEMBERED:]
            self._check_state()

    def _check_state(self) -> None:
        state = self.state
        assert audit_supply(state) == state.supply, "money came from nowhere, or went there"
        stakes = sum(account.stake for _, account in state.accounts())
        assert stakes == state.globals.staked, "the sum of stakes is another"
        for run in state.runs():
            self._check_shares(run)
        if state.height % 16 == 0:
            data = encode_state(state)
            again = decode_state(data)
            assert (again.root, encode_state(again)) == (state.root, data)

    def _check_shares(self, run: Run) -> None:
        """The shares of all, and those behind each peer, are the sums of what their holders have."""
        state, shares = self.state, self.state.run_shares(run.index)
        peers = [self.key(number).peer for number in range(PEERS + 2)]
        work = {peer: state.contribution(run.index, peer) for peer in peers}
        assert shares.total == sum(one.shares for one in work.values()), "a share too many"
        for peer in peers:
            behind = (w for w in work.values() if (w.backs, w.backs_turn) == (peer, shares.turn))
            assert state.backing(run.index, peer) == sum(one.shares for one in behind)

    def end(self) -> None:
        """Let all runs and segments end by time; then all money is in accounts."""
        self._pass_time(1)
        for run in self.state.runs():
            if run.phase is RunPhase.PAUSED or run.is_pausing:
                body = CloseRun(run.index) if run.phase is RunPhase.PAUSED else ResumeRun(run.index)
                self.ledger.block(self.ledger.sign(self.ledger.key_of(run.owner), body))
        for _ in range(ENDING_BLOCKS):
            if not self.segments() and not self.state.globals.active_runs:
                break
            self._pass_time(1)
        assert not self.segments(), "a segment that never ends"
        for run in self.state.runs():
            assert run.phase is RunPhase.SETTLED, f"a run that stays {run.phase}"
            assert run.escrow == 0, "money stays with a run that is over"
        self._check_state()
        kinds = {key[:1] for key, _ in self.state.entries.items()}
        assert b"s" not in kinds, "a segment nobody forgets"
        held = sum(
            account.balance + account.stake + sum(part.amount for part in account.unbonding)
            for _, account in self.state.accounts()
        )
        locked = self.state.supply - held
        assert locked == self._withdrawn(), "money is left behind"

    def _withdrawn(self) -> int:
        log = find_log(self.state)
        return 0 if log is None else log.locked


def play(seed: int, steps: int) -> Stream:
    """Play the stream of a seed; an assertion that fails names it."""
    dice = random.Random(seed)
    stream = Stream(dice.randrange)
    try:
        stream.run(steps)
    except AssertionError as error:
        again = f"python -m tests.ledger.streams --seeds 1 --from {seed} --steps {steps}"
        raise AssertionError(f"{error}; replay: {again}") from error
    return stream


def main() -> None:
    """Play the streams of so many seeds, and print one JSON object."""
    parser = argparse.ArgumentParser(description="Play streams of transactions against the ledger.")
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    accepted, refused, began = Counter[str](), Counter[str](), time.monotonic()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for kinds, refusals in pool.map(_counts, seeds, repeat(arguments.steps), chunksize=8):
            accepted.update(kinds)
            refused.update(refusals)
    found = {"streams": len(seeds), "steps": arguments.steps, "accepted": dict(accepted)}
    found["refused"] = sum(refused.values())
    print(json.dumps({**found, "seconds": round(time.monotonic() - began, 1)}))


def _counts(seed: int, steps: int) -> tuple[dict[str, int], dict[str, int]]:
    stream = play(seed, steps)
    return stream.kinds, stream.refusals


if __name__ == "__main__":
    main()
