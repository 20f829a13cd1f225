"""What is hidden now is what is shown later, and only by who hid it."""

from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.commitments import SALT_BYTES, verify_commit
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Digest
from swarm.verify.answers import ANSWER_BYTES_MAX, OwnAnswer, key_of, seat_of, window_of
from tests.ledger.checking import a_case

SALT = bytes(SALT_BYTES)


def test_an_answer_opens_its_own_commitment_and_fits_its_row() -> None:
    case = a_case()
    me, other = case.able[0].peer, case.able[1].peer
    result = case.true.results[0]
    key = window_of(case.record, 0)
    answer = OwnAnswer(*seat_of(key), 0, SALT, result, NO_DIGEST)
    assert answer.key == key
    assert seat_of(key) == key_of(case.record)
    assert answer.claim == result.claim
    hidden, shown = answer.hidden(me, 1), answer.shown(1, NO_DIGEST)
    assert (hidden.check, shown.check) == (1, 1)
    assert (hidden.run, hidden.round, hidden.stage, hidden.seat) == seat_of(key)
    assert (shown.run, shown.round, shown.stage, shown.seat) == seat_of(key)
    assert hidden.commitment == verify_commit(Digest(shown.claim), shown.salt, me)
    assert hidden.commitment != answer.commitment(other)
    assert decode(OwnAnswer, encode(answer), limit=ANSWER_BYTES_MAX) == answer
    most = replace(result, tokens=(1 << 63) - 1)
    full = OwnAnswer(*seat_of(key), 255, SALT, most, digest("test", b"root"))
    assert len(encode(full)) <= ANSWER_BYTES_MAX


def test_a_claim_is_shown_only_where_it_is_not_the_solvers() -> None:
    case = a_case()
    key, true = window_of(case.record, 0), case.true.results[0]
    answer = OwnAnswer(*seat_of(key), 0, SALT, true, NO_DIGEST)
    assert answer.shown(0, true.claim).claim == b""
    others = [
        replace(true, leaves_root=NO_DIGEST),
        replace(true, start_root=NO_DIGEST),
        replace(true, end_root=NO_DIGEST),
        replace(true, tokens=true.tokens + 1),
    ]
    for solvers in others:
        assert answer.shown(0, solvers.claim).claim == true.claim
