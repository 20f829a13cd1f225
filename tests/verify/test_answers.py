"""What is hidden now is what is shown later, and only by who hid it."""

from swarm.primitives.codec import decode, encode
from swarm.primitives.commitments import verify_commit, window_claim
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST
from swarm.verify.judging import ANSWER_BYTES_MAX, OwnAnswer, key_of, seat_of, window_of
from tests.ledger.checking import a_case


def test_an_answer_opens_its_own_commitment_and_fits_its_row() -> None:
    case = a_case()
    me, other = case.able[0].peer, case.able[1].peer
    leaves, end = case.true.window(0)
    key = window_of(case.record, 0)
    answer = OwnAnswer(*seat_of(key), 0, bytes(32), leaves, end, NO_DIGEST)
    assert answer.key == key
    assert seat_of(key) == key_of(case.record)
    assert answer.claim == window_claim(leaves, end)
    shown = answer.shown()
    hidden = answer.hidden(me)
    assert hidden.commitment == verify_commit(shown.leaves, shown.end_root, shown.salt, me)
    assert hidden.commitment != answer.commitment(other)
    assert decode(OwnAnswer, encode(answer), limit=ANSWER_BYTES_MAX) == answer
    many = tuple(digest("leaf", bytes([i])) for i in range(256))
    full = OwnAnswer(*seat_of(key), 255, bytes(32), many, end, NO_DIGEST)
    assert len(encode(full)) <= ANSWER_BYTES_MAX
