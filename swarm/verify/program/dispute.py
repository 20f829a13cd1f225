"""Play a dispute about a window: from two accounts of it down to one element of one operator.

Core: functions of a dispute between two moves, which can be stored between two blocks.

    OPEN --OpenStep--> PART --PickPart--> BEGIN --OpenMicrobatch or Split--> WALK --game.py--> GUILTY | FALSE
    OPEN --OpenCopy, OpenMerge--> WALK          OPEN --OpenAnchor, OpenEnd--> FALSE, or ELSEWHERE
    OPEN --OpenTokens--> FALSE       OPEN --OpenOther--> ELSEWHERE       PART, WALK --Elsewhere--> ELSEWHERE

The challenger has given its account. The solver opens the first event of which it says something else: its
own account, the parts of the state before and after, and the roots of its programs. A statement that
contradicts its claim, or itself, is no move, and who cannot move loses. Of a step the challenger points at one
program; a copy and a merge have one. The game about that begins (``game.py``), bound to what the solver has
just said (``cases.py``, ``events.py``). An anchor and an end have none: to open them decides.

What is not decided here: inputs that are others than those in the log that was served, such as another list of
events, another of several canonical anchors, or another state before all events. A dispute about these ends
ELSEWHERE.
Source: docs/spec/verification.md section 4.
"""

from dataclasses import dataclass
from enum import IntEnum

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.primitives.codec import Message, replace
from swarm.primitives.commitments import leaves_root, step_leaf_digest
from swarm.primitives.merkle import merkle_root
from swarm.training.data.samples import sample_ids_root
from swarm.training.messages import COUNT_MAX, NO_SEAT
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.record.segment import (
    MicrobatchId,
    MicrobatchRecord,
    number_component,
    tokens_component,
)
from swarm.training.shard import DROPPED_MAX
from swarm.types import NO_DIGEST, Digest
from swarm.verify.program import game
from swarm.verify.program.account import (
    BEFORE_ALL,
    Account,
    Kind,
    check_order,
    first_difference,
    result_of,
)
from swarm.verify.program.cases import Facts, StepRoots, draw_of, microbatch_case, update_case
from swarm.verify.program.events import (
    OpenAnchor,
    OpenCopy,
    OpenEnd,
    OpenMerge,
    check_anchor,
    check_copy,
    check_end,
    check_merge,
    copy_case,
    may_be_logged,
    merge_case,
)
from swarm.verify.program.game import Case, Leaf, Pick, Show, ShowTokens, Split, Stage, Walk
from swarm.verify.program.states import (
    FIRST,
    PARAMS,
    SECOND,
    STEPS,
    TOKENS,
    check_changed,
    check_parts,
    check_tokens,
)
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
    """The solver's account, where the states before all events differ, or it has fewer events."""

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
    | OpenAnchor
    | OpenEnd
    | OpenCopy
    | OpenMerge
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
    is_last: bool
    """True if its segment ends with it."""
    anchors: tuple[Digest, ...] | None
    """Roots of all canonical checkpoints of the stage, and of its initial weights: an honest solver has set no
    other anchor. None if the ledger does not know them all, since the run does not name its initial weights."""

    @property
    def first_step(self) -> int:
        """Number within the segment of its first step."""
        return self.number * self.facts.spec.checks.window_steps


NO_ACCOUNT = Account(b"", (), (), (), 0)
"""Stands for one that is needed no more: what is stored between two moves stays small."""


class Dispute(Message, frozen=True):
    """A dispute between two moves."""

    account: Account
    """The challenger's, until an event is open."""
    phase: int = Phase.OPEN
    opened: OpenStep | OpenCopy | OpenMerge | None = None
    """The event that is open, without the account and the split that it came with."""
    event: int = -1
    """Number of the event that was opened."""
    step: int = -1
    """Number within the segment of the step that is open."""
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
    check_order(account, window.number, window.steps, is_last=window.is_last)
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
        case OpenCopy() | OpenMerge():
            return _begun(window, dispute, move)
        case OpenAnchor() | OpenEnd():
            return replace(dispute, phase=_decided(window, dispute, move))
        case OpenTokens():
            _check_tokens(window, dispute, move)
            return replace(dispute, phase=Phase.FALSE)
        case OpenOther(account):
            first = _check_account(window, dispute, account)
            if first is None or (first != BEFORE_ALL and first < len(account.kinds)):
                raise OutOfTurn(
                    "the accounts differ first in an event that can be opened, or in tokens"
                )
            return replace(dispute, phase=Phase.ELSEWHERE)
        case _:
            raise OutOfTurn(f"a {type(move).__name__} before anything is open")


def _begun(window: Window, dispute: Dispute, move: OpenCopy | OpenMerge) -> Dispute:
    """Return the dispute about the program of a copy or a merge."""
    match move:
        case OpenCopy():
            event = _check_event(window, dispute, move, Kind.COPY)
            check_copy(window.facts, move)
        case OpenMerge():
            event = _check_event(window, dispute, move, Kind.MERGE)
            check_merge(window.facts, move, move.account.leaves[event])
    kept = replace(move, account=NO_ACCOUNT, hashes=())
    begun = Dispute(account=NO_ACCOUNT, phase=Phase.WALK, opened=kept, event=event)
    return _walked(window, begun, Split(move.hashes), is_solver=True)


def _decided(window: Window, dispute: Dispute, move: OpenAnchor | OpenEnd) -> Phase:
    """Return the end of a dispute about an event that has no program, once it is opened as it must be."""
    match move:
        case OpenAnchor():
            event = _check_event(window, dispute, move, Kind.ANCHOR)
            check_anchor(move, window.anchors)
            if window.anchors is None:
                return Phase.ELSEWHERE
        case OpenEnd():
            event = _check_event(window, dispute, move, Kind.END)
            check_end(move)
    is_elsewhere = may_be_logged(move, event, dispute.account, window.anchors or ())
    return Phase.ELSEWHERE if is_elsewhere else Phase.FALSE


def _picked(dispute: Dispute, part: int) -> Dispute:
    if not 0 <= part <= len(_step(dispute).microbatches):
        raise BadEncoding(f"part {part} of a step")
    return replace(dispute, phase=Phase.BEGIN, part=part)


def _walked(window: Window, dispute: Dispute, move: game.Move, is_solver: bool) -> Dispute:
    if isinstance(dispute.opened, OpenStep) and not dispute.microbatch and not _is_update(dispute):
        raise OutOfTurn("a split before the micro-batch is open")
    walk = game.moved(case_of(window, dispute), dispute.walk or Walk(), move, is_solver=is_solver)
    ends = {Stage.GUILTY: Phase.GUILTY, Stage.FALSE: Phase.FALSE}
    return replace(dispute, phase=ends.get(Stage(walk.stage), Phase.WALK), walk=walk)


def _step(dispute: Dispute) -> OpenStep:
    assert isinstance(dispute.opened, OpenStep), "a step is open"
    return dispute.opened


def _is_update(dispute: Dispute) -> bool:
    return dispute.part == len(_step(dispute).microbatches)


def case_of(window: Window, dispute: Dispute) -> Case:
    """Return the program that is disputed, with what it is bound to."""
    match dispute.opened:
        case OpenCopy():
            return copy_case(window.facts, dispute.opened)
        case OpenMerge():
            return merge_case(window.facts, dispute.opened)
        case _:
            step = _step(dispute)
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
    check_order(account, window.number, window.steps, is_last=window.is_last)
    return first_difference(account, dispute.account)


def _check_event(
    window: Window,
    dispute: Dispute,
    move: OpenStep | OpenAnchor | OpenEnd | OpenCopy | OpenMerge,
    kind: Kind,
) -> int:
    """Return the number of the event that is open; raise unless it is of a kind, with these states."""
    account = move.account
    event = _check_account(window, dispute, account)
    if event is None or event not in range(len(account.kinds)) or account.kinds[event] != kind:
        raise OutOfTurn(f"the accounts differ first in something else than {kind.name}")
    check_parts(move.before, account.before(event))
    check_parts(move.after, account.states[event])
    return event


def _check_step(window: Window, dispute: Dispute, move: OpenStep) -> int:
    """Return the number of the step that is open; raise unless it is all that was said before."""
    event = _check_event(window, dispute, move, Kind.STEP)
    _check_counters(window, move)
    step = step_number(window, move.account, event)
    is_first = step % window.facts.spec.checks.window_steps == 0
    root = Digest(merkle_root(move.before)) if is_first else NO_DIGEST
    leaves = leaves_root([one.leaf for one in move.microbatches])
    leaf = step_leaf_digest(step, move.dropped, root, leaves, Digest(move.piece))
    if leaf != move.account.leaves[event]:
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


def _check_tokens(window: Window, dispute: Dispute, move: OpenTokens) -> None:
    """Raise unless the states at both ends of a window have the tokens that its claim has."""
    account = move.account
    if _check_account(window, dispute, account) is not None:
        raise OutOfTurn("the accounts differ in an event")
    check_parts(move.before, account.start)
    check_parts(move.after, account.states[-1])
    check_tokens(move.tokens_before, move.before[TOKENS])
    check_tokens(move.tokens_after, move.after[TOKENS])
    if move.tokens_after[0] - move.tokens_before[0] != account.tokens:
        raise BrokenPromise("other tokens than those of the claim")


def _check_microbatch(window: Window, dispute: Dispute, move: OpenMicrobatch) -> None:
    """Raise unless a micro-batch is the one in the step, has the sides of its stage, and the samples drawn."""
    if _is_update(dispute):
        raise OutOfTurn("the update is disputed")
    digests = (move.in_activation, move.in_gradient, move.out_activation, move.out_gradient)
    numbers = (move.origin, move.step, move.microbatch)
    if any(len(part) != 32 for part in (*digests, move.sample_ids_root)):
        raise BadEncoding("a hash that has not 32 bytes")
    sides = (move.source, move.destination)
    if not all(0 <= n <= COUNT_MAX for n in numbers) or not all(
        NO_SEAT <= n <= COUNT_MAX for n in sides
    ):
        raise BadEncoding("a micro-batch with a coordinate that is negative or absurd")
    if microbatch_leaf(move.record) != _step(dispute).microbatches[dispute.part].leaf:
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
