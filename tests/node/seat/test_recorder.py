"""What a seat wrote down becomes the commit the ledger wants, and its salt hides the trace."""

from swarm.ledger.transactions import parse_transaction, sign_transaction
from swarm.node.seat.commits import commit_of, state_root_of
from swarm.primitives.crypto import digest
from swarm.primitives.merkle import verify_proof
from swarm.training.record.segment import COMPONENTS, SegmentLog, StepRecord
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.transcript import component_proof
from tests.fakes import FakeNetwork

START = tuple(digest("test", bytes([i])) for i in range(COMPONENTS))
END = tuple(digest("test", bytes([100 + i])) for i in range(COMPONENTS))


def a_log() -> SegmentLog:
    log = SegmentLog(StageIndex(1), 2, RoundIndex(7), START, end=END, tokens=2048)
    log.records = [StepRecord(0, START, (), ()), StepRecord(1, None, (), ((0, 1, 0),))]
    return log


def test_a_commit_is_a_statement_the_ledger_can_read() -> None:
    body = commit_of(a_log(), RunIndex(1), 3, bytes(32))
    secret = FakeNetwork().host(1).secret
    raw = sign_transaction(secret, Digest(bytes(32)), body)
    assert parse_transaction(raw).body == body
    assert (body.round, body.stage, body.seat, body.incarnation) == (7, 1, 2, 3)
    assert (body.num_steps, body.tokens) == (2, 2048)
    assert body.start_root == state_root_of(START)


def test_the_salt_changes_the_trace_commit_alone() -> None:
    one = commit_of(a_log(), RunIndex(1), 3, bytes(32))
    two = commit_of(a_log(), RunIndex(1), 3, b"\1" * 32)
    assert one.trace_commit != two.trace_commit
    assert (one.end_root, one.inbox_root) == (two.end_root, two.inbox_root)


def test_an_empty_inbox_is_no_digest() -> None:
    body = commit_of(a_log(), RunIndex(1), 3, bytes(32))
    assert body.inbox_root == body.outbox_root == body.gossip_root == NO_DIGEST


def test_phi_is_proved_by_the_end_root() -> None:
    root = state_root_of(END)
    verify_proof(root, END[4], 4, COMPONENTS, component_proof(END, 4))
