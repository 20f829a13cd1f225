"""Only the drawn can check, the dice are fair, and who is close to the solver is not drawn."""

from collections import Counter

import pytest

from swarm.config.spec import NANO, CheckSpec
from swarm.errors import BadSignature, InvalidStatement, Reason
from swarm.ledger.check_statements import DataRequest
from swarm.ledger.state.draws import Draw
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import Stake, Unstake
from swarm.ledger.transition.prices import solver_stake
from swarm.ledger.transition.runs import round_info
from swarm.ledger.transition.sampling import (
    check_eligible,
    deal_windows,
    draw_probability,
    is_drawn,
    num_windows,
    partners_of,
    prove_draw,
    redraw_blocks,
)
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import STAKE, numbered_key, small_run_spec
from swarm.types import Amount, Digest, Height, PeerId
from tests.ledger.checking import EXACT, a_case


def test_windows_and_redraws_are_counted_in_whole_steps_and_blocks() -> None:
    assert [num_windows(steps, 10) for steps in (1, 10, 11, 50)] == [1, 1, 2, 5]
    assert [redraw_blocks(small_run_spec(round_blocks=n)) for n in (3, 6, 150)] == [3, 3, 75]


@pytest.mark.rule("L35")
def test_on_average_twice_the_probability_is_drawn() -> None:
    case = a_case(num_steps=40)
    chain, peers, attempts, drawn = case.ledger.state.chain, 10, 20, 0
    stake = Amount(7_000)
    record = replace(case.record, probability_nano=NANO // 2)
    for attempt in range(attempts):
        draw = Draw(Height(9), Digest(bytes([attempt]) * 32), Amount(peers * stake))
        for key in (numbered_key(100 + i) for i in range(peers)):
            drawn += is_drawn(chain, draw, record, key.peer, stake, prove_draw(key, chain, draw))
    assert 11 <= drawn <= 31, "20 expected"


@pytest.mark.rule("L118")
@pytest.mark.parametrize(
    ("windows", "verifiers"), [(1, 4), (2, 3), (3, 4), (4, 4), (256, 4), (4, 0)]
)
def test_windows_are_dealt_evenly_and_each_alike_to_each(windows: int, verifiers: int) -> None:
    record, deals = a_case().record, 400
    seen = Counter[tuple[int, int]]()
    for number in range(deals):
        beacon = digest("deal", number.to_bytes(2, "big"))
        dealt = deal_windows(beacon, record, windows, verifiers)
        assert dealt == deal_windows(beacon, record, windows, verifiers)
        assert len(dealt) == verifiers
        held = Counter(dealt)
        assert all(0 <= window < windows for window in held)
        least, rest = divmod(verifiers, windows)
        assert sorted(held.values())[-1:] == [least + (rest > 0)] * (verifiers > 0)
        assert sum(number > least for number in held.values()) == rest
        seen.update(enumerate(dealt))
    if windows <= 4:
        for place in range(verifiers):
            for window in range(windows):
                assert seen[place, window] == pytest.approx(deals / windows, abs=60)


@pytest.mark.rule("L118")
def test_each_segment_has_a_deal_of_its_own() -> None:
    record, beacon = a_case().record, Digest(bytes(32))
    others = [replace(record, round=round_) for round_ in range(20)]
    others += [replace(record, end_root=record.start_root)]
    assert len({deal_windows(beacon, other, 256, 4) for other in others}) == len(others)


@pytest.mark.rule("L35")
def test_a_stake_in_many_accounts_is_drawn_as_often_as_in_one() -> None:
    """And one with most of the stake is certain: q = 1 draws whoever holds half of it."""
    case = a_case()
    chain, total = case.ledger.state.chain, Amount(100)
    key = numbered_key(3)
    drawn = dict.fromkeys((1, 10, 49, 50, 99), 0)
    for attempt in range(100):
        draw = Draw(Height(9), Digest(bytes([attempt]) * 32), total)
        proof = prove_draw(key, chain, draw)
        for stake in drawn:
            is_mine = is_drawn(chain, draw, case.record, key.peer, Amount(stake), proof)
            drawn[stake] += is_mine
    assert drawn[50] == drawn[99] == 100
    assert abs(drawn[10] - 20) < 15
    assert drawn[1] < 10


@pytest.mark.rule("L35", "L57")
def test_a_volunteers_segment_is_always_drawn_for() -> None:
    case = a_case()
    chain, key = case.ledger.state.chain, numbered_key(3)
    spec = replace(EXACT, checks=CheckSpec(0, 10, 120))
    draw = Draw(Height(9), Digest(bytes(32)), Amount(2))
    proof = prove_draw(key, chain, draw)
    for is_volunteer in (False, True):
        nano = draw_probability(spec, is_volunteer=is_volunteer, stake=5, reward_max=5)
        record = replace(case.record, probability_nano=nano)
        found = is_drawn(chain, draw, record, key.peer, Amount(1), proof)
        assert found is is_volunteer


@pytest.mark.rule("L88")
def test_a_volunteer_with_nothing_to_lose_has_four_times_as_many_verifiers_drawn() -> None:
    spec = replace(EXACT, checks=CheckSpec(NANO // 3, 10, 120))
    found = [
        draw_probability(spec, is_volunteer=is_volunteer, stake=stake, reward_max=5)
        for is_volunteer, stake in ((True, 0), (True, 4), (True, 5), (False, 0))
    ]
    assert found == [4 * NANO, 4 * NANO, NANO, NANO // 3]


@pytest.mark.parametrize(("probability", "total", "wanted"), [(0, 1, False), (NANO, 2, True)])
def test_certain_dice_are_certain(probability: int, total: int, wanted: bool) -> None:
    case = a_case()
    chain, key = case.ledger.state.chain, case.ledger.keys[3]
    draw = Draw(Height(9), Digest(bytes(32)), Amount(total))
    proof = prove_draw(key, chain, draw)
    record = replace(case.record, probability_nano=probability)
    assert is_drawn(chain, draw, record, key.peer, Amount(1), proof) is wanted


@pytest.mark.rule("L35")
def test_a_proof_is_worth_nothing_for_another_peer_or_throw() -> None:
    case = a_case()
    case.draw_verifiers()
    chain, key, record = case.ledger.state.chain, case.ledger.keys[2], case.record
    draw = record.draws[0]
    proof = prove_draw(key, chain, draw)
    is_drawn(chain, draw, record, key.peer, STAKE, proof)
    for wrong in (
        (draw, case.ledger.keys[3].peer),
        (replace(draw, beacon=Digest(bytes(32))), key.peer),
    ):
        with pytest.raises(BadSignature):
            is_drawn(chain, wrong[0], record, wrong[1], STAKE, proof)


@pytest.mark.rule("L35")
def test_one_proof_throws_other_dice_for_every_segment() -> None:
    case = a_case(num_steps=40)
    case.draw_verifiers()
    chain, key, record = case.ledger.state.chain, case.ledger.keys[2], case.record
    draw = record.draws[0]
    proof = prove_draw(key, chain, draw)
    record = replace(record, probability_nano=NANO // 4)
    other = replace(record, end_root=record.start_root)
    found, ends = (
        [
            is_drawn(chain, draw, replace(one, round=round_), key.peer, STAKE, proof)
            for round_ in range(60)
        ]
        for one in (record, other)
    )
    assert {True, False} == set(found)
    assert found != ends, "where a segment ended is in the dice"


@pytest.mark.rule("L35")
def test_the_dice_are_of_the_block_after_the_delay_and_count_who_is_able() -> None:
    case = a_case(num_accounts=12)
    committed = case.record.height
    case.draw_verifiers()
    state = case.ledger.state
    assert state.height == committed + state.params.beacon_delay
    assert case.record.draws == (Draw(state.height, state.beacon, Amount(len(case.able) * STAKE)),)
    assert len(case.able) == 10, "neither the solver nor its one partner"


@pytest.mark.rule("L37")
def test_only_who_is_drawn_may_ask() -> None:
    case = a_case(num_accounts=17, num_steps=40)
    case.draw_verifiers()
    state, took = case.ledger.state, 0
    for key in case.able:
        body = case.claimed.request(state, key)
        if body is not None:
            assert case.refused(key, replace(body, proof=bytes(80))) is Reason.BAD_PROOF
            took += 1
            continue
        proof = prove_draw(key, state.chain, case.record.draws[0])
        c = case.claimed.commit
        undrawn = DataRequest(
            run=c.run, round=c.round, stage=c.stage, seat=c.seat, attempt=0, proof=proof
        )
        assert case.refused(key, undrawn) is Reason.WRONG_PEER
    assert 0 < took < len(case.able)


@pytest.mark.rule("L36")
def test_the_solver_its_partners_and_those_without_stake_are_out() -> None:
    case = a_case()
    case.draw_verifiers()
    record, state = case.record, case.ledger.state
    assert record.partners == (case.ledger.keys[0].peer,)
    for number, reason in ((0, Reason.WRONG_PEER), (1, Reason.WRONG_PEER), (20, Reason.STAKE)):
        with pytest.raises(InvalidStatement) as caught:
            check_eligible(state, record, EXACT, case.ledger.keys[number].peer)
        assert caught.value.reason is reason


@pytest.mark.rule("L36")
def test_a_stake_that_grew_since_the_commit_or_is_too_small_checks_nothing() -> None:
    case = a_case(num_accounts=5, num_validators=4)
    key, least = case.ledger.keys[4], solver_stake(case.ledger.state.params, EXACT)
    assert check_eligible(case.ledger.state, case.record, EXACT, key.peer) == STAKE
    case.submit(key, Unstake(Amount(STAKE - least)))
    assert check_eligible(case.ledger.state, case.record, EXACT, key.peer) == least, "less is fine"
    case.submit(key, Stake(Amount(1)))
    with pytest.raises(InvalidStatement, match="grew since") as caught:
        check_eligible(case.ledger.state, case.record, EXACT, key.peer)
    assert caught.value.reason is Reason.STAKE
    case.submit(key, Unstake(Amount(2)))
    with pytest.raises(InvalidStatement, match="719 where a verifier has 720"):
        check_eligible(case.ledger.state, case.record, EXACT, key.peer)
    assert case.ledger.state.globals.staked == 4 * STAKE + least - 1


def test_partners_are_the_same_for_both_and_never_oneself() -> None:
    case = a_case()
    info = round_info(case.run, 1)
    assert info is not None
    spec, name = case.run.spec, case.run.spec_digest
    assert partners_of(info, spec, name, 0, 0) == (case.ledger.keys[1].peer,)
    assert partners_of(info, spec, name, 0, 1) == (case.ledger.keys[0].peer,)
    assert partners_of(info, spec, name, 1, 0) == (), "alone in its stage"


@pytest.mark.rule("L36")
def test_partners_of_further_trades_of_a_round_may_check_it() -> None:
    """Over many trades a seat meets its whole stage: those of the first are out, as with one trade a round."""
    case = a_case()
    info = round_info(case.run, 1)
    assert info is not None
    roster = tuple(
        replace(info.seats[0][0], index=i, peer=PeerId(bytes([i]) * 32)) for i in range(9)
    )
    wide = replace(info, seats=(roster, *info.seats[1:]))
    spec, name = case.run.spec, case.run.spec_digest
    often = replace(spec, outer=replace(spec.outer, trades_per_round=32))
    for seat in range(9):
        partners = partners_of(wide, often, name, 0, seat)
        assert partners == partners_of(wide, spec, name, 0, seat)
        assert len(partners) <= spec.outer.fragments


@pytest.mark.rule("L35", "L39")
def test_dice_are_thrown_three_times_then_the_segment_is_paid_unchecked_if_it_is_shown() -> None:
    case = a_case()
    state, height = case.ledger.state, case.record.height
    solver, before = case.solver, case.balance(case.solver)
    case.wait(SegmentPhase.SEALED)
    delay, pause = state.params.beacon_delay, redraw_blocks(EXACT)
    delays = [draw.height - height for draw in case.record.draws]
    assert delays == [delay, delay + pause, delay + 2 * pause]
    assert case.ledger.state.height - height == delay + 3 * pause
    case.submit(solver, case.claimed.reveal())
    assert case.is_now(SegmentPhase.UNSAMPLED)
    assert case.balance(solver) - before >= case.record.reward == 5
    assert case.ledger.state.contribution(case.run.index, solver.peer).earned == 5


@pytest.mark.rule("L37")
def test_each_throw_has_its_own_dice_and_an_older_one_still_counts() -> None:
    case = a_case(num_accounts=20)
    case.draw_verifiers()
    early = [key for key in case.able if case.claimed.request(case.ledger.state, key) is not None]
    case.draw_verifiers()
    late = [key for key in case.able if case.claimed.request(case.ledger.state, key, 1) is not None]
    assert early != late
    body = case.claimed.request(case.ledger.state, late[0], 1)
    assert body is not None
    assert case.refused(late[0], replace(body, attempt=2)) is Reason.WRONG_PHASE
    assert case.ask(early[:1]).keys() == {early[0].peer}
    assert case.is_now(SegmentPhase.SAMPLED)
