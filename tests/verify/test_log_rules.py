"""A log passes when an honest seat could have written it, and any other is a fault of its solver."""

from collections.abc import Callable

import pytest

from swarm.errors import BadEncoding, BadSignature, BrokenPromise, OutOfTurn, PeerFault
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import replace
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.plan import RoundPlan
from swarm.training.record.window import (
    AnchorSet,
    Event,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    WindowData,
)
from swarm.training.terms import TradeTerms
from swarm.types import NO_DIGEST, Digest
from swarm.verify.log_rules import check_merge, check_window, sent_request
from tests.verify.logs import (
    ANCHOR,
    ELSEWHERE,
    MINE,
    NUMEL,
    REPLICAS,
    a_fragment,
    a_merge,
    a_reply,
    a_request,
    a_window,
    an_offer,
    partner_index,
    plan_of,
    secret,
    steps_of,
    with_events,
    with_microbatch,
)

STAGES = [(stages, stage) for stages in (1, 2, 3) for stage in range(stages)]
PLAN = plan_of(3)
STRANGER = secret(7, 0)


@pytest.mark.rule("V16")
@pytest.mark.parametrize(("stages", "stage"), STAGES)
def test_an_honest_log_passes_at_every_stage(stages: int, stage: int) -> None:
    plan = plan_of(stages)
    data = a_window(plan, stage)
    check_window(plan, data)


# --- places and order ---

Lie = Callable[[WindowData], WindowData]


def _keyed(**changes: int) -> Lie:
    return lambda data: replace(data, key=replace(data.key, **changes))


def _renumbered(data: WindowData) -> WindowData:
    return with_events(
        data, lambda e: replace(e, step=e.step + 1) if isinstance(e, StepTaken) else e
    )


def _without_step(number: int) -> Lie:
    return lambda data: with_events(
        data, lambda e: None if isinstance(e, StepTaken) and e.step == number else e
    )


def _empty_step(data: WindowData) -> WindowData:
    return with_events(
        data, lambda e: replace(e, microbatches=()) if isinstance(e, StepTaken) else e
    )


def _one_more_step(data: WindowData) -> WindowData:
    return replace(data, events=(*data.events, replace(steps_of(data)[-1], step=2)))


def _without(kind: type) -> Lie:
    return lambda data: with_events(data, lambda e: None if isinstance(e, kind) else e)


def _appended(make: Callable[[WindowData], Event]) -> Lie:
    return lambda data: replace(data, events=(*data.events, make(data)))


def _merge_of(data: WindowData) -> FragmentMerged:
    return next(event for event in data.events if isinstance(event, FragmentMerged))


ORDER: dict[str, Lie] = {
    "another run": _keyed(run=5),
    "another round": _keyed(round=6),
    "another seat": _keyed(seat=REPLICAS),
    "another stage": _keyed(stage=3),
    "a window before the first": _keyed(window=-1),
    "a later window's number": _keyed(window=1),
    "steps that begin at one": _renumbered,
    "a missing first step": _without_step(0),
    "a window cut short": _without_step(1),
    "a step of nothing": _empty_step,
    "a step too many": _one_more_step,
    "steps the wrong way round": lambda data: replace(data, events=data.events[::-1]),
    "a merge of what was not copied": _without(SnapshotTaken),
    "a merge twice": _appended(_merge_of),
    "a copy of no fragment": _appended(lambda _: SnapshotTaken(2)),
    "an anchor twice": _appended(lambda _: AnchorSet(ANCHOR)),
    "an anchor in the middle": lambda data: replace(data, events=(data.events[1], data.events[0])),
}


@pytest.mark.rule("S36", "V11")
@pytest.mark.parametrize("lie", ORDER.values(), ids=list(ORDER))
def test_a_log_out_of_place_or_order_is_refused(lie: Lie) -> None:
    with pytest.raises((OutOfTurn, BadEncoding)):
        check_window(PLAN, lie(a_window(PLAN, 1)))


@pytest.mark.rule("V11")
def test_a_later_window_begins_with_its_step() -> None:
    data = a_window(plan_of(1), 0)
    shifted = with_events(
        data, lambda e: replace(e, step=e.step + 2) if isinstance(e, StepTaken) else e
    )
    for event in shifted.events:
        assert not isinstance(event, StepTaken) or event.step >= 2
    moved = with_events(
        shifted,
        lambda e: replace(e, microbatches=tuple(replace(m, step=e.step) for m in e.microbatches))
        if isinstance(e, StepTaken) else None,
    )  # fmt: skip
    later = replace(moved, key=replace(moved.key, window=1))
    check_window(plan_of(1), later)
    with pytest.raises(OutOfTurn):
        check_window(plan_of(1), replace(later, events=(SnapshotTaken(0), *later.events)))
    with pytest.raises(OutOfTurn):
        check_window(plan_of(1), replace(later, is_last=True, events=()))


@pytest.mark.rule("V11")
def test_the_last_window_may_be_short_and_no_window_reaches_past_the_round() -> None:
    data = a_window(PLAN, 1)
    check_window(PLAN, replace(_without_step(1)(data), is_last=True))
    beyond = _keyed(window=5)(data)
    events = tuple(
        replace(event, step=event.step + 10) if isinstance(event, StepTaken) else None
        for event in data.events
    )
    kept = tuple(event for event in events if event is not None)
    with pytest.raises(OutOfTurn):
        check_window(PLAN, replace(beyond, events=kept))


# --- micro-batches ---


def _same_again(data: WindowData) -> WindowData:
    first = steps_of(data)[0].microbatches[0]
    return with_microbatch(
        data, 1, 0,
        origin=first.origin, step=first.step, microbatch=first.microbatch,
        request=first.request, reply=first.reply,
    )  # fmt: skip


@pytest.mark.rule("V12")
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_micro_batch_counts_once(stage: int) -> None:
    with pytest.raises(OutOfTurn):
        check_window(PLAN, _same_again(a_window(PLAN, stage)))


def test_a_step_holds_no_more_micro_batches_than_its_sum() -> None:
    data = a_window(plan_of(1), 0)
    many = tuple(replace(steps_of(data)[0].microbatches[0]) for _ in range(MICROBATCHES_MAX + 1))
    crowded = with_events(
        data, lambda e: replace(e, microbatches=many) if isinstance(e, StepTaken) else e
    )
    with pytest.raises(OutOfTurn, match="too many"):
        check_window(plan_of(1), crowded)


@pytest.mark.rule("V12")
@pytest.mark.parametrize(
    "changes", [{"microbatch": 2}, {"microbatch": -1}, {"step": 10}, {"step": -1}, {"origin": 0}],
    ids=str,
)  # fmt: skip
def test_an_origin_counts_its_own_micro_batches_within_the_run(changes: dict[str, int]) -> None:
    plan = plan_of(1)
    with pytest.raises((OutOfTurn, BadEncoding)):
        check_window(plan, with_microbatch(a_window(plan, 0), 0, 0, **changes))


def test_an_origin_cannot_go_back_to_an_earlier_attempt_nor_be_faster_than_its_steps() -> None:
    plan = plan_of(1)
    data = a_window(plan, 0)
    check_window(plan, with_microbatch(with_microbatch(data, 1, 0, step=7), 1, 1, step=8))
    with pytest.raises(OutOfTurn, match="over"):
        check_window(plan, with_microbatch(data, 0, 0, step=3))
    faster = with_events(
        data, lambda e: replace(e, step=e.step + 2) if isinstance(e, StepTaken) else None
    )
    with pytest.raises(OutOfTurn, match="over"):
        check_window(plan, replace(faster, key=replace(data.key, window=1)))


@pytest.mark.rule("V12")
def test_only_an_origin_drops_its_own_within_the_run() -> None:
    def dropping(stage: int, *dropped: tuple[int, int, int]) -> WindowData:
        return with_events(
            a_window(PLAN, stage),
            lambda e: (
                replace(e, dropped=dropped) if isinstance(e, StepTaken) and e.step == 1 else e
            ),
        )

    check_window(PLAN, dropping(0, (MINE, 4, 1), (MINE, 4, 0)))
    for wrong in [(0, 4, 1)], [(MINE, 10, 1)], [(MINE, -1, 1)], [(MINE, 4, 2)]:
        with pytest.raises((OutOfTurn, BadEncoding)):
            check_window(PLAN, dropping(0, *wrong))
    with pytest.raises(OutOfTurn):
        check_window(PLAN, dropping(1, (0, 4, 1)))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_side_that_is_missing_or_does_not_belong_is_refused(stage: int) -> None:
    data = a_window(PLAN, stage)
    one = steps_of(data)[0].microbatches[0]
    wrong_request = None if one.request else a_request(PLAN, 1, (MINE, 0, 0))
    wrong_reply = None if one.reply else a_reply(PLAN, 1, (MINE, 0, 0), 4)
    for changes in {"request": wrong_request}, {"reply": wrong_reply}:
        with pytest.raises(OutOfTurn):
            check_window(PLAN, with_microbatch(data, 0, 0, **changes))


FOREIGN = {
    "run": 5,
    "round": 6,
    "stage": 2,
    "destination": 0,
    "origin": 2,
    "step": 3,
    "microbatch": 1,
}


@pytest.mark.rule("V12")
@pytest.mark.parametrize(("field", "value"), FOREIGN.items(), ids=list(FOREIGN))
def test_activations_signed_for_another_place_are_refused(field: str, value: int) -> None:
    request = a_request(PLAN, 1, (0, 0, 0), **{field: value})
    with pytest.raises(PeerFault):
        check_window(PLAN, with_microbatch(a_window(PLAN, 1), 0, 0, request=request))


@pytest.mark.rule("V12")
@pytest.mark.parametrize(
    "changes",
    [{"signer": STRANGER}, {"signer": secret(0, 1)}, {"source": 1}, {"source": REPLICAS}],
    ids=["a stranger", "a seat that was not the source", "another's name", "no seat"],
)
def test_activations_must_be_signed_by_the_seat_that_they_name(changes: dict[str, object]) -> None:
    request = a_request(PLAN, 1, (0, 0, 0), **changes)
    with pytest.raises((BadSignature, OutOfTurn)):
        check_window(PLAN, with_microbatch(a_window(PLAN, 1), 0, 0, request=request))


@pytest.mark.parametrize(
    "changes",
    [{"payload": b"\x01" + bytes(2047)}, {"budget_ms": 501}, {"incarnation": 8}, {"version": 4}],
    ids=lambda changes: next(iter(changes)),
)
def test_nothing_of_signed_activations_can_be_changed(changes: dict[str, object]) -> None:
    data = a_window(PLAN, 1)
    request = steps_of(data)[0].microbatches[0].request
    assert request is not None
    with pytest.raises(BadSignature):
        check_window(PLAN, with_microbatch(data, 0, 0, request=replace(request, **changes)))


def test_activations_of_another_shape_are_refused() -> None:
    hidden = PLAN.spec.model.hidden_size
    short = a_request(PLAN, 1, (0, 0, 0), batch=1, length=3, payload=bytes(6 * hidden))
    with pytest.raises(BadEncoding):
        check_window(PLAN, with_microbatch(a_window(PLAN, 1), 0, 0, request=short))


# --- gradients ---


@pytest.mark.rule("V12")
@pytest.mark.parametrize(
    "changes",
    [
        {"run": 5}, {"round": 6}, {"stage": 1}, {"source": 0}, {"origin": 2}, {"step": 3},
        {"microbatch": 1}, {"destination": REPLICAS}, {"destination": 1}, {"tokens": 1},
        {"payload": b""}, {"loss_micro": -2}, {"signer": STRANGER}, {"signer": secret(2, 1)},
    ],
    ids=str,
)  # fmt: skip
def test_a_gradient_is_for_what_was_sent_and_from_who_got_it(changes: dict[str, object]) -> None:
    reply = a_reply(PLAN, 1, (0, 0, 0), 4, **changes)
    with pytest.raises(PeerFault):
        check_window(PLAN, with_microbatch(a_window(PLAN, 1), 0, 0, reply=reply))


@pytest.mark.parametrize(
    "field", ["incarnation", "version", "activations", "loss_micro", "payload"]
)
def test_nothing_of_a_signed_gradient_can_be_changed(field: str) -> None:
    data = a_window(PLAN, 1)
    for taken in steps_of(data):  # all alike, so that the order of versions holds
        for number, one in enumerate(taken.microbatches):
            value = getattr(one.reply, field)
            lie = value[:-1] + b"\x01" if isinstance(value, bytes) else value + 1
            reply = replace(one.reply, **{field: lie})
            data = with_microbatch(data, taken.step, number, reply=reply)
    with pytest.raises(BadSignature):
        check_window(PLAN, data)


def test_the_request_that_was_sent_has_the_shape_of_its_answer() -> None:
    for stage in (0, 1):
        data = a_window(PLAN, stage)
        one = steps_of(data)[0].microbatches[0]
        assert one.reply is not None
        sent = sent_request(PLAN, data.key, one, one.reply)
        assert len(one.reply.payload) == 2 * sent.batch * sent.length * sent.features
        assert (sent.stage, sent.source) == (stage + 1, MINE)


def _replied(data: WindowData, versions: list[int], incarnations: list[int]) -> WindowData:
    """The log of four micro-batches with other, signed numbers in its gradients."""
    for number, (version, incarnation) in enumerate(zip(versions, incarnations, strict=True)):
        step, index = divmod(number, 2)
        reply = a_reply(PLAN, 1, (0, step, index), version, incarnation=incarnation)
        data = with_microbatch(data, step, index, reply=reply)
    return data


@pytest.mark.rule("V12")
def test_later_steps_have_higher_weight_versions_and_one_incarnation() -> None:
    data, same = a_window(PLAN, 1), [9] * 4
    check_window(PLAN, _replied(data, [3, 4, 5, 7], same))
    for versions in [5, 4, 5, 5], [4, 4, 5, 4], [-1, 4, 5, 5], [4, 4, 5, 1 << 53]:
        with pytest.raises((OutOfTurn, BadEncoding)):
            check_window(PLAN, _replied(data, versions, same))
    with pytest.raises(OutOfTurn):
        check_window(PLAN, _replied(data, [4, 4, 5, 5], [9, 9, 9, 10]))


# --- fragments ---


def _merged(
    merged: FragmentMerged, *, plan: RoundPlan = PLAN, anchor: Digest = ANCHOR
) -> TradeTerms | None:
    return check_merge(plan, a_window(plan, 1).key, merged, anchor, NUMEL)


@pytest.mark.rule("V13")
@pytest.mark.parametrize("codec", [Codec.INT8, Codec.BF16])
def test_what_the_drawn_partner_signed_is_merged(codec: Codec) -> None:
    merged = a_merge(PLAN, 1, codec)
    terms = _merged(merged)
    assert terms is not None
    partner = terms.partner
    assert partner.index == merged.partner_seat == partner_index(PLAN, 1, merged.exchange)


@pytest.mark.rule("G5", "V13")
def test_the_codec_follows_from_the_round_and_both_anchors() -> None:
    other = Digest(bytes(reversed(ANCHOR)))
    _merged(a_merge(PLAN, 1, Codec.BF16), anchor=other)
    for codec, anchor in (
        (Codec.INT8, other),
        (Codec.BF16, ELSEWHERE),
        (Codec.INT4, ANCHOR),
        (Codec.INT4, other),
    ):
        with pytest.raises(BrokenPromise, match="anchor"):
            _merged(a_merge(PLAN, 1, codec), anchor=anchor)


@pytest.mark.rule("V13")
def test_a_step_alone_is_always_allowed_and_mentions_nobody() -> None:
    fragment = a_fragment(PLAN, 1)
    alone = FragmentMerged(fragment, -1, 0, NO_DIGEST, None)
    assert _merged(alone) is None
    full = a_merge(PLAN, 1)
    for changes in (
        {"weight_nano": 1},
        {"my_payload": ANCHOR},
        {"offer": full.offer},
        {"payload": b"x"},
    ):
        with pytest.raises(OutOfTurn):
            _merged(replace(alone, **changes))


@pytest.mark.rule("V13")
@pytest.mark.parametrize("seat", [0, 1, 2, REPLICAS, -2])
def test_nobody_chooses_a_partner(seat: int) -> None:
    merged = a_merge(PLAN, 1)
    if seat != merged.partner_seat:
        with pytest.raises(OutOfTurn):
            _merged(replace(merged, partner_seat=seat))


@pytest.mark.rule("V13")
def test_an_offer_of_somebody_else_to_somebody_else_or_of_something_else_is_refused() -> None:
    merged = a_merge(PLAN, 1)
    assert merged.offer is not None
    key, fragment = merged.offer.key, merged.exchange
    for changes in (
        {"key": replace(key, run=9)}, {"key": replace(key, stage=0)}, {"key": replace(key, round=4)},
        {"key": replace(key, exchange=1 - fragment)}, {"key": replace(key, seat=MINE)},
        {"signer": STRANGER}, {"tokens": -1}, {"num_bytes": 7}, {"wire_bytes": 0},
        {"wire_bytes": 1 << 20}, {"codec": Codec.BF16}, {"chunk_root": b"x"},
        {"payload_hash": ANCHOR},
    ):  # fmt: skip
        offer, payload = an_offer(PLAN, 1, fragment, Codec.INT8, **changes)
        with pytest.raises(PeerFault):
            _merged(replace(merged, offer=offer, payload=payload))
    for field in ("tokens", "step"):
        lie = replace(merged.offer, **{field: getattr(merged.offer, field) + 1})
        with pytest.raises(BadSignature):
            _merged(replace(merged, offer=lie))
    with pytest.raises(OutOfTurn):
        _merged(replace(merged, offer=None))


def test_one_flipped_bit_of_a_payload_is_always_seen() -> None:
    merged = a_merge(PLAN, 1)
    for at in range(0, 8 * len(merged.payload), 7):
        flipped = bytearray(merged.payload)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(BrokenPromise):
            _merged(replace(merged, payload=bytes(flipped)))
    for wrong in (merged.payload[:-1], bytes(merged.payload) + b"\x00", b""):
        with pytest.raises(BrokenPromise):
            _merged(replace(merged, payload=wrong))


@pytest.mark.rule("V13")
def test_nothing_is_taken_from_a_partner_that_only_pulls() -> None:
    merged = a_merge(PLAN, 1)
    young = PLAN.spec.outer.pull_only_rounds
    for joined, allowed in (0, True), (PLAN.round - young, True), (PLAN.round - young + 1, False):
        roster = tuple(replace(seat, joined_round=joined) for seat in PLAN.rosters[1])
        plan = replace(PLAN, rosters=(PLAN.rosters[0], roster, PLAN.rosters[2]))
        if allowed:
            _merged(merged, plan=plan)
        else:
            with pytest.raises(OutOfTurn, match="pulls"):
                _merged(merged, plan=plan)


@pytest.mark.rule("T18c")
def test_nothing_is_taken_from_a_partner_that_trails() -> None:
    merged = a_merge(PLAN, 1)
    roster = tuple(replace(seat, trails=True) for seat in PLAN.rosters[1])
    plan = replace(PLAN, rosters=(PLAN.rosters[0], roster, PLAN.rosters[2]))
    with pytest.raises(OutOfTurn, match="pulls"):
        _merged(merged, plan=plan)
