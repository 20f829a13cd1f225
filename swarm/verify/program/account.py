"""Say what happened in a window, event by event: its leaf and the state after it.

Core: pure functions and frozen messages.

A claim is one hash of a whole window. An account is what is behind it, with the root of the state after every
event, so that two sides that differ can see where they do: the first event after which they say different
things, from a state on which they agree.
Source: docs/spec/verification.md section 4.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import assert_never

from torch import Tensor

from swarm.errors import BadEncoding, OtherBits, OutOfTurn, PeerFault
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.codec import Message
from swarm.primitives.commitments import REFUSED, WindowResult, leaves_root
from swarm.training.data.dataset import TokenSource
from swarm.training.plan import RoundPlan
from swarm.training.record.window import (
    AnchorSet,
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    Uncounted,
    WindowData,
)
from swarm.types import Digest
from swarm.verify.edges import Sent, check_list
from swarm.verify.log_rules import check_incarnation, check_place
from swarm.verify.replay import Committed, Replay, answer
from swarm.verify.transcript import state_root

EVENTS_MAX = 1024
"""Events of a window; an account of as many has 66 KB, and is in no transaction."""


BEFORE_ALL = -1
"""Stands for the state before the first event."""


class Kind(IntEnum):
    """Kind of an event."""

    ANCHOR = 0
    COPY = 1
    MERGE = 2
    STEP = 3
    END = 4
    """The end of a segment, at which what was offered and not merged is dropped."""


LEAFY = frozenset({Kind.MERGE, Kind.STEP})
"""Kinds of events that have a leaf."""


class Account(Message, frozen=True):
    """Events of a window as one side says they went."""

    start: bytes
    """Root of the state before the first event."""
    kinds: tuple[int, ...]
    leaves: tuple[bytes, ...]
    """Of each event; empty where it has none."""
    states: tuple[bytes, ...]
    """Root of the state after each event."""
    tokens: int

    def before(self, event: int) -> bytes:
        """Return the root of the state before an event."""
        return self.states[event - 1] if event else self.start


def result_of(account: Account) -> WindowResult:
    """Return the result that an account amounts to.

    Raises ``BadEncoding`` for one that is none: of no events, of too many, or of unequal lists.
    """
    counts = {len(account.kinds), len(account.leaves), len(account.states)}
    if len(account.start) != 32 or len(counts) > 1 or not 1 <= len(account.kinds) <= EVENTS_MAX:
        raise BadEncoding("an account of no events, of too many, or of unequal lists")
    for kind, leaf, state in zip(account.kinds, account.leaves, account.states, strict=True):
        has_leaf = kind in LEAFY
        if kind not in list(Kind) or len(leaf) != (32 if has_leaf else 0) or len(state) != 32:
            raise BadEncoding("an event of no kind, or with a hash that does not belong to it")
    leaves = [leaf for leaf in account.leaves if leaf]
    return WindowResult(
        leaves_root(leaves), Digest(account.start), Digest(account.states[-1]), account.tokens
    )


def check_order(account: Account, window: int, steps: int, *, is_last: bool) -> None:
    """Raise ``OutOfTurn`` unless events are in an order that a log of the window may have (log_rules.py).

    It has so many steps; an anchor is set before all else in a segment, every later window begins with a step,
    and the last event of the last window is the end.
    """
    kinds = account.kinds
    if kinds.count(Kind.STEP) != steps:
        raise OutOfTurn("an account of more steps than the window has, or of fewer")
    if Kind.ANCHOR in kinds[1:] or (window and kinds[:1] != (Kind.STEP,)):
        raise OutOfTurn(
            "an anchor in the middle of a segment, or a window that begins with no step"
        )
    if Kind.END in kinds[:-1] or (kinds[-1:] == (Kind.END,)) != is_last:
        raise OutOfTurn("an end in the middle of a segment, or none at its end")


def first_difference(one: Account, other: Account) -> int | None:
    """Return the first event of which two accounts say something else; None if they do so of none.

    An event that one of them has and the other has not is one, too; -1 stands for the state before all events.
    """
    if one.start != other.start:
        return BEFORE_ALL
    said = [list(zip(side.kinds, side.leaves, side.states, strict=True)) for side in (one, other)]
    pairs = enumerate(zip(*said, strict=False))
    found = next((event for event, (a, b) in pairs if a != b), None)
    if found is None and len(said[0]) != len(said[1]):
        return min(map(len, said))
    return found


def kind_of(event: Event) -> Kind | None:
    """Return the kind of an event; None for one that leaves the state as it was."""
    match event:
        case AnchorSet():
            return Kind.ANCHOR
        case SnapshotTaken():
            return Kind.COPY
        case FragmentMerged():
            return Kind.MERGE
        case StepTaken():
            return Kind.STEP
        case Uncounted():
            return None
    assert_never(event)


def account_of(
    plan: RoundPlan,
    data: WindowData,
    tokens: TokenSource,
    anchors: Mapping[Digest, Tensor],
    base_W: Tensor | None = None,
    sent: Sent | None = None,
    *,
    marker: bytes = b"",
) -> Account:
    """Return the account of a window by a replay of its log; arguments and errors are those of ``replay``.

    Where the log has other outputs of its seat than the replay computes, the seat has lied about that event, or
    about one before. The rest cannot be computed: a ``marker`` of 32 bytes stands for all that follows. Without
    one this is a fault.
    """
    machine = Replay(plan, data, tokens, anchors, base_W, sent)
    start = state_root(machine.shard.components())
    known = [(event, kind) for event in data.events if (kind := kind_of(event)) is not None]
    kinds = [*(kind for _, kind in known), *([Kind.END] if data.is_last else [])]
    leaves, states = list[bytes](), list[bytes]()
    try:
        for event in data.events:
            leaf, kind = machine.apply(event), kind_of(event)
            if kind is not None:
                leaves.append(leaf or b"")
                states.append(state_root(machine.shard.components()))
    except OtherBits:
        if not marker:
            raise
        begun = len(states)
        leaves += [marker if kind in LEAFY else b"" for kind in kinds[begun:]]
        states += [marker] * (len(kinds) - begun)
    else:
        if sent is not None:
            sent.check()
        if data.is_last:
            machine.end()
            leaves.append(b"")
            states.append(state_root(machine.shard.components()))
    counted = machine.shard.tokens_total - data.start.tokens_total
    return Account(start, tuple(map(int, kinds)), tuple(leaves), tuple(states), counted)


def answer_or_lie(
    committed: Committed,
    plan: RoundPlan,
    data: WindowData,
    tokens: TokenSource,
    anchors: Mapping[Digest, Tensor],
    base_W: Tensor | None,
    marker: bytes,
) -> WindowResult:
    """Replay a window as ``answer`` does; a log with other outputs of its seat than are computed is a lie.

    Such a log has the result of its account with ``marker``, which no solver has claimed that did not know it.
    """
    found = answer(committed, plan, data, tokens, anchors, base_W)
    if found != REFUSED:
        return found
    try:
        check_place(plan, data, committed.num_steps)
        check_list(committed.sent, num_windows(committed.num_steps, plan.spec.checks.window_steps))
        check_incarnation(data, committed.incarnation)
        sent = Sent(plan, data.key.window, committed.sent)
        account = account_of(plan, data, tokens, anchors, base_W, sent, marker=marker)
    except PeerFault:
        return REFUSED
    if data.key.window == 0 and account.start != committed.start_root:
        return REFUSED
    return result_of(account)
