"""Plan the duties of a node that are due, from what it knows.

Core: a pure function from knowledge to duties, in the order in which they are to be done. Only this module
decides that a duty is due; the shell gets what it needs from the network, the disk or the device.
"""

from dataclasses import dataclass

from swarm.config.spec import FIRST_TRADE_BLOCKS, trade_blocks
from swarm.ledger.state.records import (
    CheckPhase,
    Checkpoint,
    RoundInfo,
    Run,
    RunPhase,
    Seat,
    SegmentPhase,
    SegmentRecord,
)
from swarm.ledger.transactions import TAKES_MOST
from swarm.ledger.transition.phases import COMMIT_ROUNDS
from swarm.ledger.transition.runs import LIVE_PHASES
from swarm.types import Amount, Height, PeerId, RoundIndex, StageIndex

FEES_KEPT = 20
"""Fees that stay in the balance when a stake is put up: a checker pays three for a window."""

ENDED = (RunPhase.FINISHED, RunPhase.SETTLED)


@dataclass(frozen=True, slots=True)
class LocalSeat:
    """Seat that this node holds; ``round_index`` is None until its first segment opens."""

    stage: StageIndex
    index: int
    round_index: RoundIndex | None
    is_ready: bool
    is_open: bool = False
    """True if a segment is open."""


@dataclass(frozen=True, slots=True)
class StakePosition:
    """Balance and stake of a node on the ledger, and the stake it wants."""

    balance: Amount
    stake: Amount
    wanted: int
    """Stake that it wants to have; 0 if it puts up none by itself."""
    fee: Amount
    """Fee for one statement."""
    is_staking: bool
    """True if a stake is on its way to the ledger."""
    is_accused: bool
    """True if a segment of its own is disputed: a stake put up before the verdict may be taken with it."""
    is_barred: bool
    """True if it was convicted in this run: it must not lose the next stake as it lost the first."""


@dataclass(frozen=True, slots=True)
class ValidatorPosition:
    """Offer of a node to validate, as it stands on the ledger and as its owner wants it."""

    wants: bool
    """True if its owner wants it to validate."""
    is_candidate: bool
    is_able: bool
    """True if it has the stake that takes, and was never convicted of signing two ways."""
    is_offering: bool
    """True if its offer, or the withdrawal, is on its way to the ledger."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """Knowledge of a node from which its duties follow."""

    me: PeerId
    run: Run
    height: Height
    is_solver: bool
    is_archive: bool
    is_joining: bool
    seats: tuple[LocalSeat, ...]
    trades_begun: frozenset[tuple[StageIndex, int, RoundIndex, int]]
    """Tuples (stage, seat, round, exchange)."""
    commits_final: frozenset[tuple[StageIndex, int, RoundIndex]]
    """Tuples (stage, seat, round) of own segments that the ledger has."""
    closed: frozenset[tuple[StageIndex, int, RoundIndex]]
    """Tuples (stage, seat, round) of own segments closed to be committed, by this start or an earlier one."""
    checkpoints_posted: frozenset[tuple[StageIndex, RoundIndex]]
    checkpoints_held: frozenset[tuple[StageIndex, RoundIndex]]
    stake_position: StakePosition
    validator_position: ValidatorPosition
    trades_open: frozenset[tuple[StageIndex, int, RoundIndex, int]] = frozenset()
    """Those of ``trades_begun`` that are not settled yet."""
    ask: int = TAKES_MOST
    """Least pay for 1,000 tokens that its owner wants."""
    is_asking: bool = False
    """True if another ask is on its way to the ledger."""


@dataclass(frozen=True, slots=True)
class TopUpStake:
    """Duty: put up what is missing of the wanted stake; wait while the balance is ``short``."""

    amount: Amount
    short: Amount
    """Amount that the balance lacks to do it and to pay for checks; 0 if it suffices."""


@dataclass(frozen=True, slots=True)
class OfferToValidate:
    """Duty: offer to validate, or withdraw the offer."""

    is_on: bool


@dataclass(frozen=True, slots=True)
class AskToJoin:
    """Duty: sign a ``Join`` for this run, with the ask of this node."""


@dataclass(frozen=True, slots=True)
class StateAsk:
    """Duty: change the ask on the ledger to what the owner of this node wants."""

    ask: int


@dataclass(frozen=True, slots=True)
class TakeSeat:
    """Duty: prepare a shard for a seat that the ledger gave this node."""

    seat: Seat
    info: RoundInfo


@dataclass(frozen=True, slots=True)
class LeaveSeat:
    """Duty: close the open segment, commit it, and free the shard."""

    stage: StageIndex
    index: int


@dataclass(frozen=True, slots=True)
class CloseRound:
    """Duty: close the open segment and commit it; the run pauses before the next."""

    stage: StageIndex
    index: int


@dataclass(frozen=True, slots=True)
class BeginRound:
    """Duty: close the open segment, commit it, and open the next."""

    stage: StageIndex
    index: int
    info: RoundInfo


@dataclass(frozen=True, slots=True)
class TradeFragment:
    """Duty: begin an exchange of a fragment; ``training.averaging.trade_plan`` decides with whom."""

    stage: StageIndex
    index: int
    round_index: RoundIndex
    exchange: int


@dataclass(frozen=True, slots=True)
class PostCheckpoint:
    """Duty: publish phi as it was at the boundary of ``round_index``, the stage's canonical checkpoint."""

    stage: StageIndex
    index: int
    round_index: RoundIndex


@dataclass(frozen=True, slots=True)
class FetchCheckpoint:
    """Duty: fetch the newest canonical checkpoint of a stage."""

    stage: StageIndex
    checkpoint: Checkpoint


Action = (
    TopUpStake
    | OfferToValidate
    | AskToJoin
    | StateAsk
    | TakeSeat
    | LeaveSeat
    | CloseRound
    | BeginRound
    | TradeFragment
    | PostCheckpoint
    | FetchCheckpoint
)


def plan_actions(known: NodeView) -> list[Action]:
    """Return all duties that are due now; doing them and asking again returns none twice."""
    info = known.run.rounds[-1] if known.run.rounds else None
    duties: list[Action] = [*_stake_duties(known), *_validator_duties(known.validator_position)]
    if _wants_seat(known):
        duties.append(AskToJoin())
    duties += _ask_duties(known)
    if info is None:
        return duties
    duties += _seat_duties(known, info)
    duties += _checkpoint_duties(known, info)
    if info.round < known.run.final_round and not _is_resting(known.run):
        duties += _trade_duties(known, info)
    return duties


def exchange_height(info: RoundInfo, exchange: int, exchanges: int, round_blocks: int) -> Height:
    """Return the height at which an exchange of a round begins: spread evenly, fixed by the run.

    ``exchanges`` is the number of them in the round; where it has fewer blocks, several share a height. Those
    of one fragment never do: the bounds of a run see to it.
    """
    usable_blocks = trade_blocks(round_blocks)
    return Height(info.height + FIRST_TRADE_BLOCKS + exchange * usable_blocks // exchanges)


def guarded_stages(mine: set[StageIndex], num_stages: int) -> set[StageIndex]:
    """Return the stages whose checkpoints a peer keeps for others: those behind its own.

    A stage that loses all its peers at once is rebuilt from what the peers of another stage hold.
    """
    return {StageIndex((stage + 1) % num_stages) for stage in mine}


def is_accused(record: SegmentRecord) -> bool:
    """Return True if a segment is disputed, or about to be."""
    differs = any(check.phase is CheckPhase.DIFFERED for check in record.checks)
    is_shown = record.phase is SegmentPhase.REVEALED
    is_judged = record.phase in {SegmentPhase.DISPUTED, SegmentPhase.DOUBTED}
    return bool(record.accusations) or is_judged or (is_shown and differs)


def may_be_drawn(
    run: Run, height: int, stage: StageIndex, index: int, round_index: RoundIndex
) -> bool:
    """Return True if phi of a closed segment may have to be posted: drawn already, or the draw is still ahead.

    Also of a seat that was left since: the last boundary of a run draws from the seats held until then.
    """
    boundary = round_index + 1
    is_posted = any(kept.round == boundary for kept in run.checkpoints[stage])
    if is_posted or boundary > run.final_round or run.phase is RunPhase.SETTLED:
        return False
    if boundary >= run.next_round:
        return True  # also in a pause, however long it is
    info = next((info for info in run.rounds if info.round == boundary), None)
    if info is None or height >= info.height + COMMIT_ROUNDS * run.spec.round_blocks:
        return False
    return info.drawn[stage] == index


def _stake_duties(known: NodeView) -> list[TopUpStake]:
    stake_position = known.stake_position
    missing = stake_position.wanted - stake_position.stake
    waits = stake_position.is_staking or stake_position.is_accused
    if missing <= 0 or waits or stake_position.is_barred or known.run.phase in ENDED:
        return []
    short = max(missing + FEES_KEPT * stake_position.fee - stake_position.balance, 0)
    return [TopUpStake(Amount(missing), Amount(short))]


def _validator_duties(position: ValidatorPosition) -> list[OfferToValidate]:
    if position.is_offering or position.wants == position.is_candidate:
        return []
    if position.wants and not position.is_able:
        return []
    return [OfferToValidate(position.wants)]


def _ask_duties(known: NodeView) -> list[StateAsk]:
    """Return the change of an ask that the ledger has, and that is not the wanted one."""
    run, most = known.run, known.run.spec.price_max
    wanted = most if known.ask == TAKES_MOST else min(known.ask, most)
    asks = [s.ask for roster in run.seats for s in roster if s.peer == known.me]
    asks += [waiter.ask for waiter in run.waiting if waiter.peer == known.me]
    is_idle = not asks or known.is_asking or run.owner == known.me or run.phase not in LIVE_PHASES
    return [] if is_idle or wanted in asks else [StateAsk(wanted)]


def _wants_seat(known: NodeView) -> bool:
    run = known.run
    if (
        not known.is_solver
        or known.ask > run.spec.price_max
        or known.is_joining
        or known.stake_position.is_barred
        or run.phase in ENDED
    ):
        return False
    sits = any(seat.peer == known.me for stage in run.seats for seat in stage)
    waits = any(waiter.peer == known.me for waiter in run.waiting)
    return not sits and not waits


def _mine(known: NodeView, info: RoundInfo) -> list[Seat]:
    return [seat for stage in info.seats for seat in stage if seat.peer == known.me]


def _seat_duties(known: NodeView, info: RoundInfo) -> list[Action]:
    duties: list[Action] = []
    mine = {(seat.stage, seat.index): seat for seat in _mine(known, info)}
    is_over = info.round >= known.run.final_round
    is_resting = _is_resting(known.run)
    here = {(local.stage, local.index): local for local in known.seats}
    for key, local in sorted(here.items()):
        if is_over or key not in mine:
            duties.append(LeaveSeat(local.stage, local.index))
        elif is_resting:
            if local.is_open:
                duties.append(CloseRound(local.stage, local.index))
        elif (
            local.is_ready
            and local.round_index != info.round
            and not _is_closed(known, local, info)
        ):
            duties.append(BeginRound(local.stage, local.index, info))
    if known.is_solver and not is_over:
        duties += [TakeSeat(seat, info) for key, seat in sorted(mine.items()) if key not in here]
    return duties


def _is_resting(run: Run) -> bool:
    """Return True if the newest round on the ledger is over and the next has not begun: a pause, or its end."""
    return run.phase in {RunPhase.PAUSED, RunPhase.OPEN}


def _is_closed(known: NodeView, local: LocalSeat, info: RoundInfo) -> bool:
    """Return True if this seat has done its segment of the round: after a restart the ledger may be behind.

    Training it again would sign two logs of one segment, which counts as cheating.
    """
    return (local.stage, local.index, info.round) in known.closed


def _checkpoint_duties(known: NodeView, info: RoundInfo) -> list[Action]:
    duties: list[Action] = []
    run = known.run
    for earlier in run.rounds:
        for stage, index in enumerate(earlier.drawn):
            key = (StageIndex(stage), earlier.round)
            is_mine = any(
                seat.index == index and seat.peer == known.me for seat in earlier.seats[stage]
            )
            before = (StageIndex(stage), index, RoundIndex(earlier.round - 1))
            is_proved = before in known.commits_final and may_be_drawn(run, known.height, *before)
            if index >= 0 and is_mine and is_proved and key not in known.checkpoints_posted:
                duties.append(PostCheckpoint(key[0], index, earlier.round))
    mine = {seat.stage for seat in _mine(known, info)}
    my_stages = mine | guarded_stages(mine, len(run.checkpoints))
    is_over = info.round >= run.final_round
    for stage, checkpoints in enumerate(run.checkpoints):
        wanted = known.is_archive or is_over or stage in my_stages
        if wanted and checkpoints:
            newest = checkpoints[0]
            if (StageIndex(stage), newest.round) not in known.checkpoints_held:
                duties.append(FetchCheckpoint(StageIndex(stage), newest))
    return duties


def _trade_duties(known: NodeView, info: RoundInfo) -> list[Action]:
    duties: list[Action] = []
    outer = known.run.spec.outer
    here = {(local.stage, local.index): local for local in known.seats}
    for seat in _mine(known, info):
        local = here.get((seat.stage, seat.index))
        if local is None or local.round_index != info.round:
            continue
        where = (seat.stage, seat.index, info.round)
        busy = {outer.fragment_of(key[3]) for key in known.trades_open if key[:3] == where}
        for exchange in _due_exchanges(known, info):
            key = (*where, exchange)
            if key not in known.trades_begun and outer.fragment_of(exchange) not in busy:
                duties.append(TradeFragment(*key))
    return duties


def _due_exchanges(known: NodeView, info: RoundInfo) -> list[int]:
    """Return the newest exchange of each fragment that is due, in order.

    The time of an exchange is over when the next one of its fragment is due: its partner has gone on.
    """
    spec = known.run.spec
    is_final_averaging = info.consensus >= 0
    exchanges = spec.outer.fragments if is_final_averaging else spec.outer.exchanges
    newest = {
        spec.outer.fragment_of(exchange): exchange
        for exchange in range(exchanges)
        if known.height >= exchange_height(info, exchange, exchanges, spec.round_blocks)
    }
    return sorted(newest.values())
