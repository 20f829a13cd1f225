"""A trade as a node begins it."""

from swarm.node.control.planner import TradeFragment
from swarm.node.seat.trade import trade
from swarm.training.plan import RoundPlan
from swarm.training.seat import SeatWorker
from swarm.types import StageIndex
from tests.node.fakes import FakeNode

STAGE = StageIndex(0)


async def begin_trade(node: FakeNode, runner: SeatWorker, plan: RoundPlan, fragment: int) -> None:
    """Trade one fragment of the runner's seat in the first stage."""
    await trade(node, runner, TradeFragment(STAGE, runner.index, plan.round, fragment))
