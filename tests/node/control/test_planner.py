"""What is due follows from the ledger and from what is under way, and nothing is asked for twice."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace as Some
from typing import Any

import msgspec
import pytest

from swarm.config.load import parse_run_file, run_spec
from swarm.config.spec import DataSpec
from swarm.ledger.state.records import (
    NO_ROLLBACK,
    CheckPhase,
    Checkpoint,
    RoundInfo,
    Run,
    RunPhase,
    Seat,
    SegmentPhase,
    Waiter,
)
from swarm.node.control.planner import (
    FEES_KEPT,
    AskToJoin,
    BeginRound,
    CloseRound,
    FetchCheckpoint,
    LeaveSeat,
    LocalSeat,
    NodeView,
    OfferToValidate,
    PostCheckpoint,
    StakePosition,
    StateAsk,
    TakeSeat,
    TopUpStake,
    TradeFragment,
    ValidatorPosition,
    exchange_height,
    guarded_stages,
    is_accused,
    may_be_drawn,
    plan_actions,
)
from swarm.primitives.codec import encode
from swarm.types import NO_DIGEST, Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex

PEERS = [PeerId(bytes([number]) * 32) for number in range(6)]
ME, OTHER = PEERS[0], PEERS[1]
BEACON = Digest(b"\7" * 32)


def a_seat(peer: PeerId, index: int, stage: int = 0, joined: int = 0) -> Seat:
    return Seat(
        stage=StageIndex(stage),
        index=index,
        peer=peer,
        joined_round=RoundIndex(joined),
        last_commit_round=-1,
        last_end_root=NO_DIGEST,
        last_tokens=0,
        is_volunteer=False,
        last_verified_round=-1,
        is_on_trial=False,
        ask=1,
        seated_ask=1,
    )


def an_info(*rosters: tuple[Seat, ...], round_: int = 3, drawn: tuple[int, ...] = ()) -> RoundInfo:
    return RoundInfo(
        round=RoundIndex(round_),
        height=Height(100),
        beacon=BEACON,
        seats=rosters,
        drawn=drawn or (-1,) * len(rosters),
        consensus=-1,
        price=1,
    )


def replace_info(info: RoundInfo, **changes: object) -> RoundInfo:
    parts: dict[str, Any] = {name: getattr(info, name) for name in info.__struct_fields__}
    return RoundInfo(**parts | changes)


def a_run(*infos: RoundInfo, waiting: tuple[Waiter, ...] = ()) -> Run:
    file = parse_run_file("", "test.toml")
    spec = run_spec(
        file,
        data=DataSpec("bytes", NO_DIGEST, 1000, NO_DIGEST, 1000),
    )
    rosters = infos[-1].seats if infos else ((), ())
    return Run(
        index=RunIndex(1),
        owner=OTHER,
        spec=spec,
        spec_digest=spec.digest,
        escrow=Amount(0),
        opened_height=Height(1),
        start_height=Height(3),
        start_round=RoundIndex(0),
        end_round=RoundIndex(spec.rounds),
        consensus_rounds=0,
        phase=RunPhase.TRAINING,
        is_pausing=False,
        paused_height=Height(0),
        waiting=waiting,
        leaving=(),
        seats=rosters,
        next_seats=(9,) * len(rosters),
        rounds=infos,
        checkpoints=((),) * len(rosters),
        rollbacks=(NO_ROLLBACK,) * len(rosters),
        num_segments=0,
        tokens=0,
    )


def copied(run: Run, **changes: object) -> Run:
    """A run with some fields changed."""
    parts: dict[str, Any] = {name: getattr(run, name) for name in run.__struct_fields__}
    return Run(**parts | changes)


def a_stake_position(
    balance: int = 0, stake: int = 0, wanted: int = 0, **changes: bool
) -> StakePosition:
    parts = {"is_staking": False, "is_accused": False, "is_barred": False, **changes}
    return StakePosition(Amount(balance), Amount(stake), wanted, fee=Amount(2), **parts)


def a_validator_position(**changes: bool) -> ValidatorPosition:
    parts = {"wants": False, "is_candidate": False, "is_able": True, "is_offering": False}
    return ValidatorPosition(**parts | changes)


def knowledge(run: Run, *seats: LocalSeat, height: int = 100, **changes: object) -> NodeView:
    known = NodeView(
        me=ME,
        run=run,
        height=Height(height),
        is_solver=True,
        is_archive=False,
        is_joining=False,
        seats=seats,
        trades_begun=frozenset(),
        commits_final=frozenset(),
        closed=frozenset(),
        checkpoints_posted=frozenset(),
        checkpoints_held=frozenset(),
        stake_position=a_stake_position(),
        validator_position=a_validator_position(),
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def a_local(round_: int | None = 3, *, is_ready: bool = True) -> LocalSeat:
    index = None if round_ is None else RoundIndex(round_)
    return LocalSeat(StageIndex(0), 0, index, is_ready=is_ready)


TWO = ((a_seat(ME, 0), a_seat(OTHER, 1)), (a_seat(OTHER, 0, stage=1),))
ALONE = ((a_seat(OTHER, 0),), (a_seat(OTHER, 0, stage=1),))


@pytest.mark.rule("N1")
def test_a_solver_without_a_seat_asks_for_one_once() -> None:
    run = a_run(an_info(*ALONE))
    assert plan_actions(knowledge(run)) == [AskToJoin()]
    assert plan_actions(knowledge(run, is_joining=True)) == []
    waiter = Waiter(ME, Height(1), is_volunteer=True, ask=1)
    assert plan_actions(knowledge(a_run(an_info(*ALONE), waiting=(waiter,)))) == []
    assert plan_actions(knowledge(run, is_solver=False)) == []


@pytest.mark.rule("N1")
def test_a_seat_on_the_roster_is_taken_then_begun_then_left() -> None:
    info = an_info(*TWO)
    run = a_run(info)
    assert plan_actions(knowledge(run)) == [TakeSeat(TWO[0][0], info)]
    assert plan_actions(knowledge(run, a_local(None, is_ready=False))) == []
    assert plan_actions(knowledge(run, a_local(None))) == [BeginRound(StageIndex(0), 0, info)]
    assert plan_actions(knowledge(run, a_local(2))) == [BeginRound(StageIndex(0), 0, info)]
    gone = a_run(an_info(*ALONE), waiting=(Waiter(ME, Height(1), is_volunteer=False, ask=1),))
    assert plan_actions(knowledge(gone, a_local())) == [LeaveSeat(StageIndex(0), 0)]


@pytest.mark.rule("N3")
def test_a_segment_that_was_closed_is_never_trained_again() -> None:
    """After a restart the ledger on disk may be a round behind what this node has signed."""
    info = an_info(*TWO)
    closed = frozenset([(StageIndex(0), 0, info.round)])
    assert plan_actions(knowledge(a_run(info), a_local(None), closed=closed)) == []
    later = an_info(*TWO, round_=4)
    due = [BeginRound(StageIndex(0), 0, later)]
    assert plan_actions(knowledge(a_run(later), a_local(None), closed=closed)) == due


def test_a_finished_run_is_left_and_nothing_is_traded() -> None:
    run = a_run(an_info(*TWO, round_=500))
    over = plan_actions(knowledge(run, a_local(499), height=10_000))
    assert over == [LeaveSeat(StageIndex(0), 0)]


@pytest.mark.rule("N1")
def test_fragments_are_traded_at_their_heights_and_once() -> None:
    info = an_info(*TWO)
    run = a_run(info)
    fragments, blocks = run.spec.outer.fragments, run.spec.round_blocks
    heights = [exchange_height(info, f, fragments, blocks) for f in range(fragments)]
    assert heights == sorted(set(heights))
    assert info.height < heights[0]
    assert heights[-1] < info.height + blocks
    first = plan_actions(knowledge(run, a_local(), height=heights[0]))
    assert [type(duty) for duty in first] == [TradeFragment]
    begun = frozenset([(StageIndex(0), 0, RoundIndex(3), 0)])
    assert plan_actions(knowledge(run, a_local(), height=heights[0], trades_begun=begun)) == []


def with_trades(run: Run, trades: int, *, round_blocks: int) -> Run:
    outer = msgspec.structs.replace(run.spec.outer, trades_per_round=trades)
    spec = msgspec.structs.replace(run.spec, outer=outer, round_blocks=round_blocks)
    return copied(run, spec=spec)


@pytest.mark.rule("N12a")
@pytest.mark.parametrize(("trades", "round_blocks"), [(2, 20), (3, 12), (7, 10), (32, 35)])
def test_exchanges_are_spread_over_a_round_and_those_of_a_fragment_never_meet(
    trades: int, round_blocks: int
) -> None:
    info = an_info(*TWO)
    outer = with_trades(a_run(info), trades, round_blocks=round_blocks).spec.outer
    heights = [
        exchange_height(info, exchange, outer.exchanges, round_blocks)
        for exchange in range(outer.exchanges)
    ]
    assert heights == sorted(heights)
    assert info.height < heights[0]
    assert heights[-1] <= info.height + round_blocks - 3
    for fragment in range(outer.fragments):
        own = heights[fragment :: outer.fragments]
        assert len(set(own)) == trades
        assert max(b - a for a, b in pairwise(own)) <= min(b - a for a, b in pairwise(own)) + 1


def exchanges_due(run: Run, height: int, **known: object) -> list[int]:
    duties = plan_actions(knowledge(run, a_local(), height=height, **known))
    return [duty.exchange for duty in duties if isinstance(duty, TradeFragment)]


@pytest.mark.rule("N12a")
def test_a_later_exchange_waits_for_the_one_before_and_one_whose_time_is_over_is_left_out() -> None:
    info = an_info(*TWO)
    run = with_trades(a_run(info), 3, round_blocks=21)
    fragments, exchanges = run.spec.outer.fragments, run.spec.outer.exchanges

    def height(exchange: int) -> int:
        return exchange_height(info, exchange, exchanges, 21)

    def keys(*begun: int) -> frozenset[tuple[StageIndex, int, RoundIndex, int]]:
        return frozenset((StageIndex(0), 0, RoundIndex(3), exchange) for exchange in begun)

    first, last = range(fragments), exchanges - 1
    assert exchanges_due(run, height(0)) == [0]
    # A node that is late begins the newest of each fragment: partners of the earlier ones have gone on.
    assert exchanges_due(run, height(last)) == list(range(exchanges - fragments, exchanges))
    # The second trade of fragment 0 is due while its first is open, then settled.
    now = height(fragments)
    assert exchanges_due(run, now, trades_begun=keys(*first), trades_open=keys(0)) == []
    assert exchanges_due(run, now, trades_begun=keys(*first)) == [fragments]
    assert exchanges_due(run, now, trades_begun=keys(*first, fragments)) == []
    # Those of other seats and rounds hold nothing back.
    other = frozenset([(StageIndex(0), 0, RoundIndex(2), 0), (StageIndex(0), 1, RoundIndex(3), 0)])
    assert exchanges_due(run, now, trades_begun=keys(*first), trades_open=other) == [fragments]


@pytest.mark.rule("N12a")
def test_a_round_of_final_averaging_trades_every_fragment_once() -> None:
    info = replace_info(an_info(*TWO), consensus=0)
    run = with_trades(a_run(info), 3, round_blocks=20)
    assert exchanges_due(run, info.height + 20) == list(range(run.spec.outer.fragments))


@pytest.mark.rule("N7")
def test_a_drawn_seat_posts_once_its_segment_is_final() -> None:
    info = an_info(*TWO, drawn=(0, -1))
    run = a_run(info)
    assert plan_actions(knowledge(run, a_local())) == []
    final = frozenset([(StageIndex(0), 0, RoundIndex(2))])
    due = PostCheckpoint(StageIndex(0), 0, RoundIndex(3))
    assert plan_actions(knowledge(run, a_local(), commits_final=final)) == [due]
    posted = frozenset([(StageIndex(0), RoundIndex(3))])
    known = knowledge(run, a_local(), commits_final=final, checkpoints_posted=posted)
    assert plan_actions(known) == []


@pytest.mark.rule("N7")
def test_a_checkpoint_is_posted_also_after_the_seat_was_left_and_never_too_late() -> None:
    """The last boundary draws from those who leave at it."""
    end = an_info(*TWO, round_=500, drawn=(0, -1))
    run = a_run(end)
    assert run.final_round == 500
    final = frozenset([(StageIndex(0), 0, RoundIndex(499))])
    due = PostCheckpoint(StageIndex(0), 0, RoundIndex(500))
    last = end.height + 2 * run.spec.round_blocks - 1
    assert plan_actions(knowledge(run, commits_final=final, height=last)) == [due]
    assert plan_actions(knowledge(run, commits_final=final, height=last + 1)) == []
    kept = (
        (
            Checkpoint(
                round=RoundIndex(500),
                phi_root=BEACON,
                phi_bytes=4,
                peer=ME,
                seat=0,
                height=Height(90),
                is_void=False,
            ),
        ),
        (),
    )
    held = frozenset([(StageIndex(0), RoundIndex(500))])
    posted = copied(run, checkpoints=kept)
    known = knowledge(posted, commits_final=final, height=last, checkpoints_held=held)
    assert plan_actions(known) == []


@pytest.mark.rule("N10")
def test_a_seat_rests_while_its_run_does() -> None:
    """What is open is closed and committed; nothing is begun or traded until the next boundary."""
    for phase in (RunPhase.PAUSED, RunPhase.OPEN):
        run = copied(a_run(an_info(*TWO)), phase=phase)
        resting = knowledge(run, replace(a_local(), is_open=True), height=10_000)
        assert plan_actions(resting) == [CloseRound(StageIndex(0), 0)]
        assert plan_actions(knowledge(run, a_local(), height=10_000)) == []
        assert plan_actions(knowledge(run, a_local(None), height=10_000)) == []


@pytest.mark.rule("N1")
def test_rounds_of_final_averaging_are_begun_and_traded_and_the_last_is_left() -> None:
    one, other = a_seat(ME, 0), a_seat(OTHER, 1)
    rosters = ((one, other), (a_seat(PEERS[2], 0, stage=1),))
    end = a_run().end_round
    info = replace_info(an_info(*rosters, round_=end), consensus=0)
    run = copied(a_run(info), consensus_rounds=1, phase=RunPhase.COOLING)
    begun = plan_actions(knowledge(run, a_local(end - 1)))
    assert [type(duty) for duty in begun] == [BeginRound]
    trades = plan_actions(knowledge(run, a_local(end), height=10_000))
    assert {type(duty) for duty in trades} == {TradeFragment}
    over = a_run(an_info(*rosters, round_=end + 1))
    over = copied(over, consensus_rounds=1, phase=RunPhase.FINISHED)
    assert plan_actions(knowledge(over, a_local(end))) == [LeaveSeat(StageIndex(0), 0)]


@pytest.mark.rule("N7")
def test_phi_is_held_until_the_draw_or_the_ledger_asks_for_it_no_more() -> None:
    run = a_run(an_info(*TWO, drawn=(0, -1)))

    def is_held(round_: int, *, run: Run = run, index: int = 0, height: int = 4) -> bool:
        return may_be_drawn(run, height, StageIndex(0), index, RoundIndex(round_))

    assert is_held(2)
    assert is_held(3)  # the beacon has not drawn yet
    assert not is_held(2, index=1)
    assert not is_held(2, height=100 + 2 * run.spec.round_blocks)
    assert is_held(3, run=copied(run, phase=RunPhase.PAUSED), height=100_000), "however long"
    assert not is_held(500)
    assert not is_held(2, run=copied(run, phase=RunPhase.SETTLED, rounds=()))


@pytest.mark.rule("N8")
def test_checkpoints_are_fetched_for_my_stage_and_the_one_behind_it_and_all_by_archives() -> None:
    """A stage that loses all its peers is built again from what those of another hold."""
    kept = tuple(
        (
            Checkpoint(
                round=RoundIndex(2),
                phi_root=Digest(bytes([s]) * 32),
                phi_bytes=4,
                peer=OTHER,
                seat=0,
                height=Height(90),
                is_void=False,
            ),
        )
        for s in range(3)
    )
    third = (a_seat(PEERS[2], 0, stage=2),)
    run = copied(a_run(an_info(*TWO, third)), checkpoints=kept)
    mine = plan_actions(knowledge(run, a_local()))
    assert mine == [FetchCheckpoint(StageIndex(stage), kept[stage][0]) for stage in (0, 1)]
    every = plan_actions(knowledge(run, a_local(), is_archive=True))
    assert [duty.stage for duty in every if isinstance(duty, FetchCheckpoint)] == [0, 1, 2]
    held = frozenset([(StageIndex(stage), RoundIndex(2)) for stage in (0, 1)])
    assert plan_actions(knowledge(run, a_local(), checkpoints_held=held)) == []
    assert guarded_stages({StageIndex(2)}, 3) == {0}
    assert guarded_stages({StageIndex(0)}, 1) == {0}
    assert encode(run)


@pytest.mark.rule("N11")
def test_a_stake_is_topped_up_once_the_balance_allows() -> None:
    """The fees of some checks stay in the balance: a stake that cannot pay for them is no verifier."""
    run, fees = a_run(an_info(*TWO)), 2 * FEES_KEPT

    def due(stake_position: StakePosition) -> list[TopUpStake]:
        duties = plan_actions(knowledge(run, a_local(), stake_position=stake_position))
        return [duty for duty in duties if isinstance(duty, TopUpStake)]

    assert due(a_stake_position(balance=10**6)) == []
    assert due(a_stake_position(balance=100 + fees, wanted=100)) == [
        TopUpStake(Amount(100), Amount(0))
    ]
    assert due(a_stake_position(balance=60 + fees, stake=40, wanted=100)) == [
        TopUpStake(Amount(60), Amount(0))
    ]
    assert due(a_stake_position(balance=60, stake=40, wanted=100)) == [
        TopUpStake(Amount(60), Amount(fees))
    ]
    assert due(a_stake_position(balance=10**6, stake=100, wanted=100)) == []
    assert due(a_stake_position(balance=10**6, wanted=100, is_staking=True)) == []


@pytest.mark.rule("N11")
def test_nothing_is_put_up_while_it_is_accused() -> None:
    """A conviction takes the whole stake: what is missing of it waits for the verdict."""
    run = a_run(an_info(*TWO))
    accused = a_stake_position(balance=10**6, stake=40, wanted=100, is_accused=True)
    assert plan_actions(knowledge(run, a_local(), stake_position=accused)) == []


def test_a_node_offers_to_validate_once_it_can_and_withdraws_when_it_is_told_to() -> None:
    run = a_run(an_info(*TWO))

    def due(**changes: bool) -> list[OfferToValidate]:
        position = a_validator_position(**changes)
        duties = plan_actions(knowledge(run, a_local(), validator_position=position))
        return [duty for duty in duties if isinstance(duty, OfferToValidate)]

    assert due() == due(wants=True, is_candidate=True) == due(wants=True, is_able=False) == []
    assert due(wants=True) == [OfferToValidate(is_on=True)]
    assert due(wants=True, is_offering=True) == []
    assert (
        due(is_candidate=True)
        == due(is_candidate=True, is_able=False)
        == [OfferToValidate(is_on=False)]
    )


def test_a_segment_is_accused_from_the_first_answer_that_differs_to_the_verdict() -> None:
    def accused(phase: SegmentPhase, check: CheckPhase, accusations: int = 0) -> bool:
        record: Any = Some(
            phase=phase, checks=(Some(phase=check),), accusations=(None,) * accusations
        )
        return is_accused(record)

    assert not accused(SegmentPhase.REVEALED, CheckPhase.AGREED)
    assert accused(SegmentPhase.REVEALED, CheckPhase.DIFFERED)
    assert accused(SegmentPhase.DISPUTED, CheckPhase.AGREED)
    assert accused(SegmentPhase.SEALED, CheckPhase.SEALED, 1)
    assert not accused(SegmentPhase.VERIFIED, CheckPhase.DIFFERED)


@pytest.mark.rule("N11")
def test_who_was_convicted_stakes_and_joins_no_more() -> None:
    """Whatever made its work false would cost it the next stake, too."""
    barred = a_stake_position(balance=10**6, wanted=100, is_barred=True)
    assert plan_actions(knowledge(a_run(an_info(*ALONE)), stake_position=barred)) == []


@pytest.mark.rule("L70", "N1")
def test_an_ask_that_differs_from_the_wanted_one_is_stated_once() -> None:
    """Seated or in the queue; the owner asks nothing, and an ask above the most leaves no seat."""
    seated = a_run(an_info(*TWO))
    seated = copied(seated, seats=TWO)
    here = a_local()
    assert StateAsk(0) in plan_actions(knowledge(seated, here, ask=0))
    assert plan_actions(knowledge(seated, here, ask=0, is_asking=True)) == []
    for ask in (-1, 1, 9):
        assert plan_actions(knowledge(seated, here, ask=ask)) == [], "the run pays 1 at most"
    waiter = Waiter(ME, Height(1), is_volunteer=False, ask=1)
    waiting = a_run(an_info(*ALONE), waiting=(waiter,))
    assert plan_actions(knowledge(waiting, ask=0)) == [StateAsk(0)]
    mine = copied(seated, owner=ME)
    assert plan_actions(knowledge(mine, here, ask=0)) == []


@pytest.mark.rule("L70")
def test_who_asks_more_than_the_run_pays_waits_outside_of_the_queue() -> None:
    run = a_run(an_info(*ALONE))
    assert plan_actions(knowledge(run, ask=2)) == []
    assert plan_actions(knowledge(run, ask=1)) == [AskToJoin()]
