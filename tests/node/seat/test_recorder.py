"""What a seat wrote down becomes the commit the ledger wants, and its salt hides the trace."""

from swarm.ledger.transactions import parse_transaction, sign_transaction
from swarm.node.seat.commits import commit_of, state_root_of
from swarm.primitives.codec import replace
from swarm.primitives.commitments import SALT_BYTES
from swarm.primitives.crypto import digest
from swarm.primitives.merkle import verify_proof
from swarm.primitives.state_parts import COMPONENTS
from swarm.training.record.segment import SegmentLog, StepRecord
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.transcript import component_proof
from tests.fakes import FakeNetwork

START = tuple(digest("test", bytes([i])) for i in range(COMPONENTS))
SALT = bytes(SALT_BYTES)
END = tuple(digest("test", bytes([100 + i])) for i in range(COMPONENTS))


def a_log() -> SegmentLog:
    log = SegmentLog(StageIndex(1), 2, RoundIndex(7), START, end=END, tokens=2048)
    log.records = [
        StepRecord(0, START, (), (), 1024),
        StepRecord(1, None, (), ((0, 1, 0),), 1024),
    ]
    return log


def test_a_commit_is_a_statement_the_ledger_can_read() -> None:
    body = commit_of(a_log(), RunIndex(1), 3, SALT)
    secret = FakeNetwork().host(1).secret
    raw = sign_transaction(secret, Digest(bytes(32)), body)
    assert parse_transaction(raw).body == body
    assert (body.round, body.stage, body.seat, body.incarnation) == (7, 1, 2, 3)
    assert (body.num_steps, body.tokens) == (2, 2048)
    assert body.start == state_root_of(START)


def test_the_salt_changes_the_trace_commit_alone() -> None:
    one = commit_of(a_log(), RunIndex(1), 3, SALT)
    two = commit_of(a_log(), RunIndex(1), 3, b"\1" * SALT_BYTES)
    assert one.trace_commit != two.trace_commit
    assert replace(one, trace_commit=two.trace_commit) == two


def test_a_commit_of_a_seat_that_sent_nothing_names_no_list() -> None:
    body = commit_of(a_log(), RunIndex(1), 3, SALT)
    assert body.sent_root == NO_DIGEST


def test_phi_is_proved_by_the_end_root() -> None:
    root = state_root_of(END)
    verify_proof(root, END[4], 4, COMPONENTS, component_proof(END, 4))
