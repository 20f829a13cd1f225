"""Every kind of lie a log can tell, as a change of an honest one."""

from collections.abc import Callable

import torch
from torch import Tensor

from swarm.gossip.trade.messages import Codec, payload_digest, sign_offer
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.training.averaging.outer_step import WEIGHT_MIN_NANO
from swarm.training.messages import sign_grad, sign_microbatch, wire_digest
from swarm.training.record.segment import ShardState
from swarm.training.record.window import (
    AnchorSet,
    ComputedMicrobatch,
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    WindowData,
)
from swarm.types import NO_DIGEST, Digest
from tests.verify.logs import steps_of, with_events, with_microbatch
from tests.verify.windows import CHAIN, Harvest

Lie = Callable[[Harvest, WindowData], WindowData]


class NotHere(Exception):
    """This window has nothing to lie about in this way."""


def flipped(data: bytes, bit: int) -> bytes:
    changed_bytes = bytearray(data)
    changed_bytes[bit // 8] ^= 1 << bit % 8
    return bytes(changed_bytes)


def with_bit(tensor: Tensor, at: int, bit: int = 0) -> Tensor:
    """A copy with one bit of one value replace: one ulp, for bit 0."""
    out = tensor.clone()
    out.view(torch.int32)[at] ^= 1 << bit
    return out


def a_merge_of(data: WindowData) -> FragmentMerged:
    """The first merge with a partner."""
    for event in data.events:
        if isinstance(event, FragmentMerged) and event.offer is not None:
            return event
    raise NotHere


def two_steps(data: WindowData) -> tuple[StepTaken, StepTaken]:
    steps = steps_of(data)
    if len(steps) < 2:
        raise NotHere
    return steps[0], steps[1]


def _first(data: WindowData) -> ComputedMicrobatch:
    return steps_of(data)[0].microbatches[0]


def _on_first(**changes: object) -> Lie:
    return lambda _, data: with_microbatch(data, steps_of(data)[0].step, 0, **changes)


def _on_start(change: Callable[[ShardState], ShardState]) -> Lie:
    return lambda _, data: replace(data, start=change(data.start))


def _on_steps(change: Callable[[StepTaken], StepTaken | None]) -> Lie:
    return lambda _, data: with_events(data, lambda e: change(e) if isinstance(e, StepTaken) else e)


def _on_merge(change: Callable[[Harvest, FragmentMerged], Event | None]) -> Lie:
    def lie(harvest: Harvest, data: WindowData) -> WindowData:
        merged = a_merge_of(data)
        return with_events(data, lambda e: change(harvest, merged) if e is merged else e)

    return lie


# --- messages ---


def forged_request(_: Harvest, data: WindowData) -> WindowData:
    request = _first(data).request
    assert request is not None
    return _on_first(request=replace(request, signature=flipped(request.signature, 3)))(_, data)


def invented_request(harvest: Harvest, data: WindowData) -> WindowData:
    """Activations that the solver made up and signed itself, in the name of the seat below."""
    one = _first(data)
    assert one.request is not None
    mine = harvest.secrets[data.key.stage, data.key.seat]
    made_up = replace(one.request, payload=bytes(len(one.request.payload)))
    request = sign_microbatch(mine, CHAIN, harvest.spec.digest, made_up)
    return _on_first(request=request)(harvest, data)


def colluding_request(harvest: Harvest, data: WindowData) -> WindowData:
    """Activations that the seat below did sign, but after the fact."""
    one = _first(data)
    assert one.request is not None
    friend = harvest.secrets[data.key.stage - 1, one.request.source]
    payload = flipped(one.request.payload, 0)
    request = sign_microbatch(
        friend, CHAIN, harvest.spec.digest, replace(one.request, payload=payload)
    )
    return _on_first(request=request)(harvest, data)


def forged_reply(_: Harvest, data: WindowData) -> WindowData:
    reply = _first(data).reply
    assert reply is not None
    return _on_first(reply=replace(reply, signature=flipped(reply.signature, 3)))(_, data)


def scaled_reply(harvest: Harvest, data: WindowData) -> WindowData:
    """A gradient of zeros, which the solver signed itself."""
    one = _first(data)
    assert one.reply is not None
    mine = harvest.secrets[data.key.stage, data.key.seat]
    nothing = replace(one.reply, payload=bytes(len(one.reply.payload)))
    return _on_first(reply=sign_grad(mine, CHAIN, harvest.spec.digest, nothing))(harvest, data)


def another_micro_batchs_reply(_: Harvest, data: WindowData) -> WindowData:
    other = two_steps(data)[1].microbatches[0].reply
    return _on_first(reply=other)(_, data)


def reply_to_others(harvest: Harvest, data: WindowData) -> WindowData:
    """A gradient that the seat above signed, as it was, for activations that this seat did not compute."""
    one = _first(data)
    assert one.reply is not None
    above = harvest.secrets[data.key.stage + 1, one.reply.destination]
    garbage = replace(one.reply, activations=wire_digest(bytes(len(one.reply.payload))))
    return _on_first(reply=sign_grad(above, CHAIN, harvest.spec.digest, garbage))(harvest, data)


MESSAGES_FROM_BELOW: dict[str, Lie] = {
    "a forged signature on activations": forged_request,
    "activations that the solver signed itself": invented_request,
    "activations of a friend, signed later": colluding_request,
    "no activations": _on_first(request=None),
}
MESSAGES_FROM_ABOVE: dict[str, Lie] = {
    "a forged signature on a gradient": forged_reply,
    "a gradient that the solver signed itself": scaled_reply,
    "a gradient of another micro-batch": another_micro_batchs_reply,
    "a gradient for activations that were not computed": reply_to_others,
    "no gradient": _on_first(reply=None),
}


# --- steps ---


def duplicated(_: Harvest, data: WindowData) -> WindowData:
    first = _first(data)
    last = steps_of(data)[-1].step
    return with_events(
        data,
        lambda e: replace(e, microbatches=(*e.microbatches, first))
        if isinstance(e, StepTaken) and e.step == last else e,
    )  # fmt: skip


def moved(_: Harvest, data: WindowData) -> WindowData:
    """A micro-batch that is said to have been in an earlier step."""
    first, second = two_steps(data)
    one = second.microbatches[-1]

    def change(step: StepTaken) -> StepTaken:
        if step is first:
            return replace(step, microbatches=(*step.microbatches, one))
        return replace(step, microbatches=step.microbatches[:-1]) if step is second else step

    return _on_steps(change)(_, data)


def one_less(_: Harvest, data: WindowData) -> WindowData:
    first = steps_of(data)[0].step
    return _on_steps(
        lambda e: replace(e, microbatches=e.microbatches[1:]) if e.step == first else e
    )(_, data)


def skipped(_: Harvest, data: WindowData) -> WindowData:
    last = steps_of(data)[-1].step
    return _on_steps(lambda e: None if e.step == last else e)(_, data)


def swapped_steps(_: Harvest, data: WindowData) -> WindowData:
    """Two steps exchange what they counted."""
    first, second = two_steps(data)
    contents = {first.step: second.microbatches, second.step: first.microbatches}
    return _on_steps(lambda e: replace(e, microbatches=contents.get(e.step, e.microbatches)))(
        _, data
    )


def ended(_: Harvest, data: WindowData) -> WindowData:
    """A last window that says more will come."""
    if not data.is_last:
        raise NotHere
    return replace(data, is_last=False)


def dropping(_: Harvest, data: WindowData) -> WindowData:
    microbatch_id = (data.key.seat, _first(data).step, 0)
    first = steps_of(data)[0].step
    if steps_of(data)[0].dropped == (microbatch_id,):
        raise NotHere
    return _on_steps(lambda e: replace(e, dropped=(microbatch_id,)) if e.step == first else e)(
        _, data
    )


STEPS_TAKEN: dict[str, Lie] = {
    "a micro-batch twice": duplicated,
    "a micro-batch in another step": moved,
    "a micro-batch less": one_less,
    "a step that was not taken": skipped,
    "steps in another order": swapped_steps,
    "a drop that was none": dropping,
    "another segment end": ended,
    "steps under other numbers": _on_steps(lambda e: replace(e, step=e.step + 1)),
    "another window": lambda _, data: replace(
        data, key=replace(data.key, window=data.key.window + 1)
    ),
}


# --- fragments ---


def _resigned(
    harvest: Harvest, merged: FragmentMerged, seat: int, **changes: object
) -> FragmentMerged:
    """What the seat of a friend would sign for it."""
    assert merged.offer is not None
    friend = harvest.secrets[merged.offer.key.stage, seat]
    offer = sign_offer(friend, CHAIN, replace(merged.offer, **changes))
    return replace(merged, offer=offer)


def _own_offer(harvest: Harvest, merged: FragmentMerged) -> FragmentMerged:
    """Trade with oneself: the seat is not the partner's."""
    assert merged.offer is not None
    mine = 1 - merged.partner_seat
    key = replace(merged.offer.key, seat=mine)
    return replace(_resigned(harvest, merged, mine, key=key), partner_seat=mine)


def _forged_offer(_: Harvest, merged: FragmentMerged) -> FragmentMerged:
    assert merged.offer is not None
    signature = flipped(merged.offer.signature, 9)
    return replace(merged, offer=replace(merged.offer, signature=signature))


def _other_payload(harvest: Harvest, merged: FragmentMerged) -> FragmentMerged:
    """A fragment that the partner signed for this log alone."""
    payload = flipped(bytes(merged.payload), 8 * len(merged.payload) - 6)
    name = payload_digest(payload)
    return replace(
        _resigned(harvest, merged, merged.partner_seat, payload_hash=name), payload=payload
    )


def _friendly_tokens(harvest: Harvest, merged: FragmentMerged) -> FragmentMerged:
    """A weight above what follows from what the partner says; below it, a partner may always be taken."""
    if merged.weight_nano <= WEIGHT_MIN_NANO:
        raise NotHere
    return _resigned(harvest, merged, merged.partner_seat, tokens=1)


def _alone(_: Harvest, merged: FragmentMerged) -> FragmentMerged:
    return FragmentMerged(merged.exchange, -1, 0, NO_DIGEST, None)


def merge_moved(_: Harvest, data: WindowData) -> WindowData:
    merged = a_merge_of(data)
    others = [event for event in data.events if event is not merged]
    last = max(at for at, event in enumerate(data.events) if isinstance(event, StepTaken))
    before = data.events.index(merged) < last
    at = len(others) if before else last
    return replace(data, events=(*others[:at], merged, *others[at:]))


def copied_later(_: Harvest, data: WindowData) -> WindowData:
    """A second copy, right before the merge: its progress would not count."""
    merged = a_merge_of(data)
    at = data.events.index(merged)
    again = SnapshotTaken(merged.exchange)
    copied = data.events.index(again) if again in data.events[:at] else 0
    if not any(isinstance(event, StepTaken) for event in data.events[copied:at]):
        raise NotHere
    return replace(data, events=(*data.events[:at], again, *data.events[at:]))


FRAGMENTS: dict[str, Lie] = {
    "a forged signature on an offer": _on_merge(_forged_offer),
    "a partner that the beacon did not choose": _on_merge(_own_offer),
    "another weight": _on_merge(lambda _, m: replace(m, weight_nano=m.weight_nano + 1)),
    "a weight of nothing": _on_merge(lambda _, m: replace(m, weight_nano=0)),
    "tokens of a friend": _on_merge(_friendly_tokens),
    "a flipped bit of a fragment": _on_merge(
        lambda _, m: replace(m, payload=flipped(bytes(m.payload), 77))
    ),
    "a fragment signed later": _on_merge(_other_payload),
    "a merge alone that was none": _on_merge(_alone),
    "a merge that was not done": _on_merge(lambda _, __: None),
    "another payload of ours": _on_merge(
        lambda _, m: replace(m, my_payload=Digest(digest("test", b"another")))
    ),
    "a payload of ours that was not given": _on_merge(
        lambda _, m: replace(m, my_payload=NO_DIGEST)
    ),
    "a merge at another time": merge_moved,
    "a copy at another time": copied_later,
}


# --- the state ---


def _with_params(data: ShardState) -> ShardState:
    return replace(data, params_P=with_bit(data.params_P, 40))


STATES: dict[str, Lie] = {
    "a bit of a weight": _on_start(_with_params),
    "a bit of a first moment": _on_start(lambda s: replace(s, m_P=with_bit(s.m_P, 7))),
    "a bit of a second moment": _on_start(lambda s: replace(s, v_A=with_bit(s.v_A, 7))),
    "a bit of phi": _on_start(lambda s: replace(s, phi_P=with_bit(s.phi_P, 99))),
    "a bit of the outer momentum": _on_start(
        lambda s: replace(s, momentum_P=with_bit(s.momentum_P, 99))
    ),
    "another number of steps": _on_start(lambda s: replace(s, step=s.step + 1)),
    "more tokens": _on_start(lambda s: replace(s, tokens_total=s.tokens_total + 1000)),
    "other tokens at a merge": _on_start(
        lambda s: (
            replace(s, tokens_at_sync=(s.tokens_total, *s.tokens_at_sync[1:]))
            if s.tokens_at_sync[0] != s.tokens_total
            else replace(s, tokens_total=s.tokens_total + 1)
        )
    ),
    "an unknown anchor": _on_start(lambda s: replace(s, anchor_root=Digest(digest("test", b"?")))),
}


def _with_anchor(root: Digest) -> Lie:
    def lie(_: Harvest, data: WindowData) -> WindowData:
        if not any(isinstance(event, AnchorSet) for event in data.events):
            raise NotHere
        return with_events(data, lambda e: AnchorSet(root) if isinstance(e, AnchorSet) else e)

    return lie


def other_anchor(harvest: Harvest, data: WindowData) -> WindowData:
    """The anchor of an earlier round: canonical, and not the one of this commit."""
    old = next(iter(harvest.anchors[data.key.stage]))
    return _with_anchor(old)(harvest, data)


def no_anchor(_: Harvest, data: WindowData) -> WindowData:
    if not isinstance(data.events[0], AnchorSet):
        raise NotHere
    return replace(data, events=data.events[1:])


ANCHORS: dict[str, Lie] = {
    "an anchor that nobody knows": _with_anchor(Digest(digest("test", b"?"))),
    "an old anchor": other_anchor,
    "no new anchor": no_anchor,
}


# --- what friends may sign ---


def extreme(harvest: Harvest, data: WindowData, pattern: bytes) -> WindowData:
    """All that came from others is ``pattern``, over and over, and they have signed it."""
    digest_ = harvest.spec.digest

    def filled(size: int) -> bytes:
        return (pattern * (size // len(pattern) + 1))[:size]

    def change(event: Event) -> Event:
        if isinstance(event, FragmentMerged) and event.offer is not None:
            payload = filled(len(event.payload))
            if event.offer.codec is Codec.INT8:
                payload = bytes(byte & 0x7B for byte in payload)
            name = payload_digest(payload)
            signed = _resigned(harvest, event, event.partner_seat, payload_hash=name)
            return replace(signed, payload=payload)
        if not isinstance(event, StepTaken):
            return event
        listed = list[ComputedMicrobatch]()
        for one in event.microbatches:
            request, reply = one.request, one.reply
            if request is not None:
                below = harvest.secrets[data.key.stage - 1, request.source]
                made = replace(request, payload=filled(len(request.payload)))
                request = sign_microbatch(below, CHAIN, digest_, made)
            if reply is not None:
                above = harvest.secrets[data.key.stage + 1, reply.destination]
                answered = replace(reply, payload=filled(len(reply.payload)))
                reply = sign_grad(above, CHAIN, digest_, answered)
            listed.append(replace(one, request=request, reply=reply))
        return replace(event, microbatches=tuple(listed))

    return with_events(data, change)
