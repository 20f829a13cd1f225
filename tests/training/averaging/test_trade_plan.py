"""A trade is decided without a network: whom to offer to, whom to pull from, when to step alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from swarm.config.spec import NANO
from swarm.errors import UsageError
from swarm.gossip.trade.messages import Codec, FragmentKey, Offer, Receipt
from swarm.gossip.trade.outbox import NO_STANDBY, PublishedFragment
from swarm.gossip.trade.payload import FragmentPayload, ReceivedFragment, pack
from swarm.primitives.codec import replace as changed
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import small_run_spec
from swarm.training.averaging.outer_step import FragmentSnapshot
from swarm.training.averaging.payload import fragment_payload
from swarm.training.averaging.trade_plan import (
    ACKNOWLEDGE_WAIT_S,
    PARTNER_SHARE,
    Action,
    AwaitReceipt,
    Publish,
    PullFrom,
    Settle,
    TradePlan,
    outdated_keys,
)
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.record.segment import NO_PARTNER
from swarm.training.terms import standby_partners, terms_of, terms_with
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex

BASE = small_run_spec(num_stages=1, replicas_max=8)
PEERS = [SecretKey.from_seed(bytes([i]) * 32).peer for i in range(7)]
STAGE, SEAT, FRAGMENT, SIZE = StageIndex(0), 0, 1, 4
NOW, EXCHANGE_S = 100.0, 10.0
DEADLINE = NOW + EXCHANGE_S
RUN_DIGEST = Digest(digest("test", b"run"))
"""Its dice stay the same when a run's spec gets another field."""
ANCHOR, SHOWN = Digest(digest("test", b"anchor")), Digest(digest("test", b"shown"))


def a_plan(
    count: int, *, retries: int = 0, codec: str = "int8", consensus: int = -1, **last: int
) -> RoundPlan:
    """A round of a stage with ``count`` seats; ``last`` are facts of the last one."""
    outer = changed(
        BASE.outer, num_retries=retries, codec=codec, pull_only_rounds=2,
        age_weights_nano=(NANO, NANO // 2, NANO // 4),
    )  # fmt: skip
    deadlines = changed(BASE.deadlines, exchange_ms=round(EXCHANGE_S * 1000))
    spec = changed(BASE, outer=outer, deadlines=deadlines, rounds=1000)
    seats = tuple(RosterSeat(i, PEERS[i], 100) for i in range(count))
    if last:
        seats = (*seats[:-1], replace(seats[-1], **last))  # type: ignore[arg-type]
    beacon = Digest(digest("test", b"beacon"))
    return RoundPlan(
        chain=Digest(bytes(32)),
        run=RunIndex(1),
        run_digest=RUN_DIGEST,
        spec=spec,
        round=RoundIndex(9),
        beacon=beacon,
        rosters=(seats,),
        consensus=consensus,
    )


def a_snapshot() -> FragmentSnapshot:
    theta, none = torch.arange(SIZE) / 64.0, torch.zeros(SIZE)
    return FragmentSnapshot(
        exchange=FRAGMENT,
        fragment=FRAGMENT,
        theta_P=theta,
        anchor_P=torch.zeros(SIZE),
        anchor_root=ANCHOR,
        tokens=100,
        step=5,
        phi_P=theta.clone(),
        residual_P=none,
    )


def a_trade(plan: RoundPlan, seat: int = SEAT) -> TradePlan:
    return TradePlan(plan, STAGE, seat, FRAGMENT)


def received(action: Action, tokens: int = 100) -> ReceivedFragment:
    """What a pull brings."""
    assert isinstance(action, PullFrom)
    key, hashes = action.wanted.key, (NO_DIGEST, SIZE, SIZE, NO_DIGEST, b"")
    offer = Offer(key, 0, 3, tokens, Codec.INT8, ANCHOR, *hashes)
    return ReceivedFragment(offer, b"", torch.ones(SIZE))


def begun(plan: RoundPlan, seat: int = SEAT) -> tuple[TradePlan, Action]:
    trade = a_trade(plan, seat)
    assert isinstance(trade.start(a_snapshot()), Publish)
    return trade, trade.published(NOW)


def asked(action: Action) -> int:
    assert isinstance(action, PullFrom)
    return action.wanted.key.seat


def left_over(plan: RoundPlan) -> int:
    """The seat that the beacon pairs with nobody."""
    seats = range(len(plan.rosters[STAGE]))
    return next(seat for seat in seats if terms_of(plan, STAGE, seat, FRAGMENT) is None)


def test_a_seat_without_anybody_steps_alone_at_once() -> None:
    for plan, seat in ((a_plan(1), 0), (a_plan(3), left_over(a_plan(3)))):
        action = a_trade(plan, seat).start(a_snapshot())
        assert isinstance(action, Settle)
        assert (action.merge.partner, action.merge.partner_seat) == (None, NO_PARTNER)


def test_a_fragment_is_offered_to_the_drawn_partner_and_to_those_who_may_take_its_place() -> None:
    plan = a_plan(6, retries=2)
    trade, drawn = a_trade(plan), terms_of(plan, STAGE, SEAT, FRAGMENT)
    action = trade.start(a_snapshot())
    assert drawn is not None
    assert isinstance(action, Publish)
    assert action.key == FragmentKey(RunIndex(1), STAGE, FRAGMENT, RoundIndex(9), SEAT)
    assert action.partner == trade.partner == drawn.partner.peer
    assert action.standby.most == 2
    for terms in standby_partners(plan, STAGE, SEAT, FRAGMENT):
        assert action.standby.is_one(terms.partner.index, terms.partner.peer)
    assert not action.standby.is_one(SEAT, PEERS[SEAT])
    solo = a_trade(a_plan(6)).start(a_snapshot())
    assert isinstance(solo, Publish)
    assert solo.standby is NO_STANDBY


@pytest.mark.parametrize(("retries", "share"), [(0, 1.0), (2, PARTNER_SHARE)])
def test_the_drawn_partner_has_all_the_time_unless_another_may_take_its_place(
    retries: int, share: float
) -> None:
    plan = a_plan(6, retries=retries)
    drawn = terms_of(plan, STAGE, SEAT, FRAGMENT)
    _, action = begun(plan)
    assert drawn is not None
    assert asked(action) == drawn.partner.index
    assert isinstance(action, PullFrom)
    assert (action.offer_by, action.deadline) == (NOW + share * EXCHANGE_S, DEADLINE)
    assert action.wanted.to_seat == SEAT


@pytest.mark.parametrize(
    "last", [{"lag": 3}, {"joined_round": 8}, {"trails": True}, {"is_on_trial": True}]
)
def test_a_partner_that_only_receives_is_offered_to_and_not_pulled_from(
    last: dict[str, Any],
) -> None:
    trade, action = begun(a_plan(2, codec="int8", **last))
    assert trade.partner == PEERS[1]
    assert isinstance(action, Settle)
    assert action.merge.theta_hat_P is None


def test_standby_partners_are_asked_in_order_each_once_and_then_nobody() -> None:
    plan = a_plan(7, retries=2)
    trade, action = begun(plan)
    order = [terms.partner.index for terms in standby_partners(plan, STAGE, SEAT, FRAGMENT)]
    for expected in order:
        action = trade.failed(NOW + 6, ())
        assert asked(action) == expected
        assert isinstance(action, PullFrom)
        assert action.offer_by == action.deadline == DEADLINE
    assert isinstance(trade.failed(NOW + 7, ()), Settle)


def test_who_has_asked_for_our_fragment_is_asked_first() -> None:
    plan = a_plan(7, retries=2)
    order = [terms.partner.index for terms in standby_partners(plan, STAGE, SEAT, FRAGMENT)]
    trade, _ = begun(plan)
    assert asked(trade.failed(NOW + 6, [order[1]])) == order[1]
    assert asked(trade.failed(NOW + 6, [order[1]])) == order[0], "each is asked once"
    strangers = [i for i in range(7) if terms_with(plan, STAGE, SEAT, FRAGMENT, i) is None]
    trade, _ = begun(plan)
    assert asked(trade.failed(NOW + 6, strangers)) == order[0], "strangers do not count"


def test_a_seat_that_is_left_over_asks_a_standby() -> None:
    plan = a_plan(7, retries=1)
    seat = left_over(plan)
    trade, action = begun(plan, seat)
    (standby,) = standby_partners(plan, STAGE, seat, FRAGMENT)
    assert trade.partner is None
    assert asked(action) == standby.partner.index


def test_after_the_deadline_nobody_is_asked() -> None:
    trade, _ = begun(a_plan(7, retries=2))
    action = trade.failed(DEADLINE, ())
    assert isinstance(action, Settle)
    assert action.merge.partner is None


@pytest.mark.parametrize(("lag", "weight"), [(0, NANO // 2), (1, NANO // 4), (2, NANO // 8)])
def test_a_delivered_fragment_is_merged_with_the_weight_of_the_terms(lag: int, weight: int) -> None:
    trade, action = begun(a_plan(2, lag=lag))
    done = trade.delivered(NOW + 1, received(action), SHOWN)
    assert isinstance(done, Settle)
    merge = done.merge
    assert (merge.partner, merge.partner_seat, merge.weight_nano) == (PEERS[1], 1, weight)
    assert (merge.my_payload, merge.is_final_averaging) == (SHOWN, False)
    assert merge.theta_hat_P is not None
    assert torch.equal(merge.theta_hat_P, torch.ones(SIZE))


def test_what_a_standby_delivers_is_merged_as_its_own() -> None:
    plan = a_plan(7, retries=2)
    trade, _ = begun(plan)
    action = trade.failed(NOW + 6, ())
    done = trade.delivered(NOW + 7, received(action), None)
    assert isinstance(done, Settle)
    assert done.merge.partner_seat == asked(action)
    assert done.merge.my_payload == NO_DIGEST


def test_in_a_round_of_final_averaging_the_terms_of_the_butterfly_count() -> None:
    trade, action = begun(a_plan(2, consensus=0))
    done = trade.delivered(NOW + 1, received(action, tokens=10_000), None)
    assert isinstance(done, Settle)
    assert (done.merge.weight_nano, done.merge.is_final_averaging) == (NANO // 2, True)


def published(plan: RoundPlan, *, is_acknowledged: bool) -> PublishedFragment:
    """Our fragment in int4, with or without the receipt of its partner."""
    key = a_trade(plan).key
    offered: FragmentPayload = fragment_payload(plan.spec, plan.round, a_snapshot())
    packed = pack(key, offered, offered.codec)
    ours = PublishedFragment(key, offered, PEERS[1], packed={offered.codec: packed})
    if is_acknowledged:
        ours.receipt = Receipt(key, 1, packed.offer.payload_hash, b"")
    return ours


@pytest.mark.rule("T21b")
@pytest.mark.parametrize("is_delivered", [True, False])
@pytest.mark.parametrize("is_acknowledged", [True, False])
def test_a_receipt_is_awaited_for_int4_and_moves_the_residual_also_of_a_solo_step(
    is_delivered: bool, is_acknowledged: bool
) -> None:
    plan = a_plan(2, codec="int4")
    trade, action = begun(plan)
    taken = received(action)
    waits = trade.delivered(NOW + 1, taken, SHOWN) if is_delivered else trade.failed(NOW + 1, ())
    assert waits == AwaitReceipt(NOW + 1 + ACKNOWLEDGE_WAIT_S)
    ours = published(plan, is_acknowledged=is_acknowledged)
    merge = trade.acknowledged(ours if is_acknowledged else None).merge
    assert (merge.sent is not None) == is_acknowledged
    assert (merge.theta_hat_P is not None) == is_delivered
    without = SHOWN if is_delivered else NO_DIGEST
    assert merge.my_payload == (
        ours.packed[Codec.INT4].offer.payload_hash if is_acknowledged else without
    )


def test_a_receipt_is_not_awaited_past_the_deadline_nor_without_a_drawn_partner() -> None:
    plan = a_plan(2, codec="int4")
    trade, action = begun(plan)
    assert trade.delivered(DEADLINE - 1, received(action), None) == AwaitReceipt(DEADLINE)
    plan = a_plan(7, codec="int4", retries=1)
    trade, action = begun(plan, left_over(plan))
    assert isinstance(trade.delivered(NOW + 1, received(action), None), Settle)


def an_offer() -> Offer:
    ours = published(a_plan(2, codec="int4"), is_acknowledged=True)
    return ours.packed[Codec.INT4].offer


EVENTS: dict[str, Callable[[TradePlan], object]] = {
    "start": lambda trade: trade.start(a_snapshot()),
    "published": lambda trade: trade.published(NOW),
    "failed": lambda trade: trade.failed(NOW, ()),
    "delivered": lambda trade: trade.delivered(
        NOW, ReceivedFragment(an_offer(), b"", torch.ones(SIZE)), None
    ),
    "acknowledged": lambda trade: trade.acknowledged(None),
}  # fmt: skip
ORDER = {
    0: {"start"},
    1: {"published"},
    2: {"failed", "delivered"},
    3: {"acknowledged"},
    4: set[str](),
}


@pytest.mark.parametrize("done", sorted(ORDER))
def test_an_event_out_of_turn_is_refused_and_changes_nothing(done: int) -> None:
    trade = a_trade(a_plan(2, codec="int4"))
    for event in ("start", "published", "delivered", "acknowledged")[:done]:
        EVENTS[event](trade)
    for event in sorted(EVENTS.keys() - ORDER[done]):
        with pytest.raises(UsageError):
            EVENTS[event](trade)
    for event in sorted(ORDER[done])[:1]:
        EVENTS[event](trade)


# --- several trades of a fragment in a round ---


def numbers(plan: RoundPlan, exchange: int) -> set[tuple[int, int]]:
    key = FragmentKey(plan.run, STAGE, exchange, plan.round, SEAT)
    return {(one.round, one.exchange) for one in outdated_keys(plan.spec.outer, key)}


def with_trades(plan: RoundPlan, trades: int) -> RoundPlan:
    outer = changed(plan.spec.outer, fragments=2, trades_per_round=trades)
    return replace(plan, spec=changed(plan.spec, outer=outer))


def test_each_exchange_of_a_fragment_has_a_draw_of_its_own() -> None:
    plan = with_trades(a_plan(7, retries=1), 4)
    drawn = [terms_of(plan, STAGE, SEAT, exchange) for exchange in range(1, 8, 2)]
    assert len({terms and terms.partner.index for terms in drawn}) > 1
    for exchange in range(plan.exchanges):
        trade = TradePlan(plan, STAGE, SEAT, exchange)
        assert trade.key.exchange == exchange
        terms = terms_of(plan, STAGE, SEAT, exchange)
        assert trade.partner == (terms and terms.partner.peer)


def test_the_first_trades_of_a_round_have_the_partners_of_a_round_with_one() -> None:
    once, often = with_trades(a_plan(7), 1), with_trades(a_plan(7), 4)
    for fragment in range(2):
        assert terms_of(once, STAGE, SEAT, fragment) == terms_of(often, STAGE, SEAT, fragment)


@pytest.mark.rule("G11")
def test_the_fragment_of_the_trade_before_stays_on_offer_and_those_before_it_do_not() -> None:
    once = with_trades(a_plan(2), 1)
    assert numbers(once, 1) == set()
    plan = with_trades(a_plan(2), 3)
    assert numbers(plan, 1) == {(8, 1), (8, 3)}
    assert numbers(plan, 3) == {(8, 1), (8, 3), (8, 5)}
    assert numbers(plan, 4) == {(8, 0), (8, 2), (8, 4), (9, 0)}
    action = TradePlan(plan, STAGE, SEAT, 5).start(replace(a_snapshot(), exchange=5))
    assert isinstance(action, Publish)
    assert {(key.round, key.exchange) for key in action.outdated} == numbers(plan, 5)
