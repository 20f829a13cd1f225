"""The terms of a trade: with whom, whether anything may be taken, and how much it weighs.

Core: pure functions of a round. Those who train and those who replay them read the same terms here.

    a round of training     partners by the beacon, one for each fragment; weighed by tokens and by age.
                            When one fails, ``num_retries`` seats at the heaviest edges may step in
    a round of consensus    partners by the butterfly, one for all fragments; weighed by what they stand for

Source: docs/spec/training.md sections 3 to 5, docs/spec/protocol.md sections 4 and 5.

A replica that fell behind: merged by its age, or, too far behind, started again from another's state.

pure functions of round numbers, tokens and tensors.

    behind by      0 .. 2 rounds                 more
    it does        trade, weighed by age    ->   adopt: phi, and Adam's second moments and step count

    its tokens     3/4 of the usual, or more     fewer: it trails
    it does        trade                    ->   take, and give nothing

The outer momentum and the first moments are those of a trajectory it was not on: they start from zero. After
an adoption it pulls only for ``pull_only_rounds`` rounds. What a replica that trails could give has gone a
shorter way than what it would be merged with: partners that take it lose more than by going without.
Source: docs/spec/training.md sections 4 and 7, docs/spec/protocol.md section 5. Legend: P parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from statistics import median_high

from swarm.errors import UsageError
from swarm.gossip.pairing import SeatKey, final_trades, heaviest_edges, pair_up
from swarm.training.averaging.outer_step import weight_nano
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.types import PeerId, StageIndex

LAG_ROUNDS_MAX = 2
"""Rounds behind which a replica's progress is still worth merging."""
STEPS_MAX = (1 << 32) - 1
"""No run takes more optimizer steps: rounds times inner steps, with room."""
TRAILING_QUARTERS = 3
"""Whoever has fewer quarters of the usual tokens trails (docs/spec/training.md section 7: what it is worth)."""
TRAILING_KNOWN_MIN = 3
"""Of two, the one that does not trail would have nobody to take from, which costs more."""


class Catching(Enum):
    """What a replica does about its lag."""

    TRADE = "trade"
    ADOPT = "adopt"


def lag_rounds(mine: int, newest: int) -> int:
    """Rounds behind; whoever is ahead is not behind."""
    return max(newest - mine, 0)


def catching_up(lag: int) -> Catching:
    """What a lag of so many rounds calls for; raise ``UsageError`` for a negative one."""
    if lag < 0:
        raise UsageError("lags are counted from 0")
    return Catching.TRADE if lag <= LAG_ROUNDS_MAX else Catching.ADOPT


def pulls_only(round_index: int, since_round: int, pull_only_rounds: int) -> bool:
    """Whether a replica that joined or adopted in ``since_round`` still takes without giving."""
    return round_index < since_round + pull_only_rounds


def is_trailing(tokens: int, stage_tokens: Sequence[int]) -> bool:
    """Whether a seat trails that had ``tokens`` in its last segment, of a stage that had ``stage_tokens``.

    0 is a seat without a segment yet: it does not trail and says nothing of what is usual. Usual is the upper
    median, which no minority can move: at most half of a stage trails, and with equal tokens nobody.
    """
    known = [count for count in stage_tokens if count > 0]
    if tokens <= 0 or len(known) < TRAILING_KNOWN_MIN:
        return False
    return 4 * tokens < TRAILING_QUARTERS * median_high(known)


@dataclass(frozen=True, slots=True)
class TradeTerms:
    """What a seat may do with one fragment in one round."""

    partner: RosterSeat
    gives: bool
    """Whether anything may be taken from the partner; else this side only gives."""
    _share_nano: int
    _age_weights_nano: tuple[int, ...]

    def due_nano(self, my_tokens: int, partner_tokens: int) -> int:
        """The partner's weight in billionths: the most at which it may be merged."""
        if self._share_nano >= 0:
            return self._share_nano
        lag = self.partner.lag
        return weight_nano(my_tokens, partner_tokens, lag, self._age_weights_nano)


def terms_of(plan: RoundPlan, stage: StageIndex, seat: int, fragment: int) -> TradeTerms | None:
    """With whom the beacon pairs a seat for a fragment, and on which terms; None: with nobody."""
    by_key = _by_key(plan, stage)
    mine = _key_of(by_key, seat)
    if mine is None:
        return None
    ages = plan.spec.outer.age_weights_nano
    if plan.is_consensus:
        seats, number = list(by_key), plan.consensus
        trade = final_trades(seats, plan.beacon, plan.run_digest, stage, number).get(mine)
        if trade is None:
            return None
        return TradeTerms(by_key[trade.partner], trade.weight_nano > 0, trade.weight_nano, ages)
    pairs = pair_up(list(by_key), plan.beacon, plan.run_digest, stage, fragment, plan.round)
    other = pairs.get(mine)
    if other is None:
        return None
    partner = by_key[other]
    return TradeTerms(partner, not is_pull_only(plan, partner), -1, ages)


def standby_partners(
    plan: RoundPlan, stage: StageIndex, seat: int, fragment: int
) -> tuple[TradeTerms, ...]:
    """Whom a seat may ask for a fragment when its drawn partner fails, in order: at most ``num_retries``.

    None of them is the drawn partner, sits for the same peer, or only pulls. There are none in a round of
    consensus, whose end is exact only between the drawn.
    """
    by_key = _by_key(plan, stage)
    mine = _key_of(by_key, seat)
    if mine is None or plan.is_consensus or not plan.spec.outer.num_retries:
        return ()
    drawn = terms_of(plan, stage, seat, fragment)
    partner = None if drawn is None else drawn.partner
    where = (plan.beacon, plan.run_digest, stage, fragment, plan.round)
    others = (by_key[key] for key in heaviest_edges(mine, list(by_key), *where))
    ages = plan.spec.outer.age_weights_nano
    givers = (other for other in others if other != partner and not is_pull_only(plan, other))
    return tuple(
        TradeTerms(other, True, -1, ages) for other in islice(givers, plan.spec.outer.num_retries)
    )


def is_standby(
    plan: RoundPlan, stage: StageIndex, fragment: int, seat: int, other: int, peer: PeerId
) -> bool:
    """Whether ``peer`` in seat ``other`` may trade a fragment with ``seat`` in place of its drawn partner.

    So it is when either would ask the other: who was asked knows the asker, and may take in return.
    """
    there = plan.seat(stage, other)
    if there is None or there.peer != peer:
        return False
    mine = (terms.partner.index for terms in standby_partners(plan, stage, seat, fragment))
    theirs = (terms.partner.index for terms in standby_partners(plan, stage, other, fragment))
    return other in mine or seat in theirs


def terms_with(
    plan: RoundPlan, stage: StageIndex, seat: int, fragment: int, other: int
) -> TradeTerms | None:
    """The terms on which a seat takes a fragment from seat ``other``; None: it may not trade with it at all."""
    drawn = terms_of(plan, stage, seat, fragment)
    if drawn is not None and drawn.partner.index == other:
        return drawn
    there = plan.seat(stage, other)
    if there is None or not is_standby(plan, stage, fragment, seat, other, there.peer):
        return None
    return TradeTerms(there, not is_pull_only(plan, there), -1, plan.spec.outer.age_weights_nano)


def is_pull_only(plan: RoundPlan, seat: RosterSeat) -> bool:
    """Whether partners take nothing from a seat: it joined lately, trails, or is too far behind.

    Who is too far behind begins again from another state, and is behind until the ledger has a segment of it.
    """
    pulls = plan.spec.outer.pull_only_rounds
    is_new = seat.joined_round > 0 and pulls_only(plan.round, seat.joined_round, pulls)
    is_behind = seat.trails or seat.lag >= len(plan.spec.outer.age_weights_nano)
    return is_new or is_behind or catching_up(seat.lag) is Catching.ADOPT


def _by_key(plan: RoundPlan, stage: StageIndex) -> dict[SeatKey, RosterSeat]:
    return {SeatKey(other.index, other.peer): other for other in plan.rosters[stage]}


def _key_of(by_key: Mapping[SeatKey, RosterSeat], seat: int) -> SeatKey | None:
    return next((key for key in by_key if key.index == seat), None)
