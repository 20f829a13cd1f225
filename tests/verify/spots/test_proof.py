"""A proof has one encoding, names the segment it is about, and holds against its signer alone."""

import random

import pytest

from swarm.config.spec import NANO
from swarm.errors import BadEncoding, BadSignature, BrokenPromise, OutOfTurn, PeerFault
from swarm.gossip.trade.messages import Codec
from swarm.ledger.check_statements import MOVE_BYTES_MAX
from swarm.primitives.codec import encode, replace
from swarm.types import Digest, RoundIndex
from swarm.verify.spots.proof import (
    check_contradiction,
    check_proof,
    decode_proof,
    statement_of,
    trace_fraud,
)
from swarm.verify.spots.statement import (
    CopyTrace,
    MergeTrace,
    MicrobatchTrace,
    TraceSaid,
    UpdateTrace,
    sign_statement,
    trace_path,
)
from tests.ledger.traces import WINDOW, honest, lied, recorded
from tests.verify.spots.test_checking import VERIFIER
from tests.verify.windows import CHAIN


def test_both_kinds_of_proofs_are_read_as_they_were_written() -> None:
    _, found = lied()
    said = found.statement
    assert decode_proof(encode(found)) == found
    assert decode_proof(encode(said)) == said
    assert statement_of(found) == statement_of(said) == said
    assert len(encode(found)) <= MOVE_BYTES_MAX
    for raw in (b"", encode(found)[:-1], encode(found.reveal), bytes(MOVE_BYTES_MAX + 1)):
        with pytest.raises(BadEncoding):
            decode_proof(raw)


def test_what_convicts_on_the_ledger_is_about_the_segment_of_its_window() -> None:
    _, found = lied()
    key = recorded()[WINDOW].spot.key
    body = trace_fraud(key, found)
    assert (body.run, body.round, body.stage, body.seat) == key_of(found.statement.key)
    assert decode_proof(body.proof) == found


def key_of(key: object) -> tuple[object, ...]:
    return tuple(getattr(key, name) for name in ("run", "round", "stage", "seat"))


def test_a_statement_contradicts_any_other_claim_and_only_its_signer() -> None:
    one = recorded()[WINDOW]
    said, run = one.said(honest(WINDOW)), one.spot.plan.run_digest
    peer, shown = one.secret.peer, one.segment.claims()[WINDOW].claim
    with pytest.raises(BrokenPromise):
        check_contradiction(said, shown, peer, CHAIN, run)
    other = Digest(bytes(32))
    check_contradiction(said, other, peer, CHAIN, run)
    stranger = one.crop.secrets[1, 0].peer
    for faulty in ((stranger, CHAIN, run), (peer, run, run), (peer, CHAIN, CHAIN)):
        with pytest.raises(BadSignature):
            check_contradiction(said, other, *faulty)


def test_a_false_element_is_judged_with_the_facts_of_its_own_round_and_stage() -> None:
    _, found = lied()
    one = recorded()[WINDOW]
    facts, run = one.spot.window.facts, one.spot.plan.run_digest
    check_proof(found, facts, one.secret.peer, CHAIN, run)
    said = replace(found.statement, round=RoundIndex(7))
    with pytest.raises(OutOfTurn):
        check_proof(replace(found, statement=said), facts, one.secret.peer, CHAIN, run)
    with pytest.raises(PeerFault):
        check_proof(found, facts, one.crop.secrets[1, 0].peer, CHAIN, run)


NUMBERS = (-1, 0, 1, 2, 6, 7, 256, 257, NANO, 1 << 40, (1 << 53) - 1, 1 << 62, -(1 << 63))


def some_trace(rng: random.Random) -> TraceSaid:
    """A trace of anything, of numbers that a run has and that it has not."""
    one, two, three = (rng.choice(NUMBERS) for _ in range(3))
    codecs = (None, *Codec)
    match rng.randrange(4):
        case 0:
            return MicrobatchTrace(one, bytes(32))
        case 1:
            return UpdateTrace(one, two, three, bytes(32))
        case 2:
            return CopyTrace(one, two, bytes(32))
        case _:
            return MergeTrace(
                event=one,
                exchange=rng.choice((0, 1, two)),
                due_nano=rng.choice((0, 1, three)),
                codec=rng.choice(codecs),
                my_codec=rng.choice(codecs),
                moves_residual=rng.random() < 0.5,
                root=bytes(32),
            )


def test_attack_a_solver_that_signs_traces_of_anything_stops_no_replica() -> None:
    """An accomplice could show them: they are refused, whatever they are said to be of."""
    (liar, found), one, rng = lied(), recorded()[WINDOW], random.Random(7)
    run, facts = one.spot.plan.run_digest, one.spot.window.facts
    for _ in range(400):
        traces = (some_trace(rng),)
        claim = found.statement.claim
        signed = (one.secret, CHAIN, run, one.spot.key, VERIFIER, claim, liar.opened, traces)
        proof = replace(
            found,
            statement=sign_statement(*signed),
            trace=traces[0],
            number=0,
            path=trace_path(traces, 0),
        )
        with pytest.raises(PeerFault):
            check_proof(proof, facts, one.secret.peer, CHAIN, run)
