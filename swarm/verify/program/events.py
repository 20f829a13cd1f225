"""Decide the events of a window that are no steps: an anchor, a copy of a fragment, its merge, the end.

Core: pure functions of the ledger and of what a solver has opened.

    anchor   nothing but the anchor changes, to weights that are canonical
    copy     the fragment is added to those on their way, with the tokens since its last merge
             program: params: state before | theta: what is added
    merge    the fragment is on its way no more, and counts as merged at the tokens of now
             program: params, phi, momentum, residual: states before and after | theta: what was on its way
             anchor: state before | both payloads and the weight: the leaf
    end      nothing is on its way any more

An anchor and the end are decided by what is opened, and by the log. A copy and a merge have one program, whose
game begins at once: the first split comes with what is opened. An anchor, exchange, partner, weight, payloads
and receipt are in the log: a challenger to which its solver has served another says so (``shown.py``).
Source: docs/spec/verification.md section 4, docs/spec/training.md sections 3 to 5.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Protocol

from swarm.config.spec import NANO, RunSpec
from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import Message
from swarm.primitives.commitments import tensor_hash
from swarm.primitives.state_parts import (
    ANCHOR,
    OFFERED,
    OUTER_M,
    PARAMS,
    PHI,
    RESIDUAL,
    TOKENS,
    offered_component,
    tokens_component,
)
from swarm.training.averaging.outer_step import WEIGHT_MAX_NANO, outer_scalars
from swarm.training.averaging.payload import common_codec, residual_numel
from swarm.training.messages import COUNT_MAX
from swarm.training.record.segment import NO_PARTNER, MergeRecord, no_trades_over
from swarm.types import NO_DIGEST, Digest, PeerId, StageIndex
from swarm.verify.program.account import Account
from swarm.verify.program.cases import Facts, digests_of
from swarm.verify.program.game import Case
from swarm.verify.program.merge import MergeNumbers, copy_program, merge_program
from swarm.verify.program.nodes import Program
from swarm.verify.program.states import check_changed, check_tokens
from swarm.verify.transcript import merge_leaf

Offered = tuple[int, int, bytes]
"""A fragment on its way: (exchange, tokens it was offered with, digest of theta)."""


class OpenAnchor(Message, frozen=True, tag=16):
    """The solver's account, and the parts of the states around an event that sets an anchor."""

    account: Account
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]


class OpenEnd(Message, frozen=True, tag=17):
    """The solver's account, and the parts of the states around the end of its segment."""

    account: Account
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]


class OpenCopy(Message, frozen=True, tag=18):
    """The solver's account, the copy of a fragment in it, and the first split of the trace of its program."""

    account: Account
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    tokens: tuple[int, ...]
    """Tokens in the state: the total, and that of each fragment at its last merge."""
    offered: tuple[Offered, ...]
    """Fragments on their way before it, by exchange."""
    trades_over: tuple[int, ...]
    """For each fragment, the trades of the segment that are over; empty where a round has one."""
    exchange: int
    theta: bytes
    """Digest of what is copied."""
    trace: bytes
    hashes: tuple[bytes, ...]


class OpenMerge(Message, frozen=True, tag=19):
    """The solver's account, a merge in it, and the first split of the trace of its program."""

    account: Account
    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    tokens: tuple[int, ...]
    """Tokens in the state before it, as for a copy."""
    offered: tuple[Offered, ...]
    trades_over: tuple[int, ...]
    exchange: int
    partner: bytes
    """Empty in a solo step."""
    partner_seat: int
    my_payload: bytes
    partner_payload: bytes
    weight_nano: int
    """Weight of the partner in the leaf: 0 if it was declined."""
    due_nano: int
    """Its weight before that."""
    codec: Codec | None
    """Of the partner's payload; None in a solo step."""
    my_codec: Codec | None
    """Of the payload that the partner was given; None if it was given none."""
    moves_residual: bool
    """True if the partner has acknowledged that."""
    trace: bytes
    hashes: tuple[bytes, ...]

    @property
    def record(self) -> MergeRecord:
        """The record behind the leaf."""
        return MergeRecord(
            exchange=self.exchange,
            partner=PeerId(self.partner) if self.partner else None,
            partner_seat=self.partner_seat,
            my_payload=Digest(self.my_payload),
            partner_payload=Digest(self.partner_payload),
            weight_nano=self.weight_nano,
            components=tuple(map(Digest, self.after)),
        )


# --- decided by what is opened ---


def check_anchor(move: OpenAnchor, anchors: Collection[Digest] | None) -> None:
    """Raise ``PeerFault`` unless nothing but the anchor changes, to one of these or, for None, any."""
    check_changed(move.before, move.after, {}, free={ANCHOR})
    if anchors is not None and move.after[ANCHOR] not in anchors:
        raise BrokenPromise("an anchor that is not a canonical checkpoint")


def check_end(move: OpenEnd) -> None:
    """Raise ``PeerFault`` unless nothing changes but that no fragment is on its way any more."""
    check_changed(move.before, move.after, {OFFERED: offered_component(())})


# --- copies ---


def check_copy(facts: Facts, move: OpenCopy) -> None:
    """Raise ``PeerFault`` unless a copy changes the state as ``Shard.snapshot`` does, but for its values."""
    fragment = _check_exchange(facts, move)
    if any(len(part) != 32 for part in (move.theta, move.trace)):
        raise BadEncoding("a hash that has not 32 bytes")
    held = next((one for one in move.offered if _fragment(facts, one[0]) == fragment), None)
    if held is not None and move.exchange < held[0]:
        raise OutOfTurn("a copy for an exchange that is over")
    check_changed(move.before, move.after, after_copy(facts, move))


def after_copy(facts: Facts, move: OpenCopy) -> dict[int, bytes]:
    """Return the parts of the state that a copy changes."""
    fragment, (total, *at_sync) = _fragment(facts, move.exchange), move.tokens
    kept = [one for one in move.offered if _fragment(facts, one[0]) != fragment]
    added = (move.exchange, total - at_sync[fragment], move.theta)
    return {OFFERED: offered_component(sorted([*kept, added]), move.trades_over)}


def copy_case(facts: Facts, move: OpenCopy) -> Case:
    """Return the case of a copy."""
    program = copy_program_of(facts.spec, facts.stage, _fragment(facts, move.exchange))
    known = {"params": Digest(move.before[PARAMS])}
    made = {"theta": Digest(move.theta)}
    digests = digests_of(program.inputs, known) | digests_of(program.outputs, made)
    return Case(program, Digest(move.trace), digests)


@lru_cache(maxsize=8)
def copy_program_of(spec: RunSpec, stage: StageIndex, fragment: int) -> Program:
    """Return the program of a copy; it is derived once."""
    return copy_program(spec, stage, fragment)


# --- merges ---


def check_merge(facts: Facts, move: OpenMerge, leaf: bytes) -> None:
    """Raise ``PeerFault`` unless a merge changes counters as ``Shard.merge`` does, and has its leaf.

    What it makes of weights, momentum and residual is its program's.
    """
    _check_exchange(facts, move)
    _check_sides(facts, move)
    if merge_leaf(move.record) != leaf:
        raise BrokenPromise("another merge than the one in the account")
    if not any(exchange == move.exchange for exchange, _, _ in move.offered):
        raise OutOfTurn("a merge of a fragment that was not offered")
    free = {PARAMS, PHI, OUTER_M} | ({RESIDUAL} if _has_residual(facts) else set())
    check_changed(move.before, move.after, after_merge(facts, move), free)


def after_merge(facts: Facts, move: OpenMerge) -> dict[int, bytes]:
    """Return the parts of the state that a merge changes, but for those that its program computes."""
    fragment, (total, *at_sync) = _fragment(facts, move.exchange), move.tokens
    at_sync[fragment] = total
    over = list(move.trades_over)
    if over:
        over[fragment] = 1 + facts.spec.outer.trade_of(move.exchange)
    left = [one for one in move.offered if one[0] != move.exchange]
    return {TOKENS: tokens_component(total, at_sync), OFFERED: offered_component(left, over)}


def merge_case(facts: Facts, move: OpenMerge) -> Case:
    """Return the case of a merge."""
    program = merge_program_of(facts.spec, facts.stage, numbers_of(facts, move))
    parts = {"params": PARAMS, "phi": PHI, "outer_m": OUTER_M, "residual": RESIDUAL}
    (theta,) = (digest for exchange, _, digest in move.offered if exchange == move.exchange)
    known = {name: Digest(move.before[part]) for name, part in parts.items()} | {
        "theta": Digest(theta),
        "anchor": Digest(move.before[ANCHOR]),
        "payload": Digest(move.partner_payload),
    }
    made = {name: Digest(move.after[part]) for name, part in parts.items()} | {
        "my_payload": Digest(move.my_payload),
        "weight": tensor_hash("int32", (1,), move.weight_nano.to_bytes(4, "little")),
    }
    digests = digests_of(program.inputs, known) | digests_of(program.outputs, made)
    return Case(program, Digest(move.trace), digests)


class MergeSides(Protocol):
    """Numbers of a merge, on which its arithmetic depends besides values."""

    @property
    def exchange(self) -> int:
        """Number of the exchange."""
        ...

    @property
    def due_nano(self) -> int:
        """Weight of the partner, before it may be declined."""
        ...

    @property
    def codec(self) -> Codec | None:
        """Codec of the partner's payload; None in a solo step."""
        ...

    @property
    def my_codec(self) -> Codec | None:
        """Codec of the payload that the partner was given; None if it was given none."""
        ...

    @property
    def moves_residual(self) -> bool:
        """True if the partner has acknowledged that."""
        ...


def numbers_of(facts: Facts, move: MergeSides) -> MergeNumbers:
    """Return the numbers that the arithmetic of a merge depends on."""
    return MergeNumbers(
        fragment=_fragment(facts, move.exchange),
        scalars=outer_scalars(facts.spec.outer, facts.round),
        weight_nano=move.due_nano,
        codec=move.codec,
        my_codec=move.my_codec,
        moves_residual=move.moves_residual,
        is_final_averaging=facts.is_final_averaging,
    )


@lru_cache(maxsize=8)
def merge_program_of(spec: RunSpec, stage: StageIndex, numbers: MergeNumbers) -> Program:
    """Return the program of a merge; it is derived once."""
    return merge_program(spec, stage, numbers)


def _check_sides(facts: Facts, move: OpenMerge) -> None:
    """Raise ``PeerFault`` unless both payloads and the weight are such as the run and the round allow."""
    hashes = (move.my_payload, move.partner_payload, move.trace)
    if any(len(part) != 32 for part in hashes) or len(move.partner) not in {0, 32}:
        raise BadEncoding("a hash that has not 32 bytes")
    if (move.my_codec is None) != (move.my_payload == NO_DIGEST):
        raise BrokenPromise("a payload without a codec, or a codec without one")
    check_codecs(facts, move)
    if not move.partner:
        _check_solo(move)
        return
    if not 0 <= move.partner_seat <= COUNT_MAX or move.codec is None:
        raise BrokenPromise("a partner without a seat, or without a payload")
    if move.weight_nano not in {0, move.due_nano}:
        raise BrokenPromise(f"a weight of {move.weight_nano} where {move.due_nano} is due")


def check_codecs(facts: Facts, move: MergeSides) -> None:
    """Raise ``PeerFault`` unless codecs and weight of a merge are such as the round allows."""
    common = _common_codec(facts)
    may_move = _has_residual(facts) and move.my_codec is common is Codec.INT4
    if move.moves_residual and not may_move:
        raise OutOfTurn("a residual that moves where none is kept")
    codecs = {common, Codec.BF16}
    if move.my_codec is not None and move.my_codec not in codecs:
        raise BrokenPromise(f"a payload in {move.my_codec.name}")
    theirs = {common} if facts.is_final_averaging else codecs
    if move.codec is not None and move.codec not in theirs:
        raise BrokenPromise("a partner in another codec than the round's")
    most = NANO if facts.is_final_averaging else WEIGHT_MAX_NANO
    if not 0 <= move.due_nano <= most:
        raise BrokenPromise(f"a weight of {move.due_nano}")


def _check_solo(move: OpenMerge) -> None:
    """Raise ``BrokenPromise`` unless a solo step mentions no partner but one that acknowledged our payload."""
    said = (move.partner_seat, move.partner_payload, move.weight_nano, move.due_nano, move.codec)
    if said != (NO_PARTNER, NO_DIGEST, 0, 0, None):
        raise BrokenPromise("a step alone that mentions a partner")
    if (move.my_codec is not None) != move.moves_residual:
        raise BrokenPromise("a step alone with a payload that nobody acknowledged")


# --- what both have ---


def _check_exchange(facts: Facts, move: OpenCopy | OpenMerge) -> int:
    """Return the fragment of an exchange; raise ``PeerFault`` unless the counters are those of the state."""
    outer = facts.spec.outer
    if not 0 <= move.exchange < facts.exchanges:
        raise BadEncoding(f"exchange {move.exchange} of {facts.exchanges}")
    fragment, over = outer.fragment_of(move.exchange), move.trades_over
    if len(move.tokens) != 1 + outer.fragments or max(move.tokens[1:]) > move.tokens[0]:
        raise BadEncoding("tokens of another number of fragments, or of more than there were")
    check_tokens(move.tokens, move.before[TOKENS])
    if len(over) != len(no_trades_over(facts.spec)):
        raise BadEncoding("the trades of another number of fragments")
    if not all(0 <= one <= outer.trades_per_round for one in over):
        raise BadEncoding("more trades that are over than a round has")
    if over and outer.trade_of(move.exchange) < over[fragment]:
        raise OutOfTurn("an exchange that is over")
    _check_offered(facts, move.offered)
    if offered_component(move.offered, over) != move.before[OFFERED]:
        raise BrokenPromise("other fragments on their way than those of the state")
    return fragment


def _check_offered(facts: Facts, offered: Sequence[Offered]) -> None:
    numbers = [exchange for exchange, _, _ in offered]
    if numbers != sorted(set(numbers)) or not set(numbers) <= set(range(facts.exchanges)):
        raise BadEncoding("fragments on their way, out of order")
    if len({_fragment(facts, number) for number in numbers}) != len(numbers):
        raise BadEncoding("a fragment on its way in two exchanges")
    if not all(0 <= tokens <= COUNT_MAX and len(theta) == 32 for _, tokens, theta in offered):
        raise BadEncoding("a fragment on its way with absurd tokens, or another hash")


def _fragment(facts: Facts, exchange: int) -> int:
    return facts.spec.outer.fragment_of(exchange)


def _common_codec(facts: Facts) -> Codec:
    return common_codec(facts.spec, facts.round, is_final_averaging=facts.is_final_averaging)


def _has_residual(facts: Facts) -> bool:
    return residual_numel(facts.spec, 1) > 0
