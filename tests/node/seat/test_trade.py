"""The map counts what was merged: a trade that the end of its segment overtook is none."""

from dataclasses import dataclass, field

import pytest
import torch

from swarm.config.spec import RunSpec
from swarm.gossip.trade.messages import Offer
from swarm.node.control.planner import TradeFragment
from swarm.node.seat.trade import trade
from swarm.training.averaging.outer_step import FragmentSnapshot, Merge, outer_scalars
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.types import NO_DIGEST, RoundIndex, RunIndex, StageIndex
from tests.fakes import FakeNetwork
from tests.node.fakes import a_trading_node
from tests.node.launch.test_retention import a_spec
from tests.training.pipeline import CHAIN

ROUND, STAGE = RoundIndex(3), StageIndex(0)
HOST = FakeNetwork().host(1)


@dataclass
class OneSeat:
    """A seat that no peer is paired with."""

    is_applied: bool
    spec: RunSpec = field(default_factory=a_spec)
    merged: list[Merge] = field(default_factory=list)

    @property
    def plan(self) -> RoundPlan:
        """A round without other seats."""
        spec, rosters = self.spec, ((RosterSeat(0, HOST.peer, 1),),)
        return RoundPlan(
            chain=CHAIN,
            run=RunIndex(1),
            run_digest=spec.digest,
            spec=spec,
            round=ROUND,
            beacon=NO_DIGEST,
            rosters=rosters,
        )

    @property
    def jobs(self) -> "OneSeat":
        """Its own worker."""
        return self

    async def reach(self, round_index: RoundIndex, budget_s: float) -> None:
        """It is there."""

    async def snapshot(self, fragment: int) -> FragmentSnapshot:
        """Two values."""
        none, two = torch.zeros(0), torch.zeros(2)
        return FragmentSnapshot(
            exchange=fragment,
            fragment=fragment,
            theta_P=two,
            anchor_P=two,
            anchor_root=NO_DIGEST,
            tokens=1,
            step=1,
            phi_P=two,
            residual_P=none,
        )

    async def clip_or_reject(self, merge: Merge) -> Merge:
        """No fragment is clipped or rejected."""
        return merge

    def note_offer(self, window: int, offer: Offer) -> bool:
        """List it."""
        return True

    async def merge(self, merge: Merge) -> bool:
        """Note it."""
        self.merged.append(merge)
        return self.is_applied


@pytest.mark.rule("N12")
@pytest.mark.parametrize("is_applied", [True, False])
async def test_a_merge_that_was_abandoned_is_not_counted(*, is_applied: bool) -> None:
    node, seat = a_trading_node(HOST), OneSeat(is_applied)
    await trade(node, seat, TradeFragment(STAGE, 0, ROUND, 0))
    assert [merge.scalars for merge in seat.merged] == [outer_scalars(seat.spec.outer, ROUND)]
    assert node.stats.solo == len(node.stats.notes) == len(node.report.events) == is_applied
    assert node.stats.trades == 0
