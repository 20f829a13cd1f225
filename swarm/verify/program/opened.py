"""Check a step of a window that its solver opens: its leaf, its counters, its micro-batches.

Core: frozen messages and pure functions of the ledger and of what is opened.

What a step makes of weights and moments is its programs'. All else is decided here: that it counts itself and
its tokens, that its leaf has the micro-batches that are named, and that these have the sides of their stage and
the samples that were drawn. A statement that contradicts its claim, or itself, is none.
Source: docs/spec/verification.md section 4.
"""

from dataclasses import dataclass

from swarm.errors import BadEncoding, BrokenPromise
from swarm.ledger.state.records import NOBODY
from swarm.primitives.codec import Message
from swarm.primitives.commitments import leaves_root, step_leaf_digest
from swarm.primitives.merkle import merkle_root
from swarm.primitives.state_parts import (
    FIRST,
    PARAMS,
    SECOND,
    STEPS,
    TOKENS,
    number_component,
    tokens_component,
)
from swarm.training.data.samples import sample_ids_root
from swarm.training.messages import COUNT_MAX, NO_SEAT
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.record.segment import MicrobatchId, MicrobatchRecord
from swarm.training.record.window import WindowKey
from swarm.training.shard import DROPPED_MAX
from swarm.types import NO_DIGEST, Digest, PeerId
from swarm.verify.program.account import Account, Kind
from swarm.verify.program.cases import Facts, StepRoots, draw_of, microbatch_case, update_case
from swarm.verify.program.game import Case
from swarm.verify.program.states import check_changed, check_tokens
from swarm.verify.transcript import microbatch_leaf


class OpenedMicrobatch(Message, frozen=True):
    """One micro-batch of a step: its leaf, the root of its trace, and the digest of its gradient."""

    leaf: bytes
    trace: bytes
    gradient: bytes


class OpenStep(Message, frozen=True, tag=10):
    """The solver's account, and the step in it of which the challenger says something else first."""

    account: Account
    before: tuple[bytes, ...]
    """Hashes of the ten parts of the state before it."""
    after: tuple[bytes, ...]
    seen: int
    """Optimizer steps in the state before it."""
    tokens: tuple[int, ...]
    """Tokens in the state before it: the total, and that of each fragment at its last merge."""
    dropped: tuple[MicrobatchId, ...]
    piece: bytes
    """Hash of the piece of its mean gradient."""
    microbatches: tuple[OpenedMicrobatch, ...]
    update: bytes
    """Root of the trace of its update."""


class OpenMicrobatch(Message, frozen=True, tag=14):
    """All that the leaf of the disputed micro-batch is the hash of, and the first split of its trace."""

    origin: int
    step: int
    microbatch: int
    source: int
    destination: int
    in_activation: bytes
    in_gradient: bytes
    out_activation: bytes
    out_gradient: bytes
    sample_ids_root: bytes
    hashes: tuple[bytes, ...]

    @property
    def record(self) -> MicrobatchRecord:
        """The record behind the leaf."""
        return MicrobatchRecord(
            origin=self.origin,
            step=self.step,
            microbatch=self.microbatch,
            in_activation=Digest(self.in_activation),
            in_gradient=Digest(self.in_gradient),
            out_activation=Digest(self.out_activation),
            out_gradient=Digest(self.out_gradient),
            source=self.source,
            destination=self.destination,
            sample_ids_root=Digest(self.sample_ids_root),
        )


def open_microbatch(record: MicrobatchRecord) -> OpenMicrobatch:
    """Return the opening of a micro-batch, without a split."""
    return OpenMicrobatch(
        origin=record.origin,
        step=record.step,
        microbatch=record.microbatch,
        source=record.source,
        destination=record.destination,
        in_activation=record.in_activation,
        in_gradient=record.in_gradient,
        out_activation=record.out_activation,
        out_gradient=record.out_gradient,
        sample_ids_root=record.sample_ids_root,
        hashes=(),
    )


@dataclass(frozen=True, slots=True)
class Seating:
    """Place of a window in its round, and who sits in its stage."""

    key: WindowKey
    chain: Digest
    seats: tuple[tuple[int, PeerId], ...]
    """Seats of its stage in that round, by index, and their peers."""
    sent_root: Digest
    """Root of the list of what was sent in its segment."""

    @property
    def solver(self) -> PeerId:
        """Peer of its seat; ``NOBODY`` if the round has no such seat."""
        return dict(self.seats).get(self.key.seat, NOBODY)


@dataclass(frozen=True, slots=True)
class Window:
    """A disputed window, as the ledger has it."""

    facts: Facts
    seating: Seating
    claim: Digest
    """Claim that its solver has shown."""
    number: int
    steps: int
    """Steps that it has."""
    is_last: bool
    """True if its segment ends with it."""
    anchors: tuple[Digest, ...]
    """Roots of all checkpoints of the stage that are listed now, and of its initial weights: whoever checks a
    window of now accepts no other anchor."""

    @property
    def first_step(self) -> int:
        """Number within the segment of its first step."""
        return self.number * self.facts.spec.checks.window_steps


def step_number(window: Window, account: Account, event: int) -> int:
    """Return the number within the segment of a step."""
    return window.first_step + account.kinds[:event].count(Kind.STEP)


def check_step(window: Window, account: Account, event: int, move: OpenStep) -> None:
    """Raise ``PeerFault`` unless a step, that an account has as an event, is all that the account says of it.

    That the states around it are those of the account, the caller has checked.
    """
    _check_counters(window, move)
    step = step_number(window, account, event)
    is_first = step % window.facts.spec.checks.window_steps == 0
    root = Digest(merkle_root(move.before)) if is_first else NO_DIGEST
    leaves = leaves_root([one.leaf for one in move.microbatches])
    leaf = step_leaf_digest(step, move.dropped, root, leaves, Digest(move.piece))
    if leaf != account.leaves[event]:
        raise BrokenPromise("another step than the one in the account")


def _check_counters(window: Window, move: OpenStep) -> None:
    """Raise unless a step moves weights and moments, counts itself and its tokens, and leaves all else."""
    counted = len(move.microbatches)
    if not 1 <= counted <= MICROBATCHES_MAX or len(move.dropped) > DROPPED_MAX:
        raise BadEncoding(f"a step of {counted} micro-batches, {len(move.dropped)} dropped")
    hashes = [part for one in move.microbatches for part in (one.leaf, one.trace, one.gradient)]
    if any(len(part) != 32 for part in (*hashes, move.piece, move.update)):
        raise BadEncoding("a hash that has not 32 bytes")
    counts = (move.seen, *(number for one in move.dropped for number in one))
    if not all(0 <= count <= COUNT_MAX for count in counts):
        raise BadEncoding("a count that is negative or absurd")
    check_tokens(move.tokens, move.before[TOKENS])
    if number_component(move.seen) != move.before[STEPS]:
        raise BrokenPromise("other steps than those of the state")
    after = after_step(window.facts, move.seen, move.tokens, counted)
    check_changed(move.before, move.after, after, free={PARAMS, FIRST, SECOND})


def after_step(
    facts: Facts, seen: int, tokens: tuple[int, ...], microbatches: int
) -> dict[int, bytes]:
    """Return the parts of the state that a step changes, but for those that its programs compute.

    ``seen``: steps before it; ``tokens``: those of the state before it, as in ``OpenStep``.
    """
    (total, *at_sync), spec = tokens, facts.spec
    total += microbatches * spec.microbatch_size * spec.model.seq_len
    return {STEPS: number_component(seen + 1), TOKENS: tokens_component(total, at_sync)}


def check_microbatch(facts: Facts, leaf: bytes, move: OpenMicrobatch) -> None:
    """Raise ``PeerFault`` unless a micro-batch has this leaf, the sides of its stage, and the samples drawn."""
    digests = (move.in_activation, move.in_gradient, move.out_activation, move.out_gradient)
    numbers = (move.origin, move.step, move.microbatch)
    if any(len(part) != 32 for part in (*digests, move.sample_ids_root)):
        raise BadEncoding("a hash that has not 32 bytes")
    sides = (move.source, move.destination)
    if not all(0 <= n <= COUNT_MAX for n in numbers) or not all(
        NO_SEAT <= n <= COUNT_MAX for n in sides
    ):
        raise BadEncoding("a micro-batch with a coordinate that is negative or absurd")
    if microbatch_leaf(move.record) != leaf:
        raise BrokenPromise("another micro-batch than the one in the step")
    is_first, is_last = facts.stage == 0, facts.stage == facts.spec.num_stages - 1
    has_side = tuple(part != NO_DIGEST for part in digests)
    if has_side != (not is_first, not is_last, not is_last, not is_first):
        raise BrokenPromise("bytes from a neighbour that its stage does not have, or none")
    looks_up = is_first or is_last or facts.spec.model.bottleneck_rank > 0
    drawn = sample_ids_root(draw_of(facts, move.record)) if looks_up else NO_DIGEST
    if move.sample_ids_root != drawn:
        raise BrokenPromise("other samples than were drawn for it")


def step_case(
    window: Window, move: OpenStep, step: int, part: int, microbatch: OpenMicrobatch | None
) -> Case:
    """Return the case of one part of a step: of a micro-batch by its number, or of the update behind the last.

    ``step``: number of the step within the segment; ``microbatch``: the one that is open, of the update None.
    """
    roots = StepRoots(
        step=step,
        seen=move.seen,
        before=tuple(map(Digest, move.before)),
        after=tuple(map(Digest, move.after)),
        piece=Digest(move.piece),
        gradients=tuple(Digest(one.gradient) for one in move.microbatches),
    )
    if part == len(move.microbatches):
        return update_case(window.facts, roots, Digest(move.update))
    assert microbatch is not None, "a micro-batch is open"
    trace = Digest(move.microbatches[part].trace)
    return microbatch_case(window.facts, roots, microbatch.record, part, trace)
