"""Derive the state that a segment begins with: a committed end, or one that is made from something.

Core: functions of a draft. Raises ``InvalidStatement``.

    continued    the end of the seat's own last segment
    adopted      the end of another segment of the stage
    inherited    slow weights, second moments and step of a committed end; all else zero
    checkpoint   a standing checkpoint as fast and slow weights; all else zero
    initial      the initial weights of the run; all else zero

A commit names a committed end by its root. For the other three it names what the state was made from, and the
ledger computes the root: a segment cannot begin with anything else, whatever its seat has done. Source: rules
L23, L90 and L100.
"""

from collections.abc import Sequence

from swarm.config.spec import StageStart
from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Run, Seat, SegmentPhase, StartKind
from swarm.ledger.state.state import Reader
from swarm.ledger.transactions import START_PREFIX_BYTES, CommitSegment
from swarm.ledger.transition.rollbacks import check_restart, is_adrift, is_set_back
from swarm.primitives.codec import replace
from swarm.primitives.merkle import merkle_root
from swarm.primitives.state_parts import (
    PHI,
    SECOND,
    STEPS,
    number_component,
    offered_component,
    tokens_component,
    zeros_component,
)
from swarm.types import Digest, RoundIndex, StageIndex

FRESH_ROUNDS = 2
"""Rounds in which a stage's first checkpoint, or its last commit, may be news to who prepares a seat."""


def start_of(draft: Draft, run: Run, seat: Seat, body: CommitSegment) -> tuple[StartKind, Digest]:
    """Return the kind and the root of the state that a segment begins with; raise if it may not."""
    if seat.last_commit_round >= body.round:
        raise InvalidStatement(Reason.WRONG_ROUND, "a later segment of this seat is committed")
    check_restart(run, seat, body, is_known_end=bool(body.start))
    if body.start:
        return _committed(draft, run, seat, body)
    is_undone = is_set_back(run, seat, body.stage, body.round)
    may_go_on = not is_undone and not is_adrift(seat, body.round)
    if seat.last_commit_round == body.round - 1 >= 0 and may_go_on:
        raise InvalidStatement(Reason.WRONG_START, "not the end of this seat's last segment")
    kind = _made_kind(draft, run, body, is_undone=is_undone)
    _check_made(run, body, kind)
    return kind, made_root(run, body)


def shortened(run: Run, body: CommitSegment) -> CommitSegment:
    """Return a commit whose start is the end of its seat's last segment, if it is, by its first bytes only."""
    seats = run.seats[body.stage] if run.seats else ()
    ends = [s.last_end_root for s in seats if s.index == body.seat and s.last_commit_round >= 0]
    return replace(body, start=body.start[:START_PREFIX_BYTES]) if body.start in ends else body


def may_not_begin_anew(run: Run, stage: StageIndex, round_: RoundIndex) -> bool:
    """Return True if a segment of a round may not begin from initial weights: the stage has better ones.

    A seat that was prepared when the first checkpoint came may bring them for two more rounds, and so may one
    of a stage in which nobody has trained for longer than that.
    """
    is_posted = any(c.round + FRESH_ROUNDS <= round_ for c in run.standing(stage))
    rosters = [run.seats[stage] if run.seats else (), *(info.seats[stage] for info in run.rounds)]
    newest = max((seat.last_commit_round for roster in rosters for seat in roster), default=-1)
    return is_posted and newest + FRESH_ROUNDS >= round_


def made_parts(
    start: StageStart, fragments: int, weights: bytes, inherited: Sequence[bytes], anchor: bytes
) -> tuple[bytes, ...]:
    """Return the ten parts of a state that is made from weights, or from the parts of a committed end.

    Args:
        start: Numbers of values of the stage.
        fragments: Fragments that the weights are traded in.
        weights: Hash of the weights, which are the anchor, too.
        inherited: The ten parts of the end, whose slow weights, second moments and step go on; else empty.
        anchor: Hash of the anchor of a state that is made from an end.
    """
    zeros = zeros_component(start.num_parameters)
    second, steps = zeros_component(start.num_seconds), number_component(0)
    if inherited:
        weights, second, steps = inherited[PHI], Digest(inherited[SECOND]), Digest(inherited[STEPS])
    return (
        weights,
        zeros,
        second,
        steps,
        weights,
        zeros,
        zeros_component(start.num_residuals),
        anchor if inherited else weights,
        tokens_component(0, (0,) * fragments),
        offered_component(()),
    )


def _committed(draft: Draft, run: Run, seat: Seat, body: CommitSegment) -> tuple[StartKind, Digest]:
    """Return the kind and the root of a start that is a committed end, named whole or by its first bytes."""
    if body.source or body.inherited or body.anchor:
        raise InvalidStatement(Reason.BAD_FIELD, "a committed end is made from nothing else")
    is_own = seat.last_commit_round >= 0 and seat.last_end_root.startswith(body.start)
    if is_own and is_adrift(seat, body.round):
        raise InvalidStatement(
            Reason.WRONG_START, "it goes back to a segment of this seat that was not shown"
        )
    if is_own:
        return StartKind.CONTINUED, seat.last_end_root
    root = Digest(body.start)
    if len(root) == START_PREFIX_BYTES or not is_committed_end(draft, run, body.stage, root):
        raise InvalidStatement(Reason.WRONG_START, "not the end of a segment of this stage")
    return StartKind.ADOPTED, root


def _made_kind(draft: Draft, run: Run, body: CommitSegment, *, is_undone: bool) -> StartKind:
    """Return the kind of a start by what it was made from; raise if the ledger does not know that."""
    if not body.source:
        if may_not_begin_anew(run, body.stage, body.round):
            raise InvalidStatement(
                Reason.WRONG_START, "the stage has a checkpoint, and who trains it"
            )
        return StartKind.INITIAL
    if any(c.phi_root == body.source for c in run.standing(body.stage)):
        return StartKind.CHECKPOINT
    if not is_undone and is_committed_end(draft, run, body.stage, Digest(body.source)):
        return StartKind.INHERITED
    raise InvalidStatement(
        Reason.WRONG_START, "made from nothing that this stage has on the ledger"
    )


def made_root(run: Run, body: CommitSegment) -> Digest:
    """Return the root of the state that is made from what a commit names."""
    start = run.spec.starts[body.stage]
    weights = body.source or start.weights
    parts = made_parts(start, run.spec.outer.fragments, weights, body.inherited, body.anchor)
    return merkle_root(parts)


def _check_made(run: Run, body: CommitSegment, kind: StartKind) -> None:
    """Raise for parts that are not those of the end that a commit names, and for an anchor that is none."""
    if kind is StartKind.INHERITED:
        if not body.inherited or merkle_root(body.inherited) != body.source:
            raise InvalidStatement(Reason.BAD_PROOF, "not the parts of the end that it names")
        listed = {checkpoint.phi_root for checkpoint in run.checkpoints[body.stage]}
        if body.anchor not in listed | {run.spec.starts[body.stage].weights}:
            raise InvalidStatement(
                Reason.WRONG_START, "an anchor that is no checkpoint of the stage"
            )
    elif body.inherited or body.anchor:
        raise InvalidStatement(Reason.BAD_FIELD, "parts of an end where none goes on")


def is_committed_end(reader: Reader, run: Run, stage: StageIndex, wanted: Digest) -> bool:
    """Return True if a seat of the stage ended in this root, now or at a kept boundary.

    Rosters carry the last end of each seat in them. Segments are looked up only for seats given up since,
    because looking up all of them would make a flood of commits costly. The end of a segment that was not shown
    is none, nor are those that go back to it.
    """
    sitting = {seat.index: seat.anew_round for seat in run.seats[stage]}
    rosters = [run.seats[stage], *(info.seats[stage] for info in run.rounds)]
    known = [s for roster in rosters for s in roster if s.last_commit_round >= 0]
    ends = {s.last_end_root for s in known if s.last_commit_round >= sitting.get(s.index, 0)}
    if wanted not in ends:
        gone = {seat.index for info in run.rounds for seat in info.seats[stage]} - sitting.keys()
        return any(wanted in _ends_of(reader, run, stage, seat)[0] for seat in sorted(gone))
    holders = {s.index for s in known if s.last_end_root == wanted}
    return any(
        seat in sitting or wanted not in _ends_of(reader, run, stage, seat)[1]
        for seat in sorted(holders)
    )


def _ends_of(
    reader: Reader, run: Run, stage: StageIndex, seat: int
) -> tuple[list[Digest], list[Digest]]:
    """Return the ends in the kept rounds of a seat that was given up: good ones, and those that are lost."""
    good, lost = list[Digest](), list[Digest]()
    is_lost = False
    for info in run.rounds:
        found = reader.segment(run.index, info.round, stage, seat)
        if found is not None:
            goes_on = found.start_kind is StartKind.CONTINUED
            is_lost = found.phase is SegmentPhase.SILENT or (is_lost and goes_on)
            (lost if is_lost else good).append(found.end_root)
    return good, lost
