"""The map counts what was merged: a trade that the end of its segment overtook is none."""

from types import SimpleNamespace as Some
from typing import Any

import pytest

from swarm.node.control.planner import TradeFragment
from swarm.node.seat.trade import trade
from swarm.training.averaging.outer_step import outer_scalars
from swarm.types import RoundIndex, StageIndex
from tests.node.launch.test_retention import a_spec


@pytest.mark.rule("N12")
@pytest.mark.parametrize("is_applied", [True, False])
async def test_a_merge_that_was_abandoned_is_not_counted(*, is_applied: bool) -> None:
    async def reach(*_: object) -> None:
        pass

    async def snapshot(_: int) -> object:
        return None

    async def merge(given: Any) -> bool:  # noqa: ANN401
        assert given.scalars == outer_scalars(a_spec().outer, 3)
        return is_applied

    tally, said = Some(notes=[], trades=0, solo=0), list[object]()
    context: Any = Some(
        run=Some(spec=a_spec()), me=None, tally=tally, report=lambda *parts: said.append(parts)
    )

    async def doubted(given: Any) -> Any:  # noqa: ANN401
        return given

    plan = Some(round=3, is_consensus=False, rosters=((),))
    runner: Any = Some(reach=reach, snapshot=snapshot, doubted=doubted, merge=merge, plan=plan)
    await trade(
        context,
        runner,
        TradeFragment(StageIndex(0), 0, RoundIndex(3), 0, None, weight_allowed=False),
    )
    assert tally.solo == len(tally.notes) == len(said) == is_applied
    assert tally.trades == 0
