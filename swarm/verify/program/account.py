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

from swarm.errors import BadEncoding, OutOfTurn
from swarm.primitives.codec import Message
from swarm.primitives.commitments import WindowResult, leaves_root
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
from swarm.verify.replay import Replay
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
        has_leaf = kind in {Kind.MERGE, Kind.STEP}
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
) -> Account:
    """Return the account of a window by a replay of its log; arguments and errors are those of ``replay``."""
    machine = Replay(plan, data, tokens, anchors, base_W)
    start = state_root(machine.shard.components())
    kinds, leaves, states = list[int](), list[bytes](), list[bytes]()
    for event in data.events:
        leaf, kind = machine.apply(event), kind_of(event)
        if kind is not None:
            kinds.append(kind)
            leaves.append(leaf or b"")
            states.append(state_root(machine.shard.components()))
    if data.is_last:
        machine.end()
        kinds.append(Kind.END)
        leaves.append(b"")
        states.append(state_root(machine.shard.components()))
    counted = machine.shard.tokens_total - data.start.tokens_total
    return Account(start, tuple(kinds), tuple(leaves), tuple(states), counted)
