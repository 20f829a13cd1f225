"""The court of the ledger: bytes of strangers in, a ruling out, and nothing else."""

import random
from dataclasses import dataclass
from typing import cast

import pytest

from swarm.config.spec import StageStart
from swarm.errors import OutOfTurn, PeerFault, UsageError
from swarm.ledger.state.records import SegmentPhase, SegmentRecord
from swarm.ledger.state.state import Reader
from swarm.ledger.transition.court import Outcome, Ruling, the_court
from swarm.primitives import codec
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import REFUSED
from swarm.types import NO_DIGEST, RoundIndex, RunIndex
from swarm.verify.court import read_game
from swarm.verify.program.account import Account, Kind, result_of
from swarm.verify.program.dispute import NO_ACCOUNT
from swarm.verify.program.players import Challenger, Solver
from tests.ledger.traces import traced
from tests.verify.program.scenes import ANYWHERE, CODEC, Scene, scene
from tests.verify.program.test_dispute import Liar, some_liar
from tests.verify.program.test_events import Liar as FragmentLiar
from tests.verify.program.test_events import events


@dataclass
class _Checkpoint:
    phi_root: bytes


@dataclass
class _Run:
    spec: object
    spec_digest: bytes
    checkpoints: list[list[_Checkpoint]]


@dataclass
class _Seat:
    index: int
    peer: bytes


@dataclass
class _Info:
    beacon: bytes
    seats: list[list[_Seat]]
    consensus: int = -1


@dataclass
class _Globals:
    chain: bytes


@dataclass
class LedgerOf:
    """The two entries of a ledger that a court reads."""

    scene: Scene

    @property
    def globals(self) -> _Globals:
        return _Globals(self.scene.log.plan.chain)

    def run(self, run: RunIndex) -> _Run:
        del run
        facts, anchors = self.scene.log.facts, self.scene.window.anchors
        assert anchors is not None
        listed, stages = [_Checkpoint(root) for root in anchors], facts.spec.num_stages
        spec = codec.replace(facts.spec, starts=(StageStart(anchors[0], 1, 1, 0),) * stages)
        return _Run(spec, facts.run_digest, [listed] * stages)

    def round_info(self, run: RunIndex, round_: RoundIndex) -> _Info | None:
        assert (run, round_) == (1, self.scene.log.facts.round)
        seats = [_Seat(index, peer) for index, peer in self.scene.log.seating.seats]
        return _Info(self.scene.log.facts.beacon, [seats] * self.scene.log.facts.spec.num_stages)


@dataclass
class _Record:
    run: int
    round: int
    stage: int
    seat: int
    sent_root: bytes
    num_steps: int
    claims: tuple[bytes, ...]


def tried(here: Scene, solvers: Account) -> tuple[Reader, SegmentRecord]:
    """A ledger and a segment whose solver has claimed an account of the window."""
    facts, number = here.log.facts, here.window.number
    claims = (bytes(32),) * number + (result_of(solvers).claim,)
    later = 0 if here.window.is_last else 1
    steps = here.window.first_step + here.window.steps + later
    record = _Record(here.log.plan.run, facts.round, facts.stage, 0, NO_DIGEST, steps, claims)
    return cast("Reader", LedgerOf(here)), cast("SegmentRecord", record)


def decided(here: Scene, solver: Solver, challenger: Challenger) -> Ruling:
    """Play by bytes alone, as over a ledger."""
    court, window = the_court(), here.window.number
    reader, record = tried(here, solver.account)
    claim = result_of(challenger.account).claim
    ruling = court.opened(reader, record, window, claim, encode(challenger.account))
    while ruling.outcome is Outcome.OPEN:
        dispute = read_game(ruling.game)
        assert dispute.is_solvers_turn == ruling.is_solvers_turn
        side = solver if ruling.is_solvers_turn else challenger
        move, is_solver = encode(side.move(dispute)), ruling.is_solvers_turn
        ruling = court.moved(reader, record, window, ruling.game, move, is_solver=is_solver)
        assert len(ruling.game) < 16 << 10, "a ledger keeps little between two moves"
    return ruling


@pytest.mark.rule("V42")
@pytest.mark.parametrize("stage", [0, 1])
def test_a_lie_is_convicted_by_bytes_on_a_ledger(stage: int) -> None:
    here = scene(stage)
    liar, _, _ = some_liar(here, random.Random(stage))
    window = here.against(liar.account)
    ruling = decided(here, liar, Challenger(window, here.log))
    assert (ruling.outcome, ruling.game) == (Outcome.GUILTY, b"")


@pytest.mark.rule("V42")
@pytest.mark.parametrize("kind", [Kind.COPY, Kind.MERGE])
def test_a_lie_about_a_fragment_is_convicted_by_bytes_on_a_ledger(kind: Kind) -> None:
    here, event = events(CODEC, kind)[0]
    last = len(Solver(here.window, here.log).traded(event).program.nodes) - 1
    liar = FragmentLiar(here, event, (last, 0, 5))
    window = here.against(liar.account)
    assert decided(here, liar, Challenger(window, here.log)).outcome is Outcome.GUILTY


@pytest.mark.rule("V42")
def test_a_false_accuser_of_an_end_loses_at_once() -> None:
    here, event = events(CODEC, Kind.END)[0]
    states = (*here.account.states[:event], *[ANYWHERE] * len(here.account.states[event:]))
    accuser = Challenger(here.window, here.log, replace(here.account, states=states))
    assert decided(here, Solver(here.window, here.log), accuser).outcome is Outcome.FALSE


@pytest.mark.rule("V42")
def test_whatever_a_stranger_sends_a_court_says_whose_fault_it_is() -> None:
    here, rng = scene(1), random.Random(5)
    liar: Liar = some_liar(here, rng)[0]
    court, number = the_court(), here.window.number
    reader, record = tried(here, liar.account)
    claim = result_of(here.account).claim
    account = encode(here.account)
    ruling = court.opened(reader, record, number, claim, account)
    move = encode(liar.move(read_game(ruling.game)))
    for lie in (b"", b"\x00", rng.randbytes(50), move[:-1], move + b"\0", account):
        with pytest.raises(PeerFault):
            court.moved(reader, record, number, ruling.game, lie, is_solver=True)
    for _ in range(300):
        lie = _flipped(move, rng)
        try:  # the roots of its traces are its own to say
            found = court.moved(reader, record, number, ruling.game, lie, is_solver=True)
        except PeerFault:
            continue
        assert found.outcome is Outcome.OPEN
    for lie in (b"", move, account[:-1]):
        with pytest.raises(PeerFault):
            court.opened(reader, record, number, claim, lie)
    for _ in range(100):
        try:  # only its last state is under its claim
            court.opened(reader, record, number, claim, _flipped(account, rng))
        except PeerFault:
            continue


@pytest.mark.rule("V42")
@pytest.mark.parametrize("fault", [ValueError, IndexError, ZeroDivisionError, UsageError])
def test_attack_a_move_that_would_stop_every_replica(
    fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a check is missing somewhere, whoever makes use of that has made no move."""
    here = scene(1)
    liar = some_liar(here, random.Random(5))[0]
    reader, record = tried(here, liar.account)
    court, number = the_court(), here.window.number
    claim = result_of(here.account).claim
    ruling = court.opened(reader, record, number, claim, encode(here.account))
    move = encode(liar.move(read_game(ruling.game)))

    def stop(*_: object, **__: object) -> None:
        raise fault("nothing to compute with")

    monkeypatch.setattr("swarm.verify.court.moved_in", stop)
    with pytest.raises(PeerFault):
        court.moved(reader, record, number, ruling.game, move, is_solver=True)


@pytest.mark.rule("L99")
@pytest.mark.parametrize("fault", [ValueError, IndexError, ZeroDivisionError, UsageError])
@pytest.mark.parametrize("judge", ["check_proof", "check_contradiction"])
def test_attack_a_proof_that_would_stop_every_replica(
    judge: str, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = traced()
    if judge == "check_contradiction":
        case.wait(SegmentPhase.SEALED)
        case.submit(case.solver, case.claimed.reveal())
    proof = case.lie() if judge == "check_proof" else case.contradiction()

    def stop(*_: object, **__: object) -> None:
        raise fault("nothing to compute with")

    the_court().check_lie(case.ledger.state, case.record, encode(proof))
    monkeypatch.setattr(f"swarm.verify.court.{judge}", stop)
    with pytest.raises(PeerFault):
        the_court().check_lie(case.ledger.state, case.record, encode(proof))


@pytest.mark.rule("L99")
def test_a_proof_about_a_round_that_is_forgotten_is_none() -> None:
    case = traced()
    record = replace(case.record, round=RoundIndex(40))
    proof = case.lie(round=RoundIndex(40))
    with pytest.raises(OutOfTurn, match="forgotten"):
        the_court().check_lie(case.ledger.state, record, encode(proof))


@pytest.mark.rule("V42", "V63")
def test_who_has_no_account_has_no_accusation() -> None:
    here = scene(0)
    reader, record = tried(here, here.account)
    for claim in (REFUSED.claim, result_of(here.account).claim):
        with pytest.raises(PeerFault):
            the_court().opened(reader, record, here.window.number, claim, encode(NO_ACCOUNT))


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)
