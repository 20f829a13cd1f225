"""Everything kept about a check survives its encoding."""

from swarm.ledger.state.records import SegmentRecord
from swarm.primitives.codec import decode, encode
from tests.ledger.checking import a_case


def test_a_disputed_segment_survives_its_encoding() -> None:
    case = a_case(lie=0, num_steps=25)
    case.up_to_reveal()
    draws = case.record.draws
    case.blow(case.ledger.keys[0], 0)
    case.move(case.accuser, b"open")
    record = case.record
    assert record.dispute is not None
    assert record.accusations
    assert record.checks
    assert len(record.claims) == 3
    assert len(draws) == 1
    assert decode(SegmentRecord, encode(record)) == record
