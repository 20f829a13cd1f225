"""Compute a window of a segment again, from its log and the public data of the round.

Core: pure functions; the same bits as the solver's where the run's numerics are exact.

Values that can be derived are never taken from the log: the learning rate, the samples, the tokens, the
partner, its weight and the numbers of the outer step all come from the round. The log supplies the state at the
start and the messages that others signed. ``answer`` gives every signed log exactly one answer, on every
machine.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding, BrokenPromise, OtherBits, OutOfTurn, PeerFault, UsageError
from swarm.gossip.trade.messages import Codec, payload_digest
from swarm.gossip.trade.payload import (
    FragmentPayload,
    ReceivedFragment,
    encode_payload,
    read_payload,
)
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.commitments import REFUSED, WindowResult, leaves_root, tensor_hash
from swarm.primitives.edges import SentEntry
from swarm.training.averaging.outer_step import Merge, SentFragment, outer_scalars
from swarm.training.averaging.payload import (
    anchor_of,
    fragment_payload,
    read_values,
    residual_numel,
)
from swarm.training.data.dataset import TokenSource
from swarm.training.devices.engine import Engine
from swarm.training.messages import COUNT_MAX
from swarm.training.model.operators import are_finite
from swarm.training.model.optimizer import num_second_moments
from swarm.training.model.stages import plans_of
from swarm.training.plan import RoundPlan
from swarm.training.record.restore import replay_microbatch, replay_uncounted, restored
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, ShardState, StepRecord
from swarm.training.record.window import (
    AnchorSet,
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    Uncounted,
    WindowData,
    WindowKey,
)
from swarm.training.record.window_bytes import (
    decode_window,
)
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Bytes, Digest
from swarm.verify.edges import Sent, check_list
from swarm.verify.log_rules import check_incarnation, check_merge, check_place, check_window
from swarm.verify.manifest import WindowManifest, is_of_log
from swarm.verify.transcript import merge_leaf, state_root, step_leaf


@dataclass(frozen=True, slots=True)
class Committed:
    """Part of a segment's commit that the logs of its windows must match."""

    start_root: Digest
    """Root of the state that the segment begins with."""
    num_steps: int
    incarnation: int
    """Start of the process that trained it: what neighbours answered names it, too."""
    sent: tuple[SentEntry, ...]
    """The list that it names; nothing but its root was checked."""


def log_in(raw: Bytes, manifest: WindowManifest, spec: RunSpec) -> WindowData | None:
    """Return the log in some bytes; None if they are no log of the manifest's window, or not as it says.

    Raises ``BrokenPromise`` if they are not the bytes that the manifest names.
    """
    if tensor_hash("uint8", (len(raw),), raw) != manifest.root:
        raise BrokenPromise("a log that is not what its manifest names")
    try:
        data = decode_window(spec, memoryview(raw))
    except PeerFault:
        return None
    return data if is_of_log(manifest, data) else None


def as_manifest_says(manifest: WindowManifest, result: WindowResult) -> WindowResult:
    """Return the result of a log, ``REFUSED`` if it begins with another state than its manifest says."""
    return result if result.start_root == manifest.start else REFUSED


def answer(
    committed: Committed,
    plan: RoundPlan,
    data: WindowData,
    tokens: TokenSource,
    anchors: Mapping[Digest, Tensor],
    base_W: Tensor | None = None,
) -> WindowResult:
    """Replay a window; return ``REFUSED`` for a log that no honest seat writes, or not in this segment."""
    try:
        check_place(plan, data, committed.num_steps)
        check_list(committed.sent, num_windows(committed.num_steps, plan.spec.checks.window_steps))
        check_incarnation(data, committed.incarnation)
        sent = Sent(plan, data.key.window, committed.sent)
        result = replay(plan, data, tokens, anchors, base_W, sent)
        sent.check()
    except PeerFault:
        return REFUSED
    if data.key.window == 0 and result.start_root != committed.start_root:
        return REFUSED
    return result


def replay(
    plan: RoundPlan,
    data: WindowData,
    tokens: TokenSource,
    anchors: Mapping[Digest, Tensor],
    base_W: Tensor | None = None,
    sent: Sent | None = None,
) -> WindowResult:
    """Replay the events of a window's log.

    Args:
        plan: Plan of the round of the window that was asked for.
        data: Log of the window.
        tokens: Training tokens of the run.
        anchors: Every canonical checkpoint among ``anchors_named(data)``, and no other, by root.
        base_W: Weights below the adapter of the run, if it has one.
        sent: Table of what the list of the segment has of this window; None to compare nothing.

    Raises:
        PeerFault: If no honest seat writes such a log.
    """
    machine = Replay(plan, data, tokens, anchors, base_W, sent)
    start_root = state_root(machine.shard.components())
    leaves = machine.run()
    counted = machine.shard.tokens_total - data.start.tokens_total
    end_root = state_root(machine.shard.components())
    return WindowResult(leaves_root(leaves), start_root, end_root, counted)


class Replay:
    """A replay of a window between two of its events; the arguments and errors are those of ``replay``.

    Without an ``engine`` this machine's CPU computes. If it is forced, messages count whatever bits of this
    seat they answer, and what was computed and not counted is left out: another machine's bits differ.
    """

    def __init__(
        self,
        plan: RoundPlan,
        data: WindowData,
        tokens: TokenSource,
        anchors: Mapping[Digest, Tensor],
        base_W: Tensor | None = None,
        sent: Sent | None = None,
        *,
        engine: Engine | None = None,
        is_forced: bool = False,
    ) -> None:
        check_window(plan, data)
        check_start(plan.spec, data)
        first = _anchor(anchors, data.start.anchor_root, data.start.params_P)
        self.shard = restored(plan.spec, data.key.stage, data.start, first, base_W, engine)
        """The state of the seat."""
        check_parts(self.shard, data.start)
        self._plan, self._data, self._tokens, self._anchors = plan, data, tokens, anchors
        self._sent, self._is_forced = sent, is_forced

    def run(self) -> list[Digest]:
        """Compute all events, and return the leaves."""
        leaves = [leaf for event in self._data.events if (leaf := self.apply(event)) is not None]
        self.end()
        return leaves

    def apply(self, event: Event) -> Digest | None:
        """Go on by one event; return its leaf, if it has one."""
        shard, plan, key = self.shard, self._plan, self._data.key
        is_forced = self._is_forced
        match event:
            case AnchorSet(root):
                shard.set_anchor(_anchor(self._anchors, root, shard.params_P), root)
            case SnapshotTaken(exchange):
                snapshot = shard.snapshot(exchange)
                if self._sent is not None:
                    self._sent.snapshot(snapshot)
            case FragmentMerged():
                return merge_leaf(_merge(shard, plan, key, event, is_forced=is_forced))
            case StepTaken():
                record = _step(shard, plan, key, self._tokens, event, is_forced=is_forced)
                _find(self._sent, record.microbatches)
                return step_leaf(record)
            case Uncounted() if is_forced:
                pass
            case Uncounted(microbatches):
                where = (shard, self._tokens, plan, key.seat)
                try:
                    _find(self._sent, [replay_uncounted(*where, one) for one in microbatches])
                except OtherBits as fault:  # it is in no account, and cannot be disputed
                    raise OutOfTurn(str(fault)) from None
        return None

    def end(self) -> None:
        """End the segment, if it ends here: a fragment that was offered and not merged is dropped."""
        if self._data.is_last:
            self.shard.begin_segment()


def filled(
    plan: RoundPlan,
    windows: Sequence[WindowData],
    tokens: TokenSource,
    anchors: Mapping[Digest, Tensor],
    base_W: Tensor | None = None,
) -> WindowData:
    """Return the last of some windows that follow one another, with the state that it begins with.

    The first of them has its own. Other arguments and errors are those of ``replay``.
    """
    *before, last = windows
    if not before:
        return last
    machine = Replay(plan, before[0], tokens, anchors, base_W)
    for data in before:
        for event in data.events:
            machine.apply(event)
    return dataclasses.replace(last, start=machine.shard.state())


def check_start(spec: RunSpec, data: WindowData) -> None:
    """Raise ``PeerFault`` unless the state at the start of the window is possible for a seat."""
    start = data.start
    counts = (start.step, start.tokens_total, *start.tokens_at_sync)
    if not all(0 <= count <= COUNT_MAX for count in counts):
        raise BadEncoding("a state with a count that is negative or absurd")
    if len(start.tokens_at_sync) != spec.outer.fragments:
        raise BadEncoding("a state with another number of fragments")
    if max(start.tokens_at_sync) > start.tokens_total:
        raise BadEncoding("a fragment that was merged after more tokens than there were")
    plan = plans_of(spec)[data.key.stage]
    whole, second = plan.num_parameters, num_second_moments(spec.optimizer, plan)
    if [tensor.numel() for tensor in start.tensors] != [whole, whole, second, whole, whole]:
        raise BadEncoding("a state of tensors of other lengths than the run's")
    if not are_finite(*start.tensors):
        raise BadEncoding("a state that is not finite")
    if data.key.window == 0 and (start.snapshots or any(start.trades_over)):
        raise OutOfTurn("a segment that begins with fragments on their way")


def check_parts(shard: Shard, start: ShardState) -> None:
    """Raise ``PeerFault`` unless the residual and the copied fragments fit the shard and its counters."""
    residual_R = start.residual_R
    if residual_R.shape != (residual_numel(shard.spec, start.params_P.numel()),):
        raise BadEncoding("a residual of another length than the run's")
    if not are_finite(residual_R):
        raise BadEncoding("a residual that is not finite")
    outer, trades_over = shard.spec.outer, start.trades_over
    if not all(0 <= over <= outer.trades_per_round for over in trades_over):
        raise BadEncoding("more trades that are over than a round has")
    numbers = [exchange for exchange, _, _ in start.snapshots]
    if numbers != sorted(set(numbers)) or not set(numbers) <= set(range(outer.exchanges)):
        raise BadEncoding("fragments on their way, out of order")
    if len(set(map(outer.fragment_of, numbers))) != len(numbers):
        raise BadEncoding("a fragment on its way in two exchanges")
    for exchange, tokens, theta_F in start.snapshots:
        fragment = outer.fragment_of(exchange)
        if trades_over and outer.trade_of(exchange) < trades_over[fragment]:
            raise OutOfTurn("a fragment on its way in an exchange that is over")
        span = shard.spans[fragment]
        if theta_F.shape != (span.numel,) or not are_finite(theta_F):
            raise BadEncoding("a fragment of another shape, or not finite")
        if not 0 <= tokens <= start.tokens_total - start.tokens_at_sync[fragment]:
            raise BadEncoding("a fragment that was offered with more tokens than there were")


def _anchor(anchors: Mapping[Digest, Tensor], root: Digest, params_P: Tensor) -> Tensor:
    if root not in anchors:
        raise OutOfTurn("an anchor that is not a canonical checkpoint")
    if anchors[root].shape != params_P.shape:
        raise BadEncoding("a state of another stage than its anchor")
    return anchors[root]


def _step(
    shard: Shard,
    plan: RoundPlan,
    key: WindowKey,
    tokens: TokenSource,
    taken: StepTaken,
    *,
    is_forced: bool,
) -> StepRecord:
    for computed in taken.microbatches:
        replay_microbatch(shard, tokens, plan, key.seat, computed, is_forced=is_forced)
    for microbatch_id in taken.dropped:
        shard.drop(*microbatch_id)
    record = shard.step(plan, taken.step)
    assert record is not None, "a step has micro-batches"
    return record


def _find(sent: Sent | None, records: Sequence[MicrobatchRecord]) -> None:
    if sent is not None:
        for record in records:
            sent.microbatch(record)


# --- merges ---


def _merge(
    shard: Shard, plan: RoundPlan, key: WindowKey, merged: FragmentMerged, *, is_forced: bool
) -> MergeRecord:
    snapshot = shard.offered(merged.exchange)
    assert snapshot is not None, "a merge follows its offer"
    spec, offer, is_final_averaging = plan.spec, merged.offer, plan.is_final_averaging
    terms = check_merge(plan, key, merged, snapshot.anchor_root, snapshot.theta_P.numel())
    scalars = outer_scalars(spec.outer, plan.round)
    mine = fragment_payload(spec, plan.round, snapshot, is_final_averaging=is_final_averaging)
    sent = _forced(mine, merged) if is_forced else _sent(mine, merged)
    if terms is None or offer is None:
        return shard.merge(
            Merge.solo(snapshot, scalars, sent, is_final_averaging=is_final_averaging)
        )
    check_weight(plan, terms.due_nano(snapshot.tokens, offer.tokens), merged.weight_nano)
    anchor = anchor_of(spec, snapshot, is_final_averaging=is_final_averaging)
    values = read_payload(offer.codec, merged.payload, anchor)
    theta_hat_P, phi_hat_P = read_values(spec, values, is_final_averaging=is_final_averaging)
    received = ReceivedFragment(offer, merged.payload, values)
    return shard.merge(
        Merge(
            snapshot=snapshot,
            theta_hat_P=theta_hat_P,
            weight_nano=merged.weight_nano,
            scalars=scalars,
            partner=terms.partner.peer,
            partner_seat=terms.partner.index,
            my_payload=merged.my_payload,
            received=received,
            phi_hat_P=phi_hat_P,
            sent=sent,
            is_final_averaging=is_final_averaging,
        )
    )


def check_weight(plan: RoundPlan, due: int, said: int) -> None:
    """Raise ``OutOfTurn`` unless a merge has the weight ``due``, or less where the run limits distances.

    The weight is never more than due. In a round of final averaging it is exactly the due one.
    """
    is_free = plan.spec.outer.distance_max_nano > 0 and not plan.is_final_averaging
    least = min(due, 1) if is_free else due
    if not least <= said <= due:
        raise OutOfTurn(f"a weight of {said} where {due} is the most")


def _sent(mine: FragmentPayload, merged: FragmentMerged) -> SentFragment | None:
    """Return the residual that our own payload leaves, with its receipt; None if it leaves none.

    Only int4 leaves a residual, and only with the partner's receipt. Raises as ``given_to_partner`` does.
    """
    found = given_to_partner(mine, merged)
    if found is None or merged.receipt is None or found[1] is None:
        return None
    return SentFragment(merged.receipt, found[1])


def given_to_partner(
    mine: FragmentPayload, merged: FragmentMerged
) -> tuple[Codec, Tensor | None] | None:
    """Return the codec of the payload that the partner was given, and the residual that it leaves.

    None if it was given none. Raises ``OutOfTurn`` if the payload that is named cannot be ours. Which of the
    two codecs it was in depends on the partner's anchor.
    """
    if merged.my_payload == NO_DIGEST:
        return None
    codecs = (mine.codec,) if merged.receipt is not None else (mine.codec, Codec.BF16)
    for codec in codecs:
        try:
            payload, residual = encode_payload(mine, codec)
        except UsageError:
            continue  # A payload that this codec cannot encode was never sent.
        if payload_digest(payload) == merged.my_payload:
            return codec, residual
    raise OtherBits("a payload of ours that is not the fragment")


def _forced(mine: FragmentPayload, merged: FragmentMerged) -> SentFragment | None:
    """Return the residual that our own payload leaves, whichever payload is named; None if it leaves none."""
    if merged.receipt is None:
        return None
    try:
        _, residual = encode_payload(mine, mine.codec)
    except UsageError:
        raise OutOfTurn("a receipt for a payload that cannot be encoded") from None
    return None if residual is None else SentFragment(merged.receipt, residual)
