"""A solver is convicted in one transaction by what it signed of a window itself; anything else is refused."""

import random
from collections.abc import Callable
from typing import cast

import pytest

from swarm.errors import BadEncoding, BrokenPromise, InvalidStatement, Reason
from swarm.ledger import mempool
from swarm.ledger.check_statements import MOVE_BYTES_MAX, TraceFraud
from swarm.ledger.mempool import Mempool
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import parse_transaction, sign_transaction
from swarm.ledger.transition import frauds
from swarm.ledger.transition.apply import check_transaction
from swarm.ledger.transition.court import Court, Stated, the_court
from swarm.ledger.transition.disputes import first_accusation
from swarm.ledger.transition.phases import challenge_end
from swarm.ledger.transition.prices import required_fee
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import STAKE
from swarm.types import Amount, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.spots.proof import FalseTrace, TraceProof, trace_fraud
from swarm.verify.spots.statement import UpdateTrace
from tests.ledger.edges import lie_about_nothing
from tests.ledger.traces import WINDOW, Traced, elements_of, honest, lied, recorded, traced
from tests.ledger.transition.test_edge_convictions import assert_gone, convict
from tests.verify.spots.test_checking import VERIFIER
from tests.verify.windows import CHAIN


def told(case: Traced, proof: TraceProof) -> TraceFraud:
    return trace_fraud(case.record, proof)


def finder(case: Traced) -> SecretKey:
    """A bystander."""
    return case.ledger.keys[4]


def shown(case: Traced) -> Traced:
    """The solver has shown its windows; nobody had asked for them."""
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    return case


def answered() -> Traced:
    """The solver has shown its windows, and a verifier its answer."""
    case = traced()
    windows = case.up_to_reveal()
    first = next(iter(windows))
    case.show({first: windows[first]})
    return case


def disputed() -> Traced:
    """A reporter has found a window of it false that is not."""
    case = shown(traced())
    case.wait(SegmentPhase.UNSAMPLED)
    case.blow(case.able[-1], 0, case.true.with_lie(0))
    assert case.is_now(SegmentPhase.DISPUTED)
    return case


@pytest.mark.rule("L99", "L44")
def test_a_false_element_convicts_in_one_transaction() -> None:
    case = traced()
    assert convict(case, told(case, case.lie()), finder(case)) == STAKE
    assert_gone(case)


@pytest.mark.rule("L99")
@pytest.mark.parametrize(
    "make", [lambda: shown(traced()), answered, disputed], ids=["shown", "answered", "disputed"]
)
def test_a_false_element_convicts_in_any_phase_and_all_get_back_what_they_put_up(
    make: Callable[[], Traced],
) -> None:
    case = make()
    assert convict(case, told(case, case.lie()), finder(case)) == STAKE
    assert_gone(case)


@pytest.mark.rule("L99", "L44")
def test_a_friend_that_proves_it_when_a_verdict_comes_saves_nothing() -> None:
    case = disputed()
    assert case.record.dispute is not None
    accuser = case.ledger.key_of(first_accusation(case.record, case.record.dispute.window).peer)
    before = case.balance(accuser), case.balance(finder(case))
    assert convict(case, told(case, case.lie()), finder(case)) == STAKE
    assert case.balance(accuser) - before[0] >= STAKE * 40 // 100
    assert case.balance(finder(case)) < before[1]


@pytest.mark.rule("L99")
@pytest.mark.parametrize("window", [0, WINDOW, 6])
def test_who_states_one_claim_and_shows_another_is_convicted_once_it_has_shown_it(
    window: int,
) -> None:
    case = traced()
    body = told(case, case.contradiction(window))
    assert case.refused(finder(case), body) is Reason.WRONG_PHASE, "nothing was shown yet"
    shown(case)
    assert convict(case, body, finder(case)) == STAKE
    assert_gone(case)


@pytest.mark.rule("L99")
def test_a_proof_is_bound_to_its_segment_by_its_signature_alone_and_the_finder_says_nothing() -> (
    None
):
    """Two finders say the same but for their envelopes; the second is too late."""
    case = traced()
    body = told(case, case.lie())
    one, two = (case.ledger.sign(key, body) for key in case.ledger.keys[3:5])
    with pytest.raises(InvalidStatement, match="the segment is guilty"):
        case.ledger.block(one, two)
    case.submit(finder(case), body)
    assert case.refused(case.ledger.keys[3], body) is Reason.WRONG_PHASE


def with_element(case: Traced, **changes: object) -> FalseTrace:
    """A proof in which something else is shown."""
    return replace(case.lie(), **changes)


def honest_element(case: Traced) -> FalseTrace:
    """An honest statement, and the element that is false in a liar's trace."""
    solved, found = honest(WINDOW), lied()[1]
    return replace(
        found,
        statement=case.states(solved, WINDOW),
        trace=solved.traces[found.number],
    )


def of_another_chain(case: Traced) -> FalseTrace:
    """A proof whose solver signed it in a network that is not this one."""
    liar, found = lied()
    digest = case.ledger.state.run(case.run.index).spec_digest
    said = liar.statement(case.solver, CHAIN, digest, case.key(WINDOW), VERIFIER)
    return replace(found, statement=said)


REFUSED: dict[str, tuple[Reason, Callable[[Traced], TraceFraud]]] = {
    "about another round": (
        Reason.BAD_PROOF,
        lambda case: told(case, case.lie(round=RoundIndex(0))),
    ),
    "about another run": (Reason.BAD_PROOF, lambda case: told(case, case.lie(run=RunIndex(2)))),
    "about another stage": (
        Reason.BAD_PROOF,
        lambda case: told(case, case.lie(stage=StageIndex(1))),
    ),
    "about another seat": (Reason.BAD_PROOF, lambda case: told(case, case.lie(seat=0))),
    "about a window that is not": (Reason.BAD_PROOF, lambda case: told(case, case.lie(window=7))),
    "about a window beyond all": (
        Reason.BAD_PROOF,
        lambda case: told(case, case.lie(window=1 << 60)),
    ),
    "signed by another peer": (
        Reason.BAD_SIGNATURE,
        lambda case: told(case, case.lie(case.ledger.keys[4])),
    ),
    "signed for another chain": (
        Reason.BAD_SIGNATURE,
        lambda case: told(case, of_another_chain(case)),
    ),
    "with a claim altered": (
        Reason.BAD_SIGNATURE,
        lambda case: told(
            case, with_element(case, statement=replace(case.lie().statement, claim=bytes(32)))
        ),
    ),
    "with a hash that is short": (
        Reason.BAD_FIELD,
        lambda case: told(
            case, with_element(case, statement=replace(case.lie().statement, claim=b""))
        ),
    ),
    "with another trace": (
        Reason.BAD_PROOF,
        lambda case: told(case, with_element(case, trace=UpdateTrace(2, 2, 4, bytes(32)))),
    ),
    "with another place": (
        Reason.BAD_PROOF,
        lambda case: told(
            case, with_element(case, reveal=replace(case.lie().reveal, place=1 << 40))
        ),
    ),
    "with nothing shown": (
        Reason.BAD_PROOF,
        lambda case: told(case, with_element(case, values=replace(case.lie().values, openings=()))),
    ),
    "an honest trace": (Reason.BAD_PROOF, lambda case: told(case, honest_element(case))),
    "garbage": (
        Reason.BAD_FIELD,
        lambda case: replace(told(case, case.lie()), proof=random.Random(1).randbytes(2_000)),
    ),
    "nothing": (Reason.BAD_FIELD, lambda case: replace(told(case, case.lie()), proof=b"")),
    "more behind it": (
        Reason.BAD_FIELD,
        lambda case: replace(told(case, case.lie()), proof=encode(case.lie()) + b"\0"),
    ),
    "a proof of the other kind": (
        Reason.BAD_FIELD,
        lambda case: replace(told(case, case.lie()), proof=encode(lie_about_nothing(case))),
    ),
    "too large": (
        Reason.BAD_FIELD,
        lambda case: replace(told(case, case.lie()), proof=bytes(MOVE_BYTES_MAX + 1)),
    ),
    "about a seat without a commit": (
        Reason.UNKNOWN_SEGMENT,
        lambda case: replace(told(case, case.lie()), seat=2),
    ),
    "about a run that is not": (
        Reason.UNKNOWN_SEGMENT,
        lambda case: replace(told(case, case.lie()), run=RunIndex(2)),
    ),
}


@pytest.mark.rule("L99")
@pytest.mark.parametrize("what", REFUSED)
def test_what_proves_no_lie_is_refused_and_changes_nothing(what: str) -> None:
    reason, make = REFUSED[what]
    case = traced()
    assert case.refused(finder(case), make(case)) is reason


@pytest.mark.rule("L99")
def test_a_proof_that_is_cut_anywhere_is_refused() -> None:
    case, rng = traced(), random.Random(3)
    for proof in (case.lie(), case.contradiction()):
        raw = encode(proof)
        for length in {1, 2, len(raw) - 1, *rng.sample(range(len(raw)), 30)}:
            body = replace(told(case, proof), proof=raw[:length])
            assert case.refused(finder(case), body) is Reason.BAD_FIELD


@pytest.mark.rule("L99")
@pytest.mark.parametrize("is_shown", [False, True])
def test_attack_no_flipped_bit_of_a_proof_convicts_or_stops_a_replica(*, is_shown: bool) -> None:
    """One element is false: all of its proof is signed by the solver, or leads to what is."""
    case, rng = traced(), random.Random(int(is_shown))
    if is_shown:
        shown(case)
    state, height = case.ledger.state, case.ledger.state.height
    terms = {"nonce": 1, "fee": 10_000, "expiry": height + 20}
    for proof in (case.lie(), case.contradiction()):
        raw, body = encode(proof), told(case, proof)
        for _ in range(300):
            changed = bytearray(raw)
            changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            lie = replace(body, proof=bytes(changed))
            data = sign_transaction(finder(case), state.chain, lie, **terms)
            with pytest.raises(InvalidStatement):
                check_transaction(state, data)
    assert case.ledger.state.root == state.root


@pytest.mark.rule("L99")
def test_property_nothing_that_an_honest_solver_states_and_shows_convicts_it() -> None:
    """Every window, and drawn elements of all its traces, before it has shown its claims and after."""
    case = traced()
    for is_shown in (False, True):
        if is_shown:
            shown(case)
        for window, one in enumerate(recorded()):
            solved = honest(window)
            said = case.states(solved, window)
            bare = Reason.BAD_PROOF if is_shown else Reason.WRONG_PHASE
            assert case.refused(finder(case), told(case, said)) is bare
            for proof in elements_of(one, solved, said, seed=window):
                assert case.refused(finder(case), told(case, proof)) is Reason.BAD_PROOF
                with pytest.raises(BrokenPromise, match="what its operator computes"):
                    the_court().check_lie(case.ledger.state, case.record, encode(proof))


@pytest.mark.rule("L99")
def test_after_the_challenge_window_a_proof_comes_too_late() -> None:
    case = shown(traced())
    end = challenge_end(case.record, case.run.spec)
    body = told(case, case.lie())
    case.ledger.empty_blocks(end - 2 - case.ledger.state.height)
    last = case.ledger.head
    case.submit(finder(case), body)
    assert case.is_now(SegmentPhase.GUILTY), "the last block in which it may be"
    case.ledger.head = last
    case.ledger.block()
    assert case.refused(finder(case), body) in {Reason.EXPIRED, Reason.UNKNOWN_SEGMENT}


@pytest.mark.rule("L99")
def test_while_a_dispute_is_heard_the_challenge_window_ends_all_the_same() -> None:
    case = shown(traced())
    case.wait(SegmentPhase.UNSAMPLED)
    end, reporter = challenge_end(case.record, case.run.spec), case.able[-1]
    case.ledger.empty_blocks(end - 2 - case.ledger.state.height)
    case.blow(reporter, 0, case.true.with_lie(0))
    assert case.is_now(SegmentPhase.DISPUTED)
    assert case.refused(finder(case), told(case, case.lie())) is Reason.EXPIRED


@pytest.mark.rule("L46", "L99")
def test_in_a_native_run_nothing_is_proved_by_arithmetic() -> None:
    case = traced(numerics="native")
    assert case.refused(finder(case), told(case, case.lie())) is Reason.WRONG_PHASE


@pytest.mark.rule("L99")
def test_a_segment_that_is_guilty_already_is_not_convicted_again() -> None:
    case = traced()
    assert convict(case, lie_about_nothing(case), finder(case)) == STAKE
    assert case.refused(finder(case), told(case, case.lie())) is Reason.WRONG_PHASE


@pytest.mark.rule("L10", "L11", "L99")
def test_a_proof_pays_for_its_bytes_and_is_signed_before_it_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = list[bytes]()

    class Counting:
        """A court that counts what it is asked."""

        def lie_about(self, proof: bytes) -> Stated:
            del proof
            return Stated(Digest(bytes(32)), VERIFIER, 0, is_element=True)

        def check_lie(self, reader: object, record: object, proof: bytes) -> None:
            del reader, record
            judged.append(proof)
            raise BadEncoding("no proof")

    monkeypatch.setattr(frauds, "the_court", lambda: cast("Court", Counting()))
    case = traced()
    state, key = case.ledger.state, finder(case)
    body = replace(told(case, case.lie()), proof=bytes(MOVE_BYTES_MAX))
    terms = {"nonce": 1, "fee": 0, "expiry": state.height + 20}
    size = len(sign_transaction(key, state.chain, body, **terms)) + 4
    terms["fee"] = required_fee(state.params, size)
    good = sign_transaction(key, state.chain, body, **terms)
    forged = encode(replace(parse_transaction(good), signature=bytes(64)))
    cheap = sign_transaction(key, state.chain, body, **{**terms, "fee": terms["fee"] // 2})
    poor = sign_transaction(case.ledger.keys[20], state.chain, body, **terms)
    for data, reason in (
        (forged, Reason.BAD_SIGNATURE),
        (cheap, Reason.FEE),
        (poor, Reason.BALANCE),
    ):
        with pytest.raises(InvalidStatement) as caught:
            check_transaction(state, data)
        assert caught.value.reason is reason
    assert not judged
    with pytest.raises(InvalidStatement):
        check_transaction(state, good)
    assert judged == [body.proof]
    assert terms["fee"] > Amount(MOVE_BYTES_MAX // 100)


@pytest.mark.rule("L28", "L58", "L99")
def test_a_proof_is_held_with_the_statements_that_may_not_be_left_out_one_of_each_sender() -> None:
    case, pool = traced(), Mempool()
    body = told(case, case.lie())
    one, two = (case.ledger.sign(key, body) for key in case.ledger.keys[3:5])
    assert pool.add(one, case.ledger.state)
    assert pool.add(two, case.ledger.state), "of another sender"
    edge = case.ledger.sign(case.ledger.keys[3], lie_about_nothing(case), nonce=2)
    with pytest.raises(InvalidStatement) as caught:
        pool.add(edge, case.ledger.state)
    assert caught.value.reason is Reason.DUPLICATE, "one proof against a segment is enough"
    assert mempool._lane(parse_transaction(one)) is mempool.Lane.DUTY
