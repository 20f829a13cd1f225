"""Check that a window's log holds signed messages that the round allows, in a possible order.

Core: pure functions; anything that no honest seat writes down raises ``PeerFault``.

The measure is the honest seat. Every message that its entry points accept (training/pipeline.py,
gossip/trade/pull.py) passes here, or other peers could have it convicted; anything that neither its entry
points accept nor its own code produces is refused.

Whether a gradient answers the activations that the seat's weights give is seen when they are computed again
(``Shard.backward``). A micro-batch that another window of the segment has too, and what was sent to others, are
seen in the list that the commit of the segment names (``verify/edges.py``).
Source: docs/spec/protocol.md sections 3 and 4, docs/spec/verification.md section 2.
"""

from collections.abc import Sequence

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.gossip.trade.messages import (
    Codec,
    FragmentKey,
    Offer,
    Receipt,
    check_root,
    payload_digest,
    verify_offer,
    verify_receipt,
)
from swarm.gossip.trade.payload import check_codec, payload_bytes
from swarm.primitives.codec import replace
from swarm.training.averaging.payload import common_codec, residual_numel, traded_numel
from swarm.training.messages import (
    COUNT_MAX,
    MicroBatch,
    MicroBatchGrad,
    check_bare_grad,
    check_bare_microbatch,
    check_grad,
    check_microbatch,
    request_of,
)
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.record.segment import NO_PARTNER, MicrobatchId, no_trades_over
from swarm.training.record.window import (
    AnchorSet,
    ComputedMicrobatch,
    FragmentMerged,
    MergeHead,
    SnapshotTaken,
    StepTaken,
    Uncounted,
    WindowData,
    WindowKey,
    waiting_max,
)
from swarm.training.terms import TradeTerms, terms_of, terms_with
from swarm.types import NO_DIGEST, Digest


def check_window(plan: RoundPlan, data: WindowData) -> None:
    """Raise ``PeerFault`` unless an honest seat could have written the log.

    Checks ids, counts, order and the messages of micro-batches; ``check_merge`` checks those of merges.
    """
    key = data.key
    if key.run != plan.run or key.round != plan.round or key.window < 0:
        raise OutOfTurn("a window of another run or round")
    if plan.seat(key.stage, key.seat) is None:
        raise OutOfTurn("a window of a seat that is not in the round")
    steps = [event for event in data.events if isinstance(event, StepTaken)]
    _check_steps(plan, data, steps)
    _check_anchors(data)
    _check_exchanges(plan, data)
    _check_coordinates(plan, key, steps)
    _check_uncounted(plan, data)
    _check_replies_order(steps)
    for event in data.events:
        if isinstance(event, StepTaken | Uncounted):
            is_counted = isinstance(event, StepTaken)
            for computed in event.microbatches:
                _check_sides(plan, key, computed, is_counted=is_counted)
                if computed.request is not None:
                    _check_request(plan, key, computed, computed.request)
                if computed.reply is not None:
                    _check_reply(plan, key, computed, computed.reply)


# --- steps ---


def _check_steps(plan: RoundPlan, data: WindowData, steps: Sequence[StepTaken]) -> None:
    """Check that steps are numbered without a gap and the window ends where the run's width says."""
    if plan.is_final_averaging:
        if steps or data.key.window or not data.is_last:
            raise OutOfTurn("a step in a round of final averaging")
        return
    window, width = data.key.window, plan.spec.checks.window_steps
    first = window * width
    if [taken.step for taken in steps] != list(range(first, first + len(steps))):
        raise OutOfTurn("steps that do not follow each other")
    if len(steps) > width or first + len(steps) > plan.spec.inner_steps_max:
        raise OutOfTurn(f"{len(steps)} steps in window {window}")
    if not steps or (not data.is_last and len(steps) < width):
        raise OutOfTurn("a window that ends before the next one begins")
    first_event = next((e for e in data.events if not isinstance(e, Uncounted)), None)
    if window > 0 and not isinstance(first_event, StepTaken):
        raise OutOfTurn("a window that does not begin with a step")
    if any(not 1 <= len(taken.microbatches) <= MICROBATCHES_MAX for taken in steps):
        raise OutOfTurn("a step of no micro-batches, or of too many")


def check_place(plan: RoundPlan, data: WindowData, num_steps: int) -> None:
    """Raise ``OutOfTurn`` unless a window has its share of ``num_steps``, and ends the segment where it must.

    A segment that ended in the middle could leave out steps that it claims, or merge an exchange again.
    """
    width = plan.spec.checks.window_steps
    first = data.key.window * width
    taken = sum(isinstance(event, StepTaken) for event in data.events)
    if taken != min(max(num_steps - first, 0), width):
        raise OutOfTurn(f"{taken} steps in window {data.key.window} of {num_steps} steps")
    if data.is_last != (first + width >= num_steps):
        raise OutOfTurn("a segment that ends in another window")


def check_incarnation(data: WindowData, incarnation: int) -> None:
    """Raise ``OutOfTurn`` unless neighbours answered the process that committed the segment.

    A seat that sent its work under another number would commit to a list that binds it to nothing.
    """
    worked = [event for event in data.events if isinstance(event, StepTaken | Uncounted)]
    _check_answers(worked, incarnation)


def _check_answers(worked: Sequence[StepTaken | Uncounted], incarnation: int) -> None:
    replies = (one.reply for event in worked for one in event.microbatches)
    if any(one is not None and one.incarnation != incarnation for one in replies):
        raise OutOfTurn("answers for another start of the process than the commit's")


def _check_anchors(data: WindowData) -> None:
    """Check that the anchor changes at the beginning of the segment only."""
    positions = [at for at, event in enumerate(data.events) if isinstance(event, AnchorSet)]
    if positions not in ([], [0]) or (positions and data.key.window > 0):
        raise OutOfTurn("an anchor that was set in the middle of a segment")


def _check_exchanges(plan: RoundPlan, data: WindowData) -> None:
    """Check that each exchange is merged at most once, after its copy, and those of a fragment in order.

    A seat that merged an exchange twice, or an earlier one after a later, would choose between partners, and
    how often it counts one. It may leave exchanges out: that is a trade that failed, and nothing is gained.
    """
    outer = plan.spec.outer
    offered = {outer.fragment_of(exchange): exchange for exchange, _, _ in data.start.snapshots}
    over = list(data.start.trades_over)
    if len(over) != len(no_trades_over(plan.spec)):
        raise BadEncoding("a state with the trades of another number of fragments")
    is_numbered, over = bool(over), over or [0] * outer.fragments
    for event in data.events:
        match event:
            case SnapshotTaken(exchange):
                if not 0 <= exchange < plan.exchanges:
                    raise BadEncoding(f"a copy for exchange {exchange}")
                fragment, trade = outer.fragment_of(exchange), outer.trade_of(exchange)
                is_over = is_numbered and trade < over[fragment]
                if is_over or exchange < offered.get(fragment, exchange):
                    raise OutOfTurn("a copy for an exchange that is over")
                offered[fragment] = exchange
            case FragmentMerged(exchange):
                fragment, trade = outer.fragment_of(exchange), outer.trade_of(exchange)
                if offered.get(fragment) != exchange or trade < over[fragment]:
                    raise OutOfTurn("a fragment that was not offered, or was merged before")
                del offered[fragment]
                over[fragment] = trade + 1
            case AnchorSet() | StepTaken() | Uncounted():
                pass


# --- micro-batches ---


def _check_coordinates(plan: RoundPlan, key: WindowKey, steps: Sequence[StepTaken]) -> None:
    """Check that each micro-batch is counted once, within the run's numbers, in the order of its origin."""
    seen = set[MicrobatchId]()
    newest = -1
    for taken in steps:
        computed = [one.microbatch_id for one in taken.microbatches]
        for microbatch_id in (*computed, *taken.dropped):
            _check_microbatch_id(plan, microbatch_id)
        if len({*computed, *seen}) < len(computed) + len(seen):
            raise OutOfTurn("a micro-batch that the window had before")
        seen.update(computed)
        if taken.dropped and key.stage > 0:
            raise OutOfTurn("a micro-batch of another origin, dropped")
        if key.stage == 0:
            if {origin for origin, _, _ in (*computed, *taken.dropped)} != {key.seat}:
                raise OutOfTurn("a micro-batch of another origin")
            # Every attempt ends before a step is taken, so the next step has later attempts.
            attempts = [step for _, step, _ in computed]
            if min(attempts) <= newest or min(attempts) < taken.step:
                raise OutOfTurn("a micro-batch of an attempt that was over")
            newest = max(attempts)


def _check_uncounted(plan: RoundPlan, data: WindowData) -> None:
    """Check that what was computed and not counted is of this seat's work, and there once in the window."""
    seen = set[MicrobatchId]()
    for event in data.events:
        if isinstance(event, StepTaken | Uncounted):
            ids = {one.microbatch_id for one in event.microbatches}
            if ids & seen:
                raise OutOfTurn("a micro-batch that the window had before")
            seen |= ids
    for number, event in enumerate(data.events):
        if not isinstance(event, Uncounted):
            continue
        before = data.events[number - 1] if number else None
        is_more = len(event.microbatches) > waiting_max(plan, data.key.stage)
        if is_more or isinstance(before, Uncounted):
            raise OutOfTurn("more micro-batches than a seat computes before its weights change")
        for one in event.microbatches:
            _check_microbatch_id(plan, one.microbatch_id)
            if data.key.stage == 0 and one.origin != data.key.seat:
                raise OutOfTurn("a micro-batch of another origin")


def _check_microbatch_id(plan: RoundPlan, microbatch_id: MicrobatchId) -> None:
    origin, step, microbatch = microbatch_id
    spec = plan.spec
    if not (0 <= step < spec.inner_steps_max and 0 <= microbatch < spec.microbatches_per_step):
        raise BadEncoding(f"micro-batch {microbatch} of step {step}")
    if plan.seat(0, origin) is None:
        raise BadEncoding("a micro-batch of an origin that does not exist")


def _check_sides(
    plan: RoundPlan, key: WindowKey, computed: ComputedMicrobatch, *, is_counted: bool
) -> None:
    """Check that every stage but the first has a request, and every stage but the last a reply if it counts."""
    if (computed.request is not None) != (key.stage > 0):
        raise OutOfTurn("activations from below, where they do not belong or are missing")
    has_reply, has_above = computed.reply is not None, key.stage < plan.spec.num_stages - 1
    if has_reply != has_above and (is_counted or has_reply):
        raise OutOfTurn("a gradient from above, where it does not belong or is missing")


def _check_request(
    plan: RoundPlan, key: WindowKey, computed: ComputedMicrobatch, request: MicroBatch
) -> None:
    """Check that activations are for this micro-batch and seat, signed by a seat of the stage below."""
    source = _source_of(plan, key, computed, request)
    check_microbatch(plan.chain, plan.run_digest, plan.spec, request, source.peer)


def _check_reply(
    plan: RoundPlan, key: WindowKey, computed: ComputedMicrobatch, reply: MicroBatchGrad
) -> None:
    """Check that a gradient is for this micro-batch, signed by the seat above that received it."""
    above = _above(plan, key, reply)
    request = sent_request(plan, key, computed, reply)
    rules = (plan.chain, plan.run_digest, plan.spec)
    check_grad(*rules, request, reply.activations, reply, above.peer)


def check_step_head(plan: RoundPlan, key: WindowKey, taken: StepTaken, incarnation: int) -> None:
    """Check a step whose payloads are not there by its numbers: what an honest seat counts, and drops.

    ``incarnation``: start of the process that committed the segment. Raises ``PeerFault``.
    """
    if not 1 <= len(taken.microbatches) <= MICROBATCHES_MAX:
        raise OutOfTurn("a step of no micro-batches, or of too many")
    _check_coordinates(plan, key, [taken])
    _check_replies_order([taken])
    _check_answers([taken], incarnation)


def check_bare(
    plan: RoundPlan,
    key: WindowKey,
    computed: ComputedMicrobatch,
    *,
    entry: Digest,
    sent: Digest,
    pull: Digest,
) -> None:
    """Check a counted micro-batch whose payloads are only known by their digests.

    ``entry``: of the activations from below; ``sent``: of those that went up; ``pull``: of their gradient.
    Raises ``PeerFault`` for what no honest seat has computed with.
    """
    _check_sides(plan, key, computed, is_counted=True)
    request, reply = computed.request, computed.reply
    rules = (plan.chain, plan.run_digest)
    if request is not None:
        source = _source_of(plan, key, computed, request)
        check_bare_microbatch(*rules, plan.spec, request, entry, source.peer)
    if reply is not None:
        above = _above(plan, key, reply)
        asked = sent_request(plan, key, computed, reply)
        check_bare_grad(*rules, asked, sent, reply, pull, above.peer)


def _source_of(
    plan: RoundPlan, key: WindowKey, computed: ComputedMicrobatch, request: MicroBatch
) -> RosterSeat:
    """Return the seat below that must have signed activations, which are for this micro-batch and seat."""
    there = (request.run, request.round, request.stage, request.destination)
    if there != (plan.run, plan.round, key.stage, key.seat):
        raise OutOfTurn("activations for another seat or round")
    if request.microbatch_id != computed.microbatch_id:
        raise OutOfTurn("the activations of another micro-batch")
    source = plan.seat(key.stage - 1, request.source)
    if source is None:
        raise OutOfTurn("activations from a peer without a seat in the stage below")
    return source


def _above(plan: RoundPlan, key: WindowKey, reply: MicroBatchGrad) -> RosterSeat:
    """Return the seat above that must have signed a gradient."""
    above = plan.seat(key.stage + 1, reply.destination)
    if above is None:
        raise OutOfTurn("a gradient from a peer without a seat in the stage above")
    return above


def _check_replies_order(steps: Sequence[StepTaken]) -> None:
    """Check that one process requested all gradients, with a higher weight version in each step."""
    incarnations = set[int]()
    newest = -1
    for taken in steps:
        replies = [one.reply for one in taken.microbatches if one.reply is not None]
        numbers = [number for one in replies for number in (one.incarnation, one.version)]
        if not all(0 <= number <= COUNT_MAX for number in numbers):
            raise BadEncoding("a gradient with a number that is negative or absurd")
        versions = [reply.version for reply in replies]
        incarnations.update(reply.incarnation for reply in replies)
        if len(incarnations) > 1 or (versions and min(versions) <= newest):
            raise OutOfTurn("a gradient for other weights than those of its step")
        newest = max((newest, *versions))


def sent_request(
    plan: RoundPlan, key: WindowKey, computed: ComputedMicrobatch, reply: MicroBatchGrad
) -> MicroBatch:
    """Return the unsigned request that the seat sent, without its payload.

    Its destination, incarnation and weight version are known from the reply alone.
    """
    request = request_of(
        plan,
        computed.microbatch_id,
        stage=key.stage + 1,
        source=key.seat,
        incarnation=reply.incarnation,
        version=reply.version,
        payload=b"",
    )
    return replace(request, destination=reply.destination)


# --- fragments ---


def check_merge(
    plan: RoundPlan, key: WindowKey, merged: FragmentMerged, anchor_root: Digest, numel: int
) -> TradeTerms | None:
    """Return the terms of a merge; None for a solo step, which is always allowed.

    Raises as ``check_merge_head`` does, and unless the partner signed the merged payload.
    """
    terms, offer = check_merge_head(plan, key, merged, anchor_root, numel), merged.offer
    if offer is None:
        if merged.payload:
            raise OutOfTurn("a step alone that mentions a partner")
        return None
    if (
        len(merged.payload) != offer.num_bytes
        or payload_digest(merged.payload) != offer.payload_hash
    ):
        raise BrokenPromise("a payload that is not the one promised")
    return terms


def check_merge_head(
    plan: RoundPlan, key: WindowKey, merged: MergeHead, anchor_root: Digest, numel: int
) -> TradeTerms | None:
    """Return the terms of a merge by all but its payload; None for a solo step, which is always allowed.

    Raises ``PeerFault`` unless the partner is the drawn one or may step in for it, its offer could be merged
    under our ``anchor_root``, and a receipt is that of the drawn partner. ``numel`` is the number of elements
    of the fragment. The caller computes the weight and the payload that the partner was given.
    """
    offer = merged.offer
    drawn = terms_of(plan, key.stage, key.seat, merged.exchange)
    payload = NO_DIGEST
    if merged.receipt is not None:
        partner = None if drawn is None else drawn.partner
        _check_receipt(plan, key, merged, merged.receipt, partner)
        payload = merged.my_payload
    if merged.partner_seat == NO_PARTNER:
        if (offer, merged.weight_nano, merged.my_payload) != (None, 0, payload):
            raise OutOfTurn("a step alone that mentions a partner")
        return None
    terms = terms_with(plan, key.stage, key.seat, merged.exchange, merged.partner_seat)
    if offer is None or terms is None:
        raise OutOfTurn("a merge with a peer that the beacon did not choose")
    if not terms.gives:
        raise OutOfTurn("a merge with a partner that only pulls")
    wanted = FragmentKey(plan.run, key.stage, merged.exchange, plan.round, terms.partner.index)
    _check_offer(plan, terms.partner, wanted, offer, anchor_root, numel)
    return terms


def _check_receipt(
    plan: RoundPlan,
    key: WindowKey,
    merged: MergeHead,
    receipt: Receipt,
    partner: RosterSeat | None,
) -> None:
    """Check the drawn partner's receipt for a payload of ours, in a round in which it moves a residual."""
    is_fed_back = _codec(plan) is Codec.INT4 and residual_numel(plan.spec, 1) > 0
    if partner is None or not is_fed_back:
        raise OutOfTurn("a receipt where nothing waits for one")
    ours = FragmentKey(plan.run, key.stage, merged.exchange, plan.round, key.seat)
    fields = (receipt.key, receipt.to_seat, receipt.payload_hash)
    if fields != (ours, partner.index, merged.my_payload):
        raise OutOfTurn("a receipt for something else")
    verify_receipt(partner.peer, plan.chain, receipt)


def _check_offer(
    plan: RoundPlan,
    partner: RosterSeat,
    wanted: FragmentKey,
    offer: Offer,
    anchor_root: Digest,
    numel: int,
) -> None:
    """Check an offer as its receiver does (gossip/trade/pull.py)."""
    if offer.key != wanted:
        raise OutOfTurn("an offer of another fragment")
    verify_offer(partner.peer, plan.chain, offer)
    check_codec(offer, _codec(plan), anchor_root)
    values = traded_numel(plan.spec, numel, is_final_averaging=plan.is_final_averaging)
    if offer.num_bytes != payload_bytes(offer.codec, values):
        raise BrokenPromise("an offer of the wrong size for this fragment")
    if not 0 < offer.wire_bytes <= offer.num_bytes:
        raise BrokenPromise("an offer that grows on the wire")
    check_root(offer.chunk_root)


def _codec(plan: RoundPlan) -> Codec:
    return common_codec(plan.spec, plan.round, is_final_averaging=plan.is_final_averaging)
