"""Play a dispute about a window: from two accounts of it down to one element of one operator.

Core: functions of a dispute between two moves, which can be stored between two blocks.

    OPEN --OpenStep--> PART --PickPart--> BEGIN --OpenMicrobatch or Split--> WALK --game.py--> GUILTY | FALSE
    OPEN --OpenCopy, OpenMerge--> WALK     OPEN --OpenAnchor, OpenOther, OpenEnd--> INPUTS, or of two ends FALSE
    OPEN --OpenTokens--> FALSE             PART, WALK, INPUTS --ShowInputs: others than in the log--> GUILTY

The challenger has given its account. The solver opens the first event of which it says something else: its
own account, the parts of the state before and after, and the roots of its programs. A statement that
contradicts its claim, or itself, is no move, and who cannot move loses. Of a step the challenger points at one
program; a copy and a merge have one. The game about that begins (``game.py``), bound to what the solver has
just said (``cases.py``, ``events.py``). An anchor, an end and an account with fewer events have none.

At each of its turns the challenger may show that the log which it was served has other inputs than what is
open (``shown.py``): another event, another anchor, partner or message, another number of events, another state
at the start. Its solver has signed both, and is guilty. If the log has the same, only arithmetic is left, and a
challenger without a move loses.
Source: docs/spec/verification.md section 4.
"""

from enum import IntEnum

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.primitives.codec import Message, replace
from swarm.primitives.state_parts import TOKENS
from swarm.types import Digest
from swarm.verify.program import game
from swarm.verify.program.account import (
    BEFORE_ALL,
    Account,
    Kind,
    check_order,
    first_difference,
    result_of,
)
from swarm.verify.program.brief import Opening, whole
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
    merge_case,
)
from swarm.verify.program.game import Case, Leaf, Pick, Show, ShowTokens, Split, Stage, Walk
from swarm.verify.program.opened import (
    OpenMicrobatch,
    OpenStep,
    Window,
    check_microbatch,
    check_step,
    step_case,
    step_number,
)
from swarm.verify.program.shown import ShowInputs, Shown, check_shown
from swarm.verify.program.states import check_parts, check_tokens


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


Move = (
    OpenStep
    | OpenTokens
    | OpenOther
    | OpenAnchor
    | OpenEnd
    | OpenCopy
    | OpenMerge
    | PickPart
    | ShowInputs
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
    INPUTS = 6
    """Only other inputs in the log can convict now."""


OVER = frozenset({Phase.GUILTY, Phase.FALSE})


NO_ACCOUNT = Account(b"", (), (), (), 0)
"""Stands for one that is needed no more: what is stored between two moves stays small."""


class Dispute(Message, frozen=True):
    """A dispute between two moves."""

    account: Account
    """The challenger's, until an event is open."""
    phase: int = Phase.OPEN
    opened: Shown | None = None
    """The event that is open, without the account and the split that it came with; None for an end."""
    event: int = -1
    """Number of the event that was opened."""
    start: bytes = b""
    """Root of the state before all events, in the solver's account."""
    num_events: int = 0
    """Events in that, but for the end."""
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
        case Phase.PART | Phase.WALK | Phase.INPUTS if isinstance(move, ShowInputs):
            return _shown(window, dispute, move)
        case Phase.BEGIN if isinstance(move, OpenMicrobatch):
            if _is_update(dispute):
                raise OutOfTurn("the update is disputed")
            leaf = _step(dispute).microbatches[dispute.part].leaf
            check_microbatch(window.facts, leaf, move)
            begun = replace(dispute, microbatch=move)
            return _walked(window, begun, Split(move.hashes), is_solver)
        case Phase.BEGIN | Phase.WALK if isinstance(move, game.Move):
            return _walked(window, dispute, move, is_solver)
        case phase:
            raise OutOfTurn(f"a {type(move).__name__} in a dispute that is {phase.name}")


def _opened(window: Window, dispute: Dispute, move: Move) -> Dispute:
    """Return the dispute once the solver has opened what the accounts differ in first."""
    if isinstance(move, Opening):
        move = whole(move, dispute.account)
    match move:
        case OpenStep():
            event = _check_event(window, dispute, move, Kind.STEP)
            check_step(window, move.account, event, move)
            kept = replace(move, account=NO_ACCOUNT)
            begun = _at(Phase.PART, move.account, kept, event)
            return replace(begun, step=step_number(window, move.account, event))
        case OpenCopy() | OpenMerge():
            return _begun(window, dispute, move)
        case OpenAnchor():
            event = _check_event(window, dispute, move, Kind.ANCHOR)
            check_anchor(move, None)
            return _at(Phase.INPUTS, move.account, replace(move, account=NO_ACCOUNT), event)
        case OpenEnd():
            event = _check_event(window, dispute, move, Kind.END)
            check_end(move)
            has_end = dispute.account.kinds[event : event + 1] == (Kind.END,)
            return _at(Phase.FALSE if has_end else Phase.INPUTS, move.account, None, event)
        case OpenTokens():
            _check_tokens(window, dispute, move)
            return replace(dispute, phase=Phase.FALSE)
        case OpenOther(account):
            first = _check_account(window, dispute, account)
            if first is None or (first != BEFORE_ALL and first < len(account.kinds)):
                raise OutOfTurn(
                    "the accounts differ first in an event that can be opened, or in tokens"
                )
            return _at(Phase.INPUTS, account, None, first)
        case _:
            raise OutOfTurn(f"a {type(move).__name__} before anything is open")


def _at(phase: Phase, account: Account, opened: Shown | None, event: int) -> Dispute:
    """Return the dispute once its solver has given its account and opened an event."""
    num_events = sum(kind != Kind.END for kind in account.kinds)
    return Dispute(
        account=NO_ACCOUNT,
        phase=phase,
        opened=opened,
        event=event,
        start=account.start,
        num_events=num_events,
    )


def _begun(window: Window, dispute: Dispute, move: OpenCopy | OpenMerge) -> Dispute:
    """Return the dispute about the program of a copy or a merge."""
    match move:
        case OpenCopy():
            event = _check_event(window, dispute, move, Kind.COPY)
            check_copy(window.facts, move)
        case OpenMerge():
            event = _check_event(window, dispute, move, Kind.MERGE)
            check_merge(window.facts, move, move.account.leaves[event])
            seats = dict(window.seating.seats)
            if move.partner and seats.get(move.partner_seat) != move.partner:
                raise BrokenPromise("a partner that is not the peer of its seat")
    kept = replace(move, account=NO_ACCOUNT, hashes=())
    begun = _at(Phase.WALK, move.account, kept, event)
    return _walked(window, begun, Split(move.hashes), is_solver=True)


def _shown(window: Window, dispute: Dispute, move: ShowInputs) -> Dispute:
    """Return the dispute once a challenger has shown other inputs in the log; raise if they are not."""
    check_shown(
        window,
        move,
        start=dispute.start,
        num_events=dispute.num_events,
        event=dispute.event,
        opened=dispute.opened,
        part=dispute.part,
        microbatch=dispute.microbatch,
    )
    return replace(dispute, phase=Phase.GUILTY)


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
    return step_case(window, step, dispute.step, dispute.part, dispute.microbatch)


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
    move: Opening,
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
