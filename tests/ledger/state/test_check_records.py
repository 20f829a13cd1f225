"""Everything kept about a check survives its encoding."""

from swarm.ledger.state.records import SegmentRecord
from swarm.primitives.codec import decode, encode
from tests.ledger.checking import a_case


def test_a_disputed_segment_survives_its_encoding() -> None:
    case = a_case(lie=0, num_steps=25)
    windows = case.up_to_reveal()
    draws = case.record.draws
    wrong = next((key for key in case.able if windows[key.peer] == 0), None)
    assert wrong is not None, "the draws of these keys are always the same"
    case.show({wrong.peer: 0})
    case.vote([case.ledger.keys[0]], is_guilty=True)
    record = case.record
    assert record.dispute is not None
    assert record.accusations
    assert record.checks
    assert len(record.windows) == 3
    assert len(draws) == 1
    assert decode(SegmentRecord, encode(record)) == record
