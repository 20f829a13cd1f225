"""Play a dispute about a window: from two accounts of it down to one element of one operator.

Core: functions of a dispute between two moves, which can be stored between two blocks.

    OPEN --OpenStep--> PART --PickPart--> BEGIN --OpenMicrobatch or Split--> WALK --game.py--> GUILTY | FALSE
    OPEN --OpenTokens--> FALSE       OPEN --OpenOther--> ELSEWHERE       PART, WALK --Elsewhere--> ELSEWHERE

The challenger has given its account. The solver opens the first event of which it says something else: its
own account, the parts of the state before and after, and, of a step, the roots of all its programs. A statement
that contradicts its claim, or itself, is no move, and who cannot move loses. The challenger points at one
program, and the game about that begins (``game.py``), bound to what the solver has just said (``cases.py``).

What is not decided here: an event that is no step, and inputs that are others than those in the log that was
served. A dispute about these ends ELSEWHERE.
Source: docs/spec/verification.md section 4.
"""

from dataclasses import dataclass
from enum import IntEnum
from math import prod

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.primitives.codec import Message, replace
from swarm.primitives.commitments import leaves_root, step_leaf_digest
from swarm.primitives.merkle import merkle_root
from swarm.training.data.samples import sample_ids_root
from swarm.training.messages import COUNT_MAX, NO_SEAT
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.record.segment import (
    COMPONENTS,
    MicrobatchId,
    MicrobatchRecord,
    number_component,
    tokens_component,
)
from swarm.training.shard import DROPPED_MAX
from swarm.types import NO_DIGEST, Digest
from swarm.verify.program import game
from swarm.verify.program.account import Account, Kind, first_difference, result_of
from swarm.verify.program.cases import (
    STEPS,
    TOKENS,
    Facts,
    StepRoots,
    draw_of,
    microbatch_case,
    update_case,
)
from swarm.verify.program.game import Case, Leaf, Pick, Show, ShowTokens, Split, Stage, Walk
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


class OpenTokens(Message, frozen=True, tag=11):
    """The solver's account, where all events are the challenger's and the tokens are not."""

    account: Account
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    tokens_before: tuple[int, ...]
    tokens_after: tuple[int, ...]


class OpenOther(Message, frozen=True, tag=15):
    """The solver's account, where something else than a step is what the challenger says differs first."""

    account: Account


class PickPart(Message, frozen=True, tag=12):
    """The challenger's choice: a micro-batch by its number, or the update behind the last."""

    part: int


class Elsewhere(Message, frozen=True, tag=13):
    """The challenger has nothing against the arithmetic: the inputs are others than those of the log."""


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


Move = (
    OpenStep
    | OpenTokens
    | OpenOther
    | PickPart
    | Elsewhere
    | OpenMicrobatch
    | Split
    | Pick
    | Leaf
    | Show
    | ShowTokens
)


class Phase(IntEnum):
    """State of a dispute."""

    OPEN = 0
    PART = 1
    BEGIN = 2
    WALK = 3
    GUILTY = 4
    FALSE = 5
    ELSEWHERE = 6
    """Not decided by arithmetic."""


OVER = frozenset({Phase.GUILTY, Phase.FALSE, Phase.ELSEWHERE})


@dataclass(frozen=True, slots=True)
class Window:
    """A disputed window, as the ledger has it."""

    facts: Facts
    claim: Digest
    """Claim that its solver has shown."""
    number: int
    steps: int
    """Steps that it has."""

    @property
    def first_step(self) -> int:
        """Number within the segment of its first step."""
        return self.number * self.facts.spec.checks.window_steps


NO_ACCOUNT = Account(b"", (), (), (), 0)
"""Stands for one that is needed no more: what is stored between two moves stays small."""


class Dispute(Message, frozen=True):
    """A dispute between two moves."""

    account: Account
    """The challenger's, until a step is open."""
    phase: int = Phase.OPEN
    opened: OpenStep | None = None
    """The step that is open, without the account that it came with."""
    event: int = -1
    """Number of the event that was opened."""
    step: int = -1
    """Number of the step within the segment."""
    part: int = -1
    microbatch: OpenMicrobatch | None = None
    walk: Walk | None = None

    @property
    def is_solvers_turn(self) -> bool:
        """True if the solver must move."""
        if self.phase == Phase.WALK:
            assert self.walk is not None, "a walk began"
            return self.walk.is_solvers_turn
        return self.phase in {Phase.OPEN, Phase.BEGIN}


def opened(window: Window, account: Account, claim: Digest) -> Dispute:
    """Return the dispute that a challenger opens by its account.

    Raises ``PeerFault`` unless that is the one behind its claim, and another than the solver's.
    """
    found = result_of(account).claim
    if found != claim:
        raise BrokenPromise("an account of something else than what was claimed")
    if found == window.claim:
        raise BrokenPromise("an account that amounts to what it disputes")
    return Dispute(account)


def moved(window: Window, dispute: Dispute, move: Move, *, is_solver: bool) -> Dispute:
    """Return the dispute after a move.

    Raises ``PeerFault``, and the dispute is as it was, for a move that is not this side's turn, or contradicts
    what this side has said before.
    """
    if dispute.phase in OVER:
        raise OutOfTurn("the dispute is over")
    if is_solver != dispute.is_solvers_turn:
        raise OutOfTurn("the other side moves")
    match Phase(dispute.phase):
        case Phase.OPEN:
            return _opened(window, dispute, move)
        case Phase.PART if isinstance(move, PickPart):
            return _picked(dispute, move.part)
        case Phase.PART | Phase.WALK if isinstance(move, Elsewhere) and not is_solver:
            return replace(dispute, phase=Phase.ELSEWHERE)
        case Phase.BEGIN if isinstance(move, OpenMicrobatch):
            _check_microbatch(window, dispute, move)
            begun = replace(dispute, microbatch=move)
            return _walked(window, begun, Split(move.hashes), is_solver)
        case Phase.BEGIN | Phase.WALK if isinstance(move, game.Move):
            return _walked(window, dispute, move, is_solver)
        case phase:
            raise OutOfTurn(f"a {type(move).__name__} in a dispute that is {phase.name}")


def _opened(window: Window, dispute: Dispute, move: Move) -> Dispute:
    """Return the dispute once the solver has opened what the accounts differ in first."""
    match move:
        case OpenStep():
            event = _check_step(window, dispute, move)
            return Dispute(
                account=NO_ACCOUNT,
                phase=Phase.PART,
                opened=replace(move, account=NO_ACCOUNT),
                event=event,
                step=step_number(window, move.account, event),
            )
        case OpenTokens():
            _check_tokens(window, dispute, move)
            return replace(dispute, phase=Phase.FALSE)
        case OpenOther(account):
            first = _check_account(window, dispute, account)
            if first is None or _step_of(account, first) is not None:
                raise OutOfTurn("the accounts differ first in a step, or in tokens")
            return replace(dispute, phase=Phase.ELSEWHERE)
        case _:
            raise OutOfTurn(f"a {type(move).__name__} before anything is open")


def _picked(dispute: Dispute, part: int) -> Dispute:
    assert dispute.opened is not None, "a step is open"
    if not 0 <= part <= len(dispute.opened.microbatches):
        raise BadEncoding(f"part {part} of a step")
    return replace(dispute, phase=Phase.BEGIN, part=part)


def _walked(window: Window, dispute: Dispute, move: game.Move, is_solver: bool) -> Dispute:
    if dispute.microbatch is None and not _is_update(dispute):
        raise OutOfTurn("a split before the micro-batch is open")
    walk = game.moved(case_of(window, dispute), dispute.walk or Walk(), move, is_solver=is_solver)
    ends = {Stage.GUILTY: Phase.GUILTY, Stage.FALSE: Phase.FALSE}
    return replace(dispute, phase=ends.get(Stage(walk.stage), Phase.WALK), walk=walk)


def _is_update(dispute: Dispute) -> bool:
    assert dispute.opened is not None, "a step is open"
    return dispute.part == len(dispute.opened.microbatches)


def case_of(window: Window, dispute: Dispute) -> Case:
    """Return the program that is disputed, with what it is bound to."""
    step = dispute.opened
    assert step is not None, "a step is open"
    roots = StepRoots(
        step=dispute.step,
        seen=step.seen,
        before=tuple(map(Digest, step.before)),
        after=tuple(map(Digest, step.after)),
        piece=Digest(step.piece),
        gradients=tuple(Digest(one.gradient) for one in step.microbatches),
    )
    if _is_update(dispute):
        return update_case(window.facts, roots, Digest(step.update))
    assert dispute.microbatch is not None, "a micro-batch is open"
    trace = Digest(step.microbatches[dispute.part].trace)
    return microbatch_case(window.facts, roots, dispute.microbatch.record, dispute.part, trace)


def step_number(window: Window, account: Account, event: int) -> int:
    """Return the number within the segment of a step."""
    return window.first_step + account.kinds[:event].count(Kind.STEP)


# --- what a solver opens ---


def _check_account(window: Window, dispute: Dispute, account: Account) -> int | None:
    """Return the first event of which the challenger says something else; raise unless it is the claim's."""
    if result_of(account).claim != window.claim:
        raise BrokenPromise("an account of something else than what was claimed")
    if account.kinds.count(Kind.STEP) != window.steps:
        raise BrokenPromise("an account of more steps than the window has, or of fewer")
    return first_difference(account, dispute.account)


def _step_of(account: Account, event: int | None) -> int | None:
    """Return an event if it is a step in this account; else None."""
    if event is None or not 0 <= event < len(account.kinds):
        return None
    return event if account.kinds[event] == Kind.STEP else None


def _check_parts(parts: tuple[bytes, ...], root: bytes) -> None:
    if len(parts) != COMPONENTS or any(len(part) != 32 for part in parts):
        raise BadEncoding(f"a state has {COMPONENTS} parts")
    if merkle_root(parts) != root:
        raise BrokenPromise("parts of another state")


def _check_step(window: Window, dispute: Dispute, move: OpenStep) -> int:
    """Return the number of the step that is open; raise unless it is all that was said before."""
    account = move.account
    event = _step_of(account, _check_account(window, dispute, account))
    if event is None:
        raise OutOfTurn("the accounts differ first in something else than a step")
    _check_parts(move.before, account.before(event))
    _check_parts(move.after, account.states[event])
    _check_counters(window, move)
    step = step_number(window, account, event)
    is_first = step % window.facts.spec.checks.window_steps == 0
    root = Digest(merkle_root(move.before)) if is_first else NO_DIGEST
    leaves = leaves_root([one.leaf for one in move.microbatches])
    leaf = step_leaf_digest(step, move.dropped, root, leaves, Digest(move.piece))
    if leaf != account.leaves[event]:
        raise BrokenPromise("another step than the one in the account")
    return event


def _check_counters(window: Window, move: OpenStep) -> None:
    """Raise unless a step moves weights and moments, counts itself and its tokens, and leaves all else."""
    counted = len(move.microbatches)
    if not 1 <= counted <= MICROBATCHES_MAX or len(move.dropped) > DROPPED_MAX:
        raise BadEncoding(f"a step of {counted} micro-batches, {len(move.dropped)} dropped")
    hashes = [part for one in move.microbatches for part in (one.leaf, one.trace, one.gradient)]
    if any(len(part) != 32 for part in (*hashes, move.piece, move.update)):
        raise BadEncoding("a hash that has not 32 bytes")
    counts = (move.seen, *move.tokens, *(number for one in move.dropped for number in one))
    if not move.tokens or not all(0 <= count <= COUNT_MAX for count in counts):
        raise BadEncoding("a count that is negative or absurd")
    total, *at_sync = move.tokens
    trained = counted * _tokens_of(window)
    before = {STEPS: number_component(move.seen), TOKENS: tokens_component(total, at_sync)}
    after = {
        STEPS: number_component(move.seen + 1),
        TOKENS: tokens_component(total + trained, at_sync),
    }
    for part in range(STEPS, COMPONENTS):
        expected = (before[part], after[part]) if part in before else (move.before[part],) * 2
        if (move.before[part], move.after[part]) != expected:
            raise BrokenPromise(f"part {part} of a state, which a step does not change so")


def _tokens_of(window: Window) -> int:
    """Return the tokens of a micro-batch."""
    spec = window.facts.spec
    return prod((spec.microbatch_size, spec.model.seq_len))


def _check_tokens(window: Window, dispute: Dispute, move: OpenTokens) -> None:
    """Raise unless the states at both ends of a window have the tokens that its claim has."""
    account = move.account
    if _check_account(window, dispute, account) is not None:
        raise OutOfTurn("the accounts differ in an event")
    _check_parts(move.before, account.start)
    _check_parts(move.after, account.states[-1])
    for parts, tokens in ((move.before, move.tokens_before), (move.after, move.tokens_after)):
        if not tokens or not all(0 <= count <= COUNT_MAX for count in tokens):
            raise BadEncoding("a count that is negative or absurd")
        if tokens_component(tokens[0], tokens[1:]) != parts[TOKENS]:
            raise BrokenPromise("other tokens than those of the state")
    if move.tokens_after[0] - move.tokens_before[0] != account.tokens:
        raise BrokenPromise("other tokens than those of the claim")


def _check_microbatch(window: Window, dispute: Dispute, move: OpenMicrobatch) -> None:
    """Raise unless a micro-batch is the one in the step, has the sides of its stage, and the samples drawn."""
    if _is_update(dispute):
        raise OutOfTurn("the update is disputed")
    assert dispute.opened is not None, "a step is open"
    digests = (move.in_activation, move.in_gradient, move.out_activation, move.out_gradient)
    numbers = (move.origin, move.step, move.microbatch)
    if any(len(part) != 32 for part in (*digests, move.sample_ids_root)):
        raise BadEncoding("a hash that has not 32 bytes")
    sides = (move.source, move.destination)
    if not all(0 <= n <= COUNT_MAX for n in numbers) or not all(
        NO_SEAT <= n <= COUNT_MAX for n in sides
    ):
        raise BadEncoding("a micro-batch with a coordinate that is negative or absurd")
    if microbatch_leaf(move.record) != dispute.opened.microbatches[dispute.part].leaf:
        raise BrokenPromise("another micro-batch than the one in the step")
    facts = window.facts
    is_first, is_last = facts.stage == 0, facts.stage == facts.spec.num_stages - 1
    has_side = tuple(part != NO_DIGEST for part in digests)
    if has_side != (not is_first, not is_last, not is_last, not is_first):
        raise BrokenPromise("bytes from a neighbour that its stage does not have, or none")
    looks_up = is_first or is_last or facts.spec.model.bottleneck_rank > 0
    drawn = sample_ids_root(draw_of(facts, move.record)) if looks_up else NO_DIGEST
    if move.sample_ids_root != drawn:
        raise BrokenPromise("other samples than were drawn for it")
