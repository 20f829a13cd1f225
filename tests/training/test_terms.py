"""Trainers and replayers read the same terms: with whom, whether anything may be taken, and its weight."""

from dataclasses import replace

import pytest

from swarm.config.spec import NANO
from swarm.primitives.codec import replace as changed
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import small_run_spec
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.terms import is_pull_only, is_standby, standby_partners, terms_of, terms_with
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex

SPEC = small_run_spec(num_stages=2, replicas_max=8)
AGES = (NANO, NANO // 2, NANO // 4)
SPEC = changed(SPEC, outer=changed(SPEC.outer, age_weights_nano=AGES, pull_only_rounds=2))
BEACON = Digest(digest("test", b"beacon"))
PEERS = [SecretKey.from_seed(bytes([i]) * 32).peer for i in range(8)]
STAGE = StageIndex(1)


def a_plan(count: int, consensus: int = -1, round_: int = 9, **seat: int) -> RoundPlan:
    seats = tuple(RosterSeat(i, PEERS[i], 100) for i in range(count))
    if seat:
        seats = (*seats[:-1], replace(seats[-1], **seat))  # type: ignore[arg-type]
    return RoundPlan(
        chain=Digest(bytes(32)),
        run=RunIndex(1),
        run_digest=SPEC.digest,
        spec=SPEC,
        round=RoundIndex(round_),
        beacon=BEACON,
        rosters=(seats, seats),
        consensus=consensus,
    )


@pytest.mark.parametrize("consensus", [-1, 0, 1])
def test_partners_name_each_other(consensus: int) -> None:
    plan = a_plan(4, consensus)
    for seat in range(4):
        terms = terms_of(plan, STAGE, seat, 1)
        assert terms is not None
        back = terms_of(plan, STAGE, terms.partner.index, 1)
        assert back is not None
        assert back.partner.index == seat
        assert terms.gives


@pytest.mark.rule("G21")
def test_in_a_round_of_consensus_all_fragments_have_one_partner_and_half_the_weight() -> None:
    plan = a_plan(4, 0)
    all_ = [terms_of(plan, STAGE, 0, fragment) for fragment in range(6)]
    assert len({terms.partner.index for terms in all_ if terms}) == 1
    assert {terms.due_nano(1, 10_000) for terms in all_ if terms} == {NANO // 2}
    assert terms_of(a_plan(4, 2), STAGE, 0, 0) is None, "there is no third round of four"
    assert (plan.steps_max, a_plan(4).steps_max) == (0, SPEC.inner_steps_max)


@pytest.mark.rule("G21")
def test_who_folded_in_takes_the_result_and_gives_nothing_for_it() -> None:
    last = [terms_of(a_plan(3, 2), STAGE, seat, 0) for seat in range(3)]
    weights = sorted(terms.due_nano(1, 1) for terms in last if terms)
    assert weights == [0, NANO]
    assert sorted(terms.gives for terms in last if terms) == [False, True]


@pytest.mark.rule("T18")
@pytest.mark.parametrize(("lag", "weight"), [(0, NANO // 2), (1, NANO // 4), (2, NANO // 8)])
def test_a_partner_up_to_two_rounds_behind_weighs_less(lag: int, weight: int) -> None:
    terms = terms_of(a_plan(2, lag=lag), STAGE, 0, 0)
    assert terms is not None
    assert terms.gives
    assert terms.due_nano(100, 100) == weight
    mine = terms_of(a_plan(2, lag=lag), STAGE, 1, 0)
    assert mine is not None
    assert mine.due_nano(100, 100) == NANO // 2, "whoever is behind takes all it can get"


@pytest.mark.rule("T18", "T20c")
@pytest.mark.parametrize(
    "seat",
    [{"lag": 3}, {"joined_round": 8}, {"joined_round": 9}, {"trails": True}, {"is_on_trial": True}],
)
def test_nothing_is_taken_from_who_is_behind_trails_joined_lately_or_is_on_trial(
    seat: dict[str, int],
) -> None:
    plan = a_plan(2, **seat)
    terms = terms_of(plan, STAGE, 0, 0)
    assert terms is not None
    assert not terms.gives
    assert is_pull_only(plan, plan.rosters[STAGE][1])
    assert not is_pull_only(plan, RosterSeat(0, PEERS[0], 1, joined_round=7))


@pytest.mark.parametrize("mark", ["trails", "is_on_trial"])
def test_who_trails_or_is_on_trial_takes_as_much_as_anybody(mark: str) -> None:
    plan = a_plan(2, **{mark: True})
    assert is_pull_only(plan, plan.rosters[1][1])
    terms = terms_of(plan, STAGE, 1, 0)
    assert terms is not None
    assert terms.gives
    assert terms.due_nano(50, 100) == NANO // 2


@pytest.mark.rule("T18")
def test_a_table_that_ends_earlier_ends_the_giving() -> None:
    spec = changed(SPEC, outer=changed(SPEC.outer, age_weights_nano=(NANO,)))
    plan = replace(a_plan(2, lag=1), spec=spec)
    terms = terms_of(plan, STAGE, 0, 0)
    assert terms is not None
    assert not terms.gives


def test_alone_in_a_stage_or_not_in_it_there_are_no_terms() -> None:
    assert terms_of(a_plan(1), STAGE, 0, 0) is None
    assert terms_of(a_plan(1, 0), STAGE, 0, 0) is None
    assert terms_of(a_plan(2), STAGE, 7, 0) is None


def with_retries(plan: RoundPlan, num_retries: int) -> RoundPlan:
    outer = changed(plan.spec.outer, num_retries=num_retries)
    return replace(plan, spec=changed(plan.spec, outer=outer))


@pytest.mark.rule("G29", "T18b")
@pytest.mark.parametrize("num_retries", [1, 2, 3])
def test_who_steps_in_is_known_on_both_sides_and_is_never_the_drawn_partner(
    num_retries: int,
) -> None:
    plan = with_retries(a_plan(7), num_retries)
    for fragment in range(4):
        chosen = {s: standby_partners(plan, STAGE, s, fragment) for s in range(7)}
        for seat, fallbacks in chosen.items():
            drawn = terms_of(plan, STAGE, seat, fragment)
            numbers = [terms.partner.index for terms in fallbacks]
            assert len(set(numbers)) == num_retries
            assert seat not in numbers
            assert drawn is None or drawn.partner.index not in numbers
            for other in range(7):
                back = [terms.partner.index for terms in chosen[other]]
                allowed = is_standby(plan, STAGE, fragment, seat, other, PEERS[other])
                assert allowed == (other in numbers or seat in back)
                assert allowed == is_standby(plan, STAGE, fragment, other, seat, PEERS[seat])
                terms = terms_with(plan, STAGE, seat, fragment, other)
                is_drawn = drawn is not None and drawn.partner.index == other
                assert (terms is not None) == (allowed or is_drawn)


def test_a_seat_of_another_peer_than_it_says_steps_in_for_nobody() -> None:
    plan = with_retries(a_plan(7), 6)
    assert is_standby(plan, STAGE, 0, 0, 6, PEERS[6]) or terms_of(plan, STAGE, 0, 0)
    assert not is_standby(plan, STAGE, 0, 0, 6, PEERS[5])
    assert not is_standby(plan, STAGE, 0, 0, 77, PEERS[6])
    assert terms_with(plan, STAGE, 0, 0, 77) is None
    assert terms_with(plan, STAGE, 0, 0, 0) is None


@pytest.mark.rule("T18b")
def test_without_retries_and_in_a_round_of_consensus_nobody_steps_in() -> None:
    assert standby_partners(with_retries(a_plan(7), 0), STAGE, 0, 0) == ()
    assert standby_partners(with_retries(a_plan(7, consensus=0), 3), STAGE, 0, 0) == ()
    assert standby_partners(with_retries(a_plan(2), 3), STAGE, 0, 0) == ()
    assert standby_partners(with_retries(a_plan(7), 3), STAGE, 99, 0) == ()


def test_nobody_asks_a_seat_that_only_pulls_but_it_may_ask_others() -> None:
    plan = with_retries(a_plan(4, joined_round=9), 3)
    for seat in range(3):
        assert 3 not in [terms.partner.index for terms in standby_partners(plan, STAGE, seat, 0)]
    asked = standby_partners(plan, STAGE, 3, 0)
    assert asked
    assert all(terms.gives for terms in asked)
    back = terms_with(plan, STAGE, asked[0].partner.index, 0, 3)
    assert back is not None
    assert not back.gives


@pytest.mark.rule("T18b")
def test_who_steps_in_weighs_by_tokens_and_age_like_anybody() -> None:
    plan = with_retries(a_plan(3, lag=1), 2)
    drawn = terms_of(plan, STAGE, 2, 0)
    others = {0, 1} - ({drawn.partner.index} if drawn else set())
    other = others.pop()
    terms = terms_with(plan, STAGE, other, 0, 2)
    assert terms is not None
    assert terms.due_nano(100, 100) == NANO // 4
