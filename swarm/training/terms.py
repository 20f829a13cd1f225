"""The terms of a trade: with whom, whether anything may be taken, and how much it weighs.

Core: pure functions of a round. Those who train and those who replay them read the same terms here.

    a round of training     partners by the beacon, one for each fragment; weighed by tokens and by age
    a round of consensus    partners by the butterfly, one for all fragments; weighed by what they stand for

Source: docs/spec/training.md sections 3 to 5, docs/spec/protocol.md sections 4 and 5.
"""

from dataclasses import dataclass

from swarm.gossip.consensus import consensus_trades
from swarm.gossip.pairing import SeatKey, pair_up
from swarm.training.lag import Catching, catching_up, pulls_only
from swarm.training.outer import weight_nano
from swarm.training.round_plan import RosterSeat, RoundPlan
from swarm.types import StageIndex


@dataclass(frozen=True, slots=True)
class Terms:
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


def terms_of(plan: RoundPlan, stage: StageIndex, seat: int, fragment: int) -> Terms | None:
    """With whom a seat of the round trades a fragment, and on which terms; None: it steps alone."""
    by_key = {SeatKey(other.index, other.peer): other for other in plan.rosters[stage]}
    mine = next((key for key in by_key if key.index == seat), None)
    if mine is None:
        return None
    ages = plan.spec.outer.age_weights_nano
    if plan.is_consensus:
        seats, number = list(by_key), plan.consensus
        trade = consensus_trades(seats, plan.beacon, plan.run_digest, stage, number).get(mine)
        if trade is None:
            return None
        return Terms(by_key[trade.partner], trade.weight_nano > 0, trade.weight_nano, ages)
    pairs = pair_up(list(by_key), plan.beacon, plan.run_digest, stage, fragment, plan.round)
    other = pairs.get(mine)
    if other is None:
        return None
    partner = by_key[other]
    return Terms(partner, not is_pull_only(plan, partner), -1, ages)


def is_pull_only(plan: RoundPlan, seat: RosterSeat) -> bool:
    """Whether partners take nothing from a seat: it joined lately, trails, or is too far behind.

    Who is too far behind begins again from another state, and is behind until the ledger has a segment of it.
    """
    pulls = plan.spec.outer.pull_only_rounds
    is_new = seat.joined_round > 0 and pulls_only(plan.round, seat.joined_round, pulls)
    is_behind = seat.trails or seat.lag >= len(plan.spec.outer.age_weights_nano)
    return is_new or is_behind or catching_up(seat.lag) is Catching.ADOPT
