"""A run with one commit of one seat, and everybody who may check it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.config.spec import NANO, CheckSpec, RunSpec
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import UNDEALT, Run, SegmentPhase, SegmentRecord
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transactions import Body, Join
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.edges import SentEntry, sent_root
from swarm.testing.ledger import CheckedSegment, InMemoryLedger, make_segment, small_run_spec
from swarm.types import Digest, RoundIndex
from tests.ledger.scripted import scripted_court

EXACT = small_run_spec(
    round_blocks=6, rounds=40, numerics="seq-f32/1", checks=CheckSpec(NANO, 10, 60)
)
SOLVER = 1
"""Key number of the peer whose segment is checked: it sits alone with the owner, key 0."""


@dataclass
class Case:
    """One committed segment; ``true`` is what honest replays give."""

    ledger: InMemoryLedger
    run: Run
    true: CheckedSegment
    claimed: CheckedSegment

    @property
    def record(self) -> SegmentRecord:
        return self.claimed.record(self.ledger.state)

    @property
    def phase(self) -> SegmentPhase:
        return self.record.phase

    def is_now(self, phase: SegmentPhase) -> bool:
        return self.phase is phase

    @property
    def solver(self) -> SecretKey:
        return self.ledger.key_of(self.record.peer)

    @property
    def able(self) -> list[SecretKey]:
        """Who may be drawn: neither the solver nor its partners."""
        out = {self.record.peer, *self.record.partners}
        return [key for key in self.ledger.keys if self.stake(key) and key.peer not in out]

    def stake(self, key: SecretKey) -> int:
        return self.ledger.state.account(key.peer).stake

    def balance(self, key: SecretKey) -> int:
        return self.ledger.state.account(key.peer).balance

    def submit(self, key: SecretKey, body: Body, **envelope: int) -> None:
        """One statement in one block; the supply is counted after it."""
        self.ledger.block(self.ledger.sign(key, body, **envelope))
        assert audit_supply(self.ledger.state) == self.ledger.state.supply

    def refused(self, key: SecretKey, body: Body) -> Reason:
        root = self.ledger.state.root
        try:
            self.submit(key, body)
        except InvalidStatement as error:
            assert self.ledger.state.root == root
            return error.reason
        raise AssertionError("it was accepted")

    def wait(self, phase: SegmentPhase, blocks_max: int = 100) -> None:
        for _ in range(blocks_max):
            if self.is_now(phase):
                return
            self.ledger.block()
        raise AssertionError(f"still {self.phase} after {blocks_max} blocks")

    def draw_verifiers(self) -> None:
        """Make blocks up to the next draw of verifiers."""
        before = len(self.record.draws)
        while len(self.record.draws) == before:
            self.ledger.block()

    def drawn(self, keys: list[SecretKey], attempt: int = 0) -> list[SecretKey]:
        """Return the keys that a draw selected."""
        state = self.ledger.state
        return [key for key in keys if self.claimed.request(state, key, attempt) is not None]

    def request(self, keys: list[SecretKey], attempt: int = 0) -> list[SecretKey]:
        """The drawn among these ask for a window; who they are."""
        asked = list[SecretKey]()
        for key in keys:
            body = self.claimed.request(self.ledger.state, key, attempt)
            if body is not None:
                self.submit(key, body)
                asked.append(key)
        return asked

    def deal(self) -> None:
        """Make blocks until those that have asked are dealt their windows."""
        while any(check.window == UNDEALT for check in self.record.checks):
            self.ledger.block()

    def ask(self, keys: list[SecretKey], attempt: int = 0) -> dict[bytes, int]:
        """The drawn among these ask, and are dealt windows; their windows by peer."""
        asked = {key.peer for key in self.request(keys, attempt)}
        self.deal()
        return {check.peer: check.window for check in self.record.checks if check.peer in asked}

    def seal(self, windows: dict[bytes, int], like: CheckedSegment | None = None) -> None:
        """They answer blind, with what the truth (or ``like``) gives, until the solver must show."""
        for peer, window in windows.items():
            key = self.ledger.key_of(peer)
            self.submit(key, (like or self.true).blind(self.ledger.state, key.peer, window))
        self.wait(SegmentPhase.SEALED)

    def show(self, windows: dict[bytes, int], like: CheckedSegment | None = None) -> None:
        """They show their answers."""
        for peer, window in windows.items():
            key = self.ledger.key_of(peer)
            self.submit(key, (like or self.true).shown(self.ledger.state, key.peer, window))

    def up_to_reveal(self, num_verifiers: int = 2) -> dict[bytes, int]:
        """Everything up to the solver's reveal."""
        self.draw_verifiers()
        windows = self.ask(self.able[:num_verifiers])
        self.seal(windows)
        self.submit(self.solver, self.claimed.reveal())
        return windows

    @property
    def accuser(self) -> SecretKey:
        """The accuser that is heard."""
        assert self.record.dispute is not None
        return self.ledger.key_of(self.record.dispute.accuser)

    def move(self, key: SecretKey, what: bytes) -> None:
        """A move in the open dispute, before a court in which it says what follows from it."""
        assert self.record.dispute is not None
        with scripted_court():
            self.submit(key, self.claimed.move(self.record.dispute.window, what))

    def decide(self, *, is_guilty: bool) -> None:
        """The open dispute is heard: its solver is convicted, or its accuser refuted."""
        self.move(self.accuser, b"open")
        if is_guilty:
            self.move(self.solver, b"next")
            self.move(self.accuser, b"guilty")
        else:
            self.move(self.solver, b"false")

    def give_up(self) -> None:
        """The accuser of the open dispute makes no move, until its time is over."""
        dispute = self.record.dispute
        assert dispute is not None
        while self.record.dispute is not None and self.record.dispute.since == dispute.since:
            self.ledger.block()

    def fall_silent(self) -> None:
        """The accuser opens, and its solver makes no move."""
        self.move(self.accuser, b"open")
        while self.record.dispute is not None and self.record.dispute.turn == Turn.SOLVER:
            self.ledger.block()

    def blow(self, key: SecretKey, window: int, like: CheckedSegment | None = None) -> None:
        """Report a window blindly, and show the answer: what the truth (or ``like``) gives."""
        self.submit(key, (like or self.true).report(key.peer, window))
        self.show({key.peer: window}, like)


def true_move(record: SegmentRecord, peer: bytes, *, is_lie: bool) -> bytes:
    """What a side says before the scripted court: who is right wins, if it says anything."""
    assert record.dispute is not None
    if not record.dispute.game:
        return b"open"
    is_right = is_lie == (peer != record.peer)
    return (b"guilty" if is_lie else b"false") if is_right else b"next"


def goes_on(ledger: InMemoryLedger, run: Run, end_root: Digest | None = None) -> None:
    """Let the seat of the solver have committed an end in round 0."""
    last = digest("end", b"of round 0") if end_root is None else end_root
    draft = Draft(ledger.state, ledger.keys[0].peer)
    seats = tuple(
        tuple(
            replace(seat, last_commit_round=RoundIndex(0), last_end_root=last)
            if seat.peer == ledger.keys[SOLVER].peer
            else seat
            for seat in roster
        )
        for roster in run.seats
    )
    draft.put_run(replace(ledger.state.run(run.index), seats=seats))
    ledger.head = dataclasses.replace(ledger.head, state=draft.finish())


def a_case(
    spec: RunSpec = EXACT,
    *,
    lie: int | None = None,
    num_steps: int = 10,
    num_accounts: int = 4,
    num_validators: int = 4,
    is_first: bool = False,
    sent: Sequence[SentEntry] = (),
    incarnation: int = 0,
    **genesis: object,
) -> Case:
    """The commit of key 1 for round 1, in stage 0; its window ``lie`` is a lie.

    It goes on from an end that is put into the state, which no block of this chain has, unless it ``is_first``.
    ``sent`` is the list of what it sent.
    """
    ledger = InMemoryLedger(num_accounts, num_validators, **genesis)
    run = ledger.open_run(spec)
    ledger.block(ledger.sign(ledger.keys[SOLVER], Join(run.index)))
    run = ledger.reach_round(run, 2)
    if not is_first:
        goes_on(ledger, run)
    edges = {"sent_root": sent_root(sent), "incarnation": incarnation}
    true = make_segment(ledger, run, 1, 0, 1, num_steps=num_steps, **edges)
    claimed = true if lie is None else true.with_lie(lie)
    case = Case(ledger, run, true, claimed)
    case.submit(ledger.keys[SOLVER], claimed.commit)
    return case
