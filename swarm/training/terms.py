"""Derive the terms of a trade (partner, direction, weight), and the reaction of a replica to its lag.

Core: pure functions of a round. Training seats and replaying verifiers derive the same terms here.

    a round of training           partners by the beacon, one for each exchange; weighed by tokens and by age.
                                  If one fails, ``num_retries`` seats at the heaviest edges may replace it
    a round of final averaging    partners by the butterfly, one for all fragments; weighed by the number of
                                  seats that their values already average

A replica that lags trades with a weight reduced by age, or restarts from another replica's state if it is too
far behind:

    behind by      0 .. 2 rounds                 more
    it does        trade, weighed by age    ->   adopt: phi, and Adam's second moments and step count

    its tokens     3/4 of the usual, or more     fewer: it trails
    it does        trade                    ->   receive, and send nothing

The outer momentum and the first moments belong to another replica's trajectory: they start from zero. After an
adoption the replica only receives for ``pull_only_rounds`` rounds. A trailing replica has made less progress
than the replicas it would be merged with: partners lose more by receiving its fragment than by a solo step.

Source: docs/spec/training.md sections 3 to 5 and 7, docs/spec/protocol.md sections 4 and 5.
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
"""Rounds behind at which a replica's progress is still worth merging."""
STEPS_MAX = (1 << 32) - 1
"""Upper limit of the optimizer steps of a run: above rounds times inner steps of any."""
TRAILING_QUARTERS = 3
"""A replica with fewer quarters of the usual tokens trails (docs/spec/training.md section 7: the gain)."""
TRAILING_KNOWN_MIN = 3
"""With two, the one that does not trail would have no sender, which costs more."""


class Catching(Enum):
    """Reaction of a replica to its lag."""

    TRADE = "trade"
    ADOPT = "adopt"


def lag_rounds(mine: int, newest: int) -> int:
    """Return the rounds behind the newest, 0 if ahead."""
    return max(newest - mine, 0)


def catching_up(lag: int) -> Catching:
    """Return the reaction to a lag of so many rounds; raise ``UsageError`` for a negative one."""
    if lag < 0:
        raise UsageError("lags are counted from 0")
    return Catching.TRADE if lag <= LAG_ROUNDS_MAX else Catching.ADOPT


def pulls_only(round_index: int, since_round: int, pull_only_rounds: int) -> bool:
    """Return True if a replica that joined or adopted in ``since_round`` still receives without sending."""
    return round_index < since_round + pull_only_rounds


def is_trailing(tokens: int, stage_tokens: Sequence[int]) -> bool:
    """Return True if ``tokens``, of a seat's last segment, are too few for a stage with ``stage_tokens``.

    0 is a seat without a segment yet: it does not trail and is left out of the usual value. Usual is the upper
    median, which no minority can move: at most half of a stage trails, and with equal tokens no seat does.
    """
    known = [count for count in stage_tokens if count > 0]
    if tokens <= 0 or len(known) < TRAILING_KNOWN_MIN:
        return False
    return 4 * tokens < TRAILING_QUARTERS * median_high(known)


@dataclass(frozen=True, slots=True)
class TradeTerms:
    """Partner, direction and weight of a seat in one exchange of a round."""

    partner: RosterSeat
    gives: bool
    """True if the partner's fragment may be merged; else this side only sends."""
    _share_nano: int
    _age_weights_nano: tuple[int, ...]

    def due_nano(self, my_tokens: int, partner_tokens: int) -> int:
        """Return the partner's due weight in billionths: the most with which it may be merged."""
        if self._share_nano >= 0:
            return self._share_nano
        lag = self.partner.lag
        return weight_nano(my_tokens, partner_tokens, lag, self._age_weights_nano)


def terms_of(plan: RoundPlan, stage: StageIndex, seat: int, exchange: int) -> TradeTerms | None:
    """Return the terms with the partner that the beacon pairs a seat with in an exchange; None without one."""
    by_key = _by_key(plan, stage)
    mine = _key_of(by_key, seat)
    if mine is None:
        return None
    ages = plan.spec.outer.age_weights_nano
    if plan.is_final_averaging:
        seats, number = list(by_key), plan.consensus
        trade = final_trades(seats, plan.beacon, plan.run_digest, stage, number).get(mine)
        if trade is None:
            return None
        return TradeTerms(by_key[trade.partner], trade.weight_nano > 0, trade.weight_nano, ages)
    pairs = pair_up(list(by_key), plan.beacon, plan.run_digest, stage, exchange, plan.round)
    other = pairs.get(mine)
    if other is None:
        return None
    partner = by_key[other]
    return TradeTerms(partner, not is_pull_only(plan, partner), -1, ages)


def standby_partners(
    plan: RoundPlan, stage: StageIndex, seat: int, exchange: int
) -> tuple[TradeTerms, ...]:
    """Return the terms of the seats to ask in an exchange if the drawn partner fails: at most ``num_retries``.

    In order of preference, without the drawn partner, seats of the same peer, and seats that only receive.
    Empty in a round of final averaging, whose result is exact only between the drawn partners.
    """
    by_key = _by_key(plan, stage)
    mine = _key_of(by_key, seat)
    if mine is None or plan.is_final_averaging or not plan.spec.outer.num_retries:
        return ()
    drawn = terms_of(plan, stage, seat, exchange)
    partner = None if drawn is None else drawn.partner
    where = (plan.beacon, plan.run_digest, stage, exchange, plan.round)
    others = (by_key[key] for key in heaviest_edges(mine, list(by_key), *where))
    ages = plan.spec.outer.age_weights_nano
    senders = (other for other in others if other != partner and not is_pull_only(plan, other))
    return tuple(
        TradeTerms(other, True, -1, ages) for other in islice(senders, plan.spec.outer.num_retries)
    )


def is_standby(
    plan: RoundPlan, stage: StageIndex, exchange: int, seat: int, other: int, peer: PeerId
) -> bool:
    """Return True if ``peer`` in seat ``other`` may replace the drawn partner of ``seat`` in an exchange.

    This holds if either is a fallback of the other, so that a seat that is asked may also receive in return.
    """
    there = plan.seat(stage, other)
    if there is None or there.peer != peer:
        return False
    mine = (terms.partner.index for terms in standby_partners(plan, stage, seat, exchange))
    theirs = (terms.partner.index for terms in standby_partners(plan, stage, other, exchange))
    return other in mine or seat in theirs


def terms_with(
    plan: RoundPlan, stage: StageIndex, seat: int, exchange: int, other: int
) -> TradeTerms | None:
    """Return the terms on which a seat receives a fragment from seat ``other``; None if they may not trade."""
    drawn = terms_of(plan, stage, seat, exchange)
    if drawn is not None and drawn.partner.index == other:
        return drawn
    there = plan.seat(stage, other)
    if there is None or not is_standby(plan, stage, exchange, seat, other, there.peer):
        return None
    return TradeTerms(there, not is_pull_only(plan, there), -1, plan.spec.outer.age_weights_nano)


def is_pull_only(plan: RoundPlan, seat: RosterSeat) -> bool:
    """Return True if partners receive nothing from a seat: it is new, on trial, trails, or is too far behind.

    A seat that is too far behind restarts from another state, and stays behind until the ledger has a segment
    of it.
    """
    pulls = plan.spec.outer.pull_only_rounds
    is_new = seat.joined_round > 0 and pulls_only(plan.round, seat.joined_round, pulls)
    is_behind = seat.trails or seat.is_on_trial or seat.lag >= len(plan.spec.outer.age_weights_nano)
    return is_new or is_behind or catching_up(seat.lag) is Catching.ADOPT


def _by_key(plan: RoundPlan, stage: StageIndex) -> dict[SeatKey, RosterSeat]:
    return {SeatKey(other.index, other.peer): other for other in plan.rosters[stage]}


def _key_of(by_key: Mapping[SeatKey, RosterSeat], seat: int) -> SeatKey | None:
    return next((key for key in by_key if key.index == seat), None)
