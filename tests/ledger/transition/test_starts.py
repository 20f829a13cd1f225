"""A segment begins with a committed end, or with what the ledger makes from something that it knows."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import Run, Seat, SegmentRecord, StartKind
from swarm.ledger.transactions import CommitSegment, Join, PostCheckpoint
from swarm.ledger.transition.runs import round_info
from swarm.ledger.transition.starts import made_parts
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.primitives.state_parts import (
    ANCHOR,
    COMPONENTS,
    FIRST,
    OFFERED,
    OUTER_M,
    PARAMS,
    PHI,
    RESIDUAL,
    SECOND,
    STEPS,
    TOKENS,
    number_component,
    zeros_component,
)
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Digest, RoundIndex, StageIndex

SPEC = small_run_spec(round_blocks=3, rounds=12)
END = tuple(digest("component", bytes([part])) for part in range(COMPONENTS))
END_ROOT = merkle_root(END)
NOWHERE = digest("x", b"a state that nobody else has")


class Late:
    """A stage with a checkpoint and a committed end of the same weights, and a seat that has not trained."""

    def __init__(self) -> None:
        self.ledger = InMemoryLedger()
        run = self.ledger.open_run(SPEC)
        keys, seats = self.ledger.keys, range(1, 4)
        joins = [self.ledger.sign(keys[number], Join(run.index)) for number in seats]
        self.ledger.block(*joins)
        run = self.ledger.reach_round(run, 1)
        self.ledger.block(*self.ledger.commit_all(run, 0))
        run = self.ledger.reach_round(run, 2)
        info = round_info(run, 2)
        assert info is not None
        drawn = next(seat for seat in info.seats[0] if seat.index == info.drawn[0])
        key = self.ledger.key_of(drawn.peer)
        ended = self.ledger.commit(run, 1, 0, drawn.index, end_root=END_ROOT)
        posted = PostCheckpoint(
            run=run.index,
            round=RoundIndex(2),
            stage=StageIndex(0),
            seat=drawn.index,
            phi_root=END[PHI],
            phi_bytes=4_000,
            proof=merkle_proof(END, PHI),
        )
        self.ledger.block(self.ledger.sign(key, ended), self.ledger.sign(key, posted))
        self.ends = {
            segment.stage: segment.end_root
            for segment in self.ledger.state.segments(run, RoundIndex(0))
        }
        self.run: Run = self.ledger.reach_round(run, 3)
        self.seat: Seat = next(seat for seat in run.seats[0] if seat.index != drawn.index)

    @property
    def key(self) -> SecretKey:
        return self.ledger.key_of(self.seat.peer)

    def commit(self, **changes: object) -> CommitSegment:
        return self.ledger.commit(self.run, 2, 0, self.seat.index, **{"start": b""} | changes)

    def accepted(self, body: CommitSegment) -> SegmentRecord:
        self.ledger.block(self.ledger.sign(self.key, body))
        found = self.ledger.state.segment(body.run, body.round, body.stage, body.seat)
        assert found is not None
        return found

    def refused(self, body: CommitSegment) -> Reason:
        root = self.ledger.state.root
        with pytest.raises(InvalidStatement) as caught:
            self.ledger.block(self.ledger.sign(self.key, body))
        assert self.ledger.state.root == root
        return caught.value.reason


def initial() -> Digest:
    return SPEC.starts[0].weights


@pytest.mark.rule("L90", "L100")
def test_a_start_that_is_made_has_the_root_of_what_it_was_made_from() -> None:
    start, fragments = SPEC.starts[0], SPEC.outer.fragments
    for named, kind, parts in (
        (
            {"source": END[PHI]},
            StartKind.CHECKPOINT,
            made_parts(start, fragments, END[PHI], (), b""),
        ),
        (
            {"source": END_ROOT, "inherited": END, "anchor": END[PHI]},
            StartKind.INHERITED,
            made_parts(start, fragments, b"", END, END[PHI]),
        ),
        ({}, StartKind.INITIAL, made_parts(start, fragments, initial(), (), b"")),
    ):
        record = Late().accepted(Late().commit(**named))
        assert (record.start_kind, record.start_root) == (kind, merkle_root(parts))


@pytest.mark.rule("L100")
def test_a_state_is_made_of_weights_and_what_goes_on_and_zeros() -> None:
    start = replace(SPEC.starts[0], num_parameters=10, num_seconds=7, num_residuals=20)
    made = made_parts(start, 2, b"w" * 32, (), b"")
    assert made[PARAMS] == made[PHI] == made[ANCHOR] == b"w" * 32
    assert made[FIRST] == made[OUTER_M] == zeros_component(10)
    assert (made[SECOND], made[RESIDUAL]) == (zeros_component(7), zeros_component(20))
    assert made[STEPS] == number_component(0)
    goes_on = made_parts(start, 2, b"", END, b"a" * 32)
    assert goes_on[PARAMS] == goes_on[PHI] == END[PHI]
    assert (goes_on[SECOND], goes_on[STEPS], goes_on[ANCHOR]) == (
        END[SECOND],
        END[STEPS],
        b"a" * 32,
    )
    for part in (FIRST, OUTER_M, RESIDUAL, TOKENS, OFFERED):
        assert goes_on[part] == made[part]


@pytest.mark.rule("L90", "L100")
def test_attack_a_start_from_weights_that_nobody_has_committed() -> None:
    """Whatever its seat has in memory: the ledger knows no such source, and names the root itself."""
    late = Late()
    for source in (NOWHERE, late.ends[StageIndex(1)], END[PARAMS]):
        assert late.refused(late.commit(source=source)) is Reason.WRONG_START
    assert late.refused(late.commit(start=NOWHERE)) is Reason.WRONG_START
    assert late.refused(late.commit(start=END_ROOT[:8])) is Reason.WRONG_START


@pytest.mark.rule("L100")
def test_attack_parts_of_another_state_for_the_end_that_is_named() -> None:
    """The second moments of somebody else, or of nobody."""
    late = Late()
    bent = (*END[:SECOND], NOWHERE, *END[SECOND + 1 :])
    for parts in ((), bent, tuple(reversed(END))):
        body = late.commit(source=END_ROOT, inherited=parts, anchor=initial())
        assert late.refused(body) is Reason.BAD_PROOF


@pytest.mark.rule("L100")
def test_attack_an_anchor_that_no_partner_has() -> None:
    late = Late()
    for anchor in (NOWHERE, b""):
        body = late.commit(source=END_ROOT, inherited=END, anchor=anchor)
        assert late.refused(body) is Reason.WRONG_START
    assert late.accepted(late.commit(source=END_ROOT, inherited=END, anchor=initial()))


@pytest.mark.rule("L100")
def test_nothing_is_named_beside_a_committed_end_or_weights() -> None:
    late = Late()
    end = late.ends[StageIndex(0)]
    for more in ({"source": end}, {"inherited": END}, {"anchor": initial()}):
        assert late.refused(late.commit(start=end, **more)) is Reason.BAD_FIELD
    for more in ({"inherited": END}, {"anchor": initial()}):
        assert late.refused(late.commit(source=END[PHI], **more)) is Reason.BAD_FIELD
        assert late.refused(late.commit(**more)) is Reason.BAD_FIELD
