"""An honest solver can open every step."""

import pytest

from swarm.errors import PeerFault
from swarm.primitives.codec import replace
from swarm.verify.program.dispute import Phase, moved, opened
from swarm.verify.program.opened import OpenStep
from swarm.verify.program.players import Solver
from tests.verify.program.scenes import ANYWHERE, scene, steps_in


@pytest.mark.rule("V42")
@pytest.mark.parametrize(("stage", "number"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])
def test_an_honest_solver_can_open_every_step(stage: int, number: int) -> None:
    here = scene(stage, number)
    for event in steps_in(here.account):
        states = (*here.account.states[:event], *[ANYWHERE] * len(here.account.states[event:]))
        other = replace(here.account, states=states)
        claim = here.against(other).claim
        dispute = opened(here.window, other, claim)
        solver = Solver(here.window, here.log)
        move = solver.move(dispute)
        assert isinstance(move, OpenStep)
        after = moved(here.window, dispute, move, is_solver=True)
        assert (after.phase, after.event) == (Phase.PART, event)
        with pytest.raises(PeerFault):
            moved(here.window, dispute, replace(move, update=b""), is_solver=True)
