"""An opening leaves out what both sides know: nothing else, and no side gains by leaving out more."""

import pytest

from swarm.errors import BadEncoding, PeerFault
from swarm.primitives.codec import encode, replace
from swarm.verify.program.account import result_of
from swarm.verify.program.brief import brief, whole
from swarm.verify.program.dispute import Dispute, moved, opened
from swarm.verify.program.opened import OpenStep
from swarm.verify.program.players import Solver
from tests.verify.program.scenes import ANYWHERE, Scene, scene, steps_in


def disputes() -> list[tuple[Scene, Dispute, int]]:
    """Of every step of a window: a dispute in which the accuser has other states from there on."""
    here, found = scene(0, 1), list[tuple[Scene, Dispute, int]]()
    for event in steps_in(here.account):
        states = (*here.account.states[:event], *[ANYWHERE] * len(here.account.states[event:]))
        other = replace(here.account, states=states)
        claim = result_of(other).claim
        found.append((here, opened(here.window, other, claim), event))
    return found


def opening(here: Scene, dispute: Dispute) -> OpenStep:
    move = Solver(here.window, here.log).move(dispute)
    assert isinstance(move, OpenStep)
    return move


@pytest.mark.rule("V42")
def test_what_both_know_is_left_out_and_put_back() -> None:
    for here, dispute, event in disputes():
        move = opening(here, dispute)
        assert move.account.start == b""
        assert not any(move.account.states[:event])
        full = whole(move, dispute.account)
        ends = {event, len(here.account.states) - 1}
        assert result_of(full.account) == result_of(here.account)
        assert all(full.account.states[at] == here.account.states[at] for at in ends)
        assert full.account.leaves == here.account.leaves
        assert all(one == was for one, was in zip(move.after, full.after, strict=True) if one)
        assert brief(full, dispute.account) == move
        assert len(encode(move)) + 160 < len(encode(full))
        taken = moved(here.window, dispute, full, is_solver=True)
        assert taken == moved(here.window, dispute, move, is_solver=True), "nobody must be brief"


@pytest.mark.rule("V42")
def test_attack_an_opening_that_leaves_out_what_the_accuser_has_not_said() -> None:
    for here, dispute, event in disputes():
        move = opening(here, dispute)
        account, count = move.account, len(move.account.states)
        none = (b"",) * count
        for bad in (
            replace(move, account=replace(account, states=none)),
            replace(move, account=replace(account, states=none[1:])),
            replace(move, account=replace(account, leaves=none)),
            replace(move, account=replace(account, kinds=account.kinds[::-1])),
            replace(move, account=replace(account, kinds=(*account.kinds, 3))),
            replace(move, account=replace(account, states=(), leaves=(), kinds=())),
            replace(move, account=replace(account, states=(*account.states[:-1], b""))),
            replace(move, after=move.after[1:]),
            replace(move, after=(b"",) * len(move.after)),
            replace(move, before=(b"",) * len(move.before)),
        ):
            with pytest.raises(PeerFault):
                moved(here.window, dispute, bad, is_solver=True)
        late = replace(here.account, kinds=(), leaves=(), states=())
        if event:
            with pytest.raises(BadEncoding):
                whole(move, late)
