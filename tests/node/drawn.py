"""A trade as a node begins it: with the partner that the beacon drew, or with nobody."""

from swarm.node.context import NodeContext
from swarm.node.control.planner import TradeFragment
from swarm.node.seat.trade import trade
from swarm.training.plan import RoundPlan
from swarm.training.seat import SeatWorker
from swarm.training.terms import terms_of
from swarm.types import StageIndex

STAGE = StageIndex(0)


async def trade_drawn(
    context: NodeContext, runner: SeatWorker, plan: RoundPlan, fragment: int
) -> None:
    """Trade one fragment of the runner's seat in the first stage."""
    terms = terms_of(plan, STAGE, runner.index, fragment)
    partner, gives = (terms.partner, terms.gives) if terms else (None, False)
    duty = TradeFragment(STAGE, runner.index, plan.round, fragment, partner, gives)
    await trade(context, runner, duty)
