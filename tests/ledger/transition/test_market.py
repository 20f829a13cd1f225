"""Asks, the price of a round, and seats that change hands: in order, bounded, and out of reach of free keys."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.state.records import Run, Seat, Waiter
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transactions import Body, ChangeAsk, Join
from swarm.ledger.transition.apply import check_transaction
from swarm.ledger.transition.market import (
    CLEARING_ROUNDS,
    NOTICE_ROUNDS,
    TENURE_ROUNDS,
    clearing_price,
    undercut,
    with_ask,
)
from swarm.ledger.transition.prices import (
    SILENCE_REWARDS,
    check_pay,
    reward_max,
    segment_reward,
    silence_fine,
    solver_stake,
)
from swarm.ledger.transition.seats import (
    Standing,
    next_roster,
    seats_of,
    with_changed_seat,
    with_seat,
)
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import InMemoryLedger, make_genesis, numbered_key, small_run_spec
from swarm.types import Height, PeerId, RoundIndex

CAP = 16
SPEC = small_run_spec(price_max=CAP, rounds=60, replicas_max=3, num_stages=1)
WITH_STAKE, POOR = Standing(has_stake=True, num_good=0), Standing(has_stake=False, num_good=0)
RICH_STAKE = solver_stake(make_genesis(1, 1), SPEC)


class Market:
    """A run of one stage, of which key 0 is the owner; the others have the stake of a solver."""

    def __init__(self, num_accounts: int = 8, spec_price: int = CAP) -> None:
        ledger = InMemoryLedger(1, 1)
        accounts = [
            replace(account, stake=RICH_STAKE, balance=10_000_000)
            for account in make_genesis(num_accounts, 1).accounts
        ]
        self.ledger = ledger = InMemoryLedger(num_accounts, 1, accounts=tuple(accounts))
        self.run = ledger.open_run(replace(SPEC, price_max=spec_price), escrow=5_000_000)

    @property
    def now(self) -> Run:
        """The run as it is now."""
        return self.ledger.state.run(self.run.index)

    def key(self, number: int) -> SecretKey:
        """The key of a number."""
        return self.ledger.keys[number]

    def say(self, **bodies: Body) -> None:
        """Make a block of statements by ``k1``, ``k2`` ..."""
        signed = [self.ledger.sign(self.key(int(who[1:])), body) for who, body in bodies.items()]
        self.ledger.block(*signed)

    def join(self, **asks: int) -> None:
        """Let ``k1``, ``k2`` ... ask for seats, in one block."""
        self.say(**{who: Join(self.run.index, ask) for who, ask in asks.items()})

    def change(self, number: int, ask: int) -> None:
        """Let a peer change its ask."""
        self.say(**{f"k{number}": ChangeAsk(self.run.index, ask)})

    def refusal(self, number: int, body: Body) -> Reason:
        """Return why the next block could not hold a statement."""
        state = self.ledger.state
        with pytest.raises(InvalidStatement) as refused:
            check_transaction(state, self.ledger.sign(self.key(number), body))
        return refused.value.reason

    def round(self) -> Run:
        """Commit the round that has ended by the next boundary, for every seat, and cross that boundary."""
        round_ = self.now.next_round
        self.ledger.reach_round(self.run, round_)
        if round_:
            self.ledger.block(*self.ledger.commit_all(self.run, round_ - 1))
        return self.now

    def rounds(self, count: int) -> Run:
        """Cross some boundaries, every seat at work."""
        for _ in range(count):
            self.round()
        return self.now

    def seat(self, number: int) -> Seat | None:
        """Return the seat of a peer."""
        return next(iter(seats_of(self.now, self.key(number).peer)), None)

    def price(self) -> int:
        """Return the price of the newest round."""
        return self.now.rounds[-1].price

    def pay_of(self, number: int) -> int:
        """Return the reward of the newest segment of a peer."""
        records = [r for r in self.ledger.state.live_segments() if r.peer == self.key(number).peer]
        return max(records, key=lambda record: record.round).reward


@pytest.mark.rule("L70")
def test_a_run_that_says_nothing_pays_what_it_always_paid() -> None:
    assert small_run_spec().price_max == 1
    market = Market(spec_price=1)
    market.say(k1=Join(market.run.index), k2=Join(market.run.index))
    market.rounds(4)
    assert (market.price(), market.pay_of(1), market.pay_of(0)) == (1, 5, 5)


@pytest.mark.rule("L70")
def test_an_ask_above_what_the_run_pays_is_refused_and_names_the_most() -> None:
    market = Market()
    run = market.run.index
    assert market.refusal(1, Join(run, CAP + 1)) is Reason.PRICE
    assert market.refusal(1, Join(run, -2)) is Reason.BAD_FIELD
    assert market.refusal(1, ChangeAsk(run, 3)) is Reason.UNKNOWN_SEAT
    assert market.refusal(0, ChangeAsk(run, 3)) is Reason.WRONG_PEER
    market.join(k1=5, k2=-1)
    assert [waiter.ask for waiter in market.now.waiting] == [5, CAP]
    assert market.refusal(1, ChangeAsk(run, 5)) is Reason.DUPLICATE
    assert market.refusal(1, ChangeAsk(run, CAP + 1)) is Reason.PRICE
    assert market.refusal(2, ChangeAsk(run, -1)) is Reason.DUPLICATE, "it asks that already"


@pytest.mark.rule("L71")
def test_every_seat_of_a_round_is_paid_the_highest_ask_that_works() -> None:
    market = Market()
    market.join(k1=4, k2=9)
    market.rounds(2)
    assert market.price() == CAP, "nobody but the owner has worked yet"
    market.rounds(2)
    assert market.price() == 9
    market.rounds(2)
    assert [market.pay_of(number) for number in (1, 2)] == [segment_reward(5_000, 9)] * 2
    assert audit_supply(market.ledger.state) == market.ledger.state.supply


@pytest.mark.rule("L71")
def test_the_pay_of_a_round_never_changes_afterwards() -> None:
    market = Market()
    market.join(k1=4)
    market.rounds(4)
    assert market.price() == 4
    market.change(1, CAP)
    assert market.price() == 4, "the round has begun"
    old = market.now.next_round - 1
    body = market.ledger.commit(market.run, old, 0, 1)
    market.round()
    record = market.ledger.state.segment(body.run, body.round, body.stage, 1)
    assert (market.price(), record and record.reward) == (CAP, segment_reward(5_000, 4))


@pytest.mark.rule("L72")
def test_the_cheapest_of_the_queue_are_seated_and_equals_in_order_of_arrival() -> None:
    market = Market()
    market.join(k1=9, k2=4, k3=9, k4=2)
    market.round()
    assert [market.seat(number) is not None for number in (1, 2, 3, 4)] == [
        False,
        True,
        False,
        True,
    ]
    assert [waiter.ask for waiter in market.now.waiting] == [9, 9]


class Rosters:
    """A run of one stage and three seats as rounds go by, every seat at work; key 0 is the owner."""

    def __init__(self, *asks: int, poor: frozenset[int] = frozenset()) -> None:
        self.run = Market(2).run
        self.next = 0
        self.poor = {numbered_key(number).peer for number in poor}
        for number, ask in enumerate(asks, start=1):
            self.join(number, ask)

    @property
    def height(self) -> Height:
        """Height of the next boundary."""
        return Height(self.next * SPEC.round_blocks)

    def join(self, number: int, ask: int) -> None:
        """Put a peer in the queue."""
        self.run = replace(self.run, waiting=(*self.run.waiting, self.waiter(number, ask)))

    def waiter(self, number: int, ask: int) -> Waiter:
        """Return a peer in the queue, as of now."""
        peer = numbered_key(number).peer
        return Waiter(peer, self.height, is_volunteer=peer in self.poor, ask=ask)

    def change(self, number: int, ask: int) -> None:
        """Let a peer change its ask."""
        self.run = with_ask(self.run, numbered_key(number).peer, ask, self.height)

    def standing(self, peer: PeerId) -> Standing:
        """Every peer has the stake of a solver, but some."""
        return Standing(has_stake=peer not in self.poor, num_good=99)

    def rounds(self, count: int = 1) -> None:
        """Cross some boundaries: every seat has committed the round before the last."""
        for _ in range(count):
            at = RoundIndex(self.next)
            for seat in [s for s in self.run.seats[0] if s.joined_round <= at - 2]:
                done = replace(seat, last_commit_round=at - 2)
                self.run = with_changed_seat(self.run, done)
            run = next_roster(self.run, at, self.height, 10_000, self.standing)
            self.run = undercut(run, at, self.height, self.standing)
            self.next += 1

    @property
    def crossed(self) -> int:
        """The newest boundary."""
        return self.next - 1

    @property
    def price(self) -> int:
        """The price of the newest round."""
        return clearing_price(self.run, RoundIndex(self.crossed))

    @property
    def seated(self) -> list[int]:
        """Numbers of the peers with a seat, the owner left out."""
        numbers = {numbered_key(number).peer: number for number in range(32)}
        return sorted(numbers[seat.peer] for seat in self.run.seats[0][0:] if numbers[seat.peer])


def settled(*asks: int, poor: frozenset[int] = frozenset()) -> Rosters:
    """Peers that have held their seats as long as a tenure, just after a boundary at which seats change."""
    rosters = Rosters(*asks, poor=poor)
    rosters.rounds(TENURE_ROUNDS + CLEARING_ROUNDS + 1)
    return rosters


@pytest.mark.rule("L73")
def test_a_cheaper_peer_takes_the_dearest_seat_after_its_tenure_and_notice() -> None:
    market = Rosters(9, 12)
    market.rounds()
    market.join(3, 8)
    while 3 not in market.seated:
        market.rounds()
        assert market.next < 20
    assert market.crossed == TENURE_ROUNDS
    assert market.seated == [1, 3]
    back = market.run.waiting
    assert [(w.peer, w.ask) for w in back] == [(numbered_key(2).peer, 12)], "it may come again"
    market.rounds(3)
    assert market.price == 9


@pytest.mark.rule("L73")
def test_a_lower_ask_is_seen_before_it_takes_a_seat_and_who_answers_keeps_it() -> None:
    market = settled(9, 12)
    market.rounds(CLEARING_ROUNDS - NOTICE_ROUNDS)
    market.join(3, 8)
    market.rounds()
    assert market.seated == [1, 2], "too late for this boundary"
    market.rounds(NOTICE_ROUNDS)
    market.change(2, 8)
    market.rounds(3 * CLEARING_ROUNDS)
    assert (market.seated, market.price) == ([1, 2], 9), "8 is not lower by an eighth than 9"


@pytest.mark.rule("L73")
def test_one_seat_changes_hands_in_some_rounds_however_many_are_cheaper() -> None:
    market = settled(15, 16)
    for number in range(3, 12):
        market.join(number, 1)
    changes, before = list[int](), market.seated
    for _ in range(6 * CLEARING_ROUNDS):
        market.rounds()
        if market.seated != before:
            assert len(set(market.seated) - set(before)) == 1
            changes.append(market.crossed)
        before = market.seated
    assert len(changes) == 2, "then both are held at the lowest ask"
    assert changes[1] - changes[0] == CLEARING_ROUNDS


@pytest.mark.rule("L73")
@pytest.mark.parametrize(("ask", "is_taken"), [(8, False), (7, True)])
def test_a_penny_less_takes_no_seat(ask: int, *, is_taken: bool) -> None:
    market = settled(8, 8)
    market.join(3, ask)
    market.rounds(2 * CLEARING_ROUNDS)
    assert (3 in market.seated) is is_taken


@pytest.mark.rule("L73")
def test_asks_of_nothing_do_not_take_seats_from_each_other() -> None:
    market = settled(0, 0)
    market.join(3, 0)
    market.rounds(2 * CLEARING_ROUNDS)
    assert market.seated == [1, 2]


@pytest.mark.rule("L73")
def test_bait_and_switch_a_seat_won_by_a_low_ask_is_not_kept_at_a_high_one() -> None:
    market = Rosters(6, 1)
    market.rounds()
    market.join(3, 4)
    market.change(2, CAP)
    market.rounds(CLEARING_ROUNDS)
    assert market.seated == [1, 3], "no tenure protects an ask that rose"


@pytest.mark.rule("L73")
def test_nobody_takes_the_only_seat_of_a_stage_whose_work_has_stood() -> None:
    market = settled(9)
    assert [len(roster) for roster in market.run.seats] == [2], "the owner keeps its last seat"
    alone = tuple(seat for seat in market.run.seats[0] if seat.peer != market.run.owner)
    run = replace(market.run, seats=(alone,), waiting=(market.waiter(2, 1),))
    at, late = RoundIndex(16), Height(10_000)
    assert undercut(run, at, late, market.standing) == run
    both = replace(market.run, waiting=run.waiting)
    assert seats_of(undercut(both, at, late, market.standing), numbered_key(2).peer)


@pytest.mark.rule("L71")
def test_free_keys_and_idle_seats_and_the_owner_set_no_price() -> None:
    market = settled(5)
    run, at, more = market.run, RoundIndex(market.crossed), numbered_key(2).peer
    assert clearing_price(run, at) == 5

    def joined(standing: Standing, committed: int) -> Run:
        seated = with_seat(run, 0, more, RoundIndex(0), standing, 12)
        return with_changed_seat(seated, replace(seated.seats[0][-1], last_commit_round=committed))

    newest = at - 2
    assert clearing_price(joined(WITH_STAKE, newest), at) == 12
    assert clearing_price(joined(POOR, newest), at) == 5, "a volunteer"
    assert clearing_price(joined(WITH_STAKE, -1), at) == 5, "it has not worked yet"
    assert clearing_price(joined(WITH_STAKE, newest - 1), at) == 5, "it works no more"
    owner = with_changed_seat(run, replace(run.seats[0][0], ask=12))
    assert clearing_price(owner, at) == 5, "the owner"
    waiting = replace(run, waiting=(market.waiter(3, 0), market.waiter(4, CAP)))
    assert clearing_price(waiting, at) == 5, "the queue"


@pytest.mark.rule("L72", "L73")
def test_a_crowd_of_free_keys_that_asks_nothing_takes_no_seat_of_a_stake() -> None:
    crowd = range(20, 28)
    market = settled(9, 12, poor=frozenset(crowd))
    for number in crowd:
        market.join(number, 0)
    market.rounds(2 * CLEARING_ROUNDS)
    assert (market.seated, market.price) == ([1, 2], 12)


@pytest.mark.rule("L71")
def test_a_shill_of_the_owner_cannot_press_the_price_below_an_ask_that_works() -> None:
    market = settled(9, 12)
    market.join(7, 0)
    market.rounds()
    assert market.price == 12, "it waits, and sets nothing"
    market.rounds(2 * CLEARING_ROUNDS)
    assert (market.seated, market.price) == ([1, 7], 9), "it works, and who asks 9 is paid 9"


@pytest.mark.rule("L54", "L55", "L56")
@pytest.mark.parametrize("price", [0, 1, 5, CAP])
def test_no_price_changes_what_a_lie_or_silence_costs(price: int) -> None:
    market = Market()
    state, tokens = market.ledger.state, 5_000
    body = replace(market.ledger.commit(market.run, 0, 0, 0), tokens=tokens)
    market.round()
    market.ledger.reach_round(market.run, 1)
    market.ledger.block(market.ledger.sign(market.key(0), body))
    record = market.ledger.state.segment(body.run, body.round, body.stage, body.seat)
    assert record is not None
    record = replace(record, reward=segment_reward(tokens, price))
    lost = record.reward + silence_fine(state.params, SPEC, record)
    assert lost == SILENCE_REWARDS * reward_max(SPEC, tokens), "the same at every price"
    assert record.check_pay == check_pay(state.params, SPEC, tokens, body.num_steps)
    assert solver_stake(state.params, SPEC) == 60 * reward_max(SPEC, 12_800)
