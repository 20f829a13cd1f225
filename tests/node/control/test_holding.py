"""What a node has to do about the checkpoints that it holds follows from final state and disk."""

import pytest

from swarm.ledger.state.records import RunPhase
from swarm.ledger.transition.storage import proof_end
from swarm.node.control.holding import (
    FetchHeld,
    HoldingDuty,
    RefuseHeld,
    SayHeld,
    ShowHeld,
    plan_holding,
    show_height,
)
from swarm.primitives.codec import replace
from swarm.types import Digest, PeerId
from tests.ledger.storing import SPEC, STAGE, Kept

SPACE = 1 << 30


def due(kept: Kept, peer: PeerId, here: set[Digest], limit: int = SPACE) -> list[HoldingDuty]:
    found = plan_holding(kept.state, kept.run, peer, here.__contains__, limit)
    return [duty for duty in found if duty.stage == STAGE and duty.checkpoint == kept.checkpoint]


@pytest.mark.rule("N23")
def test_a_holder_fetches_then_says_so_then_shows_what_is_drawn() -> None:
    kept, here = Kept(), set[Digest]()
    peer = kept.draw()[0]
    assert due(kept, kept.checkpoint.peer, here) == [], "it was not drawn"
    assert due(kept, peer, here) == [FetchHeld(STAGE, kept.checkpoint)]
    here.add(kept.checkpoint.phi_root)
    assert due(kept, peer, here) == [SayHeld(STAGE, kept.checkpoint)]
    kept.submit(kept.receipt(peer))
    assert due(kept, peer, here) == []
    kept.ask()
    kept.to_height(show_height(kept.state.params, kept.run, STAGE, kept.storage, peer))
    assert due(kept, peer, here) == [ShowHeld(STAGE, kept.checkpoint, kept.storage)]
    kept.submit(kept.proof(peer))
    assert due(kept, peer, here) == []


@pytest.mark.rule("N23")
def test_a_proof_is_due_early_but_not_of_all_at_once_and_never_too_late() -> None:
    kept = Kept()
    peers = kept.hold()
    kept.ask()
    params, storage = kept.state.params, kept.storage
    end = proof_end(params, storage)
    heights = [show_height(params, kept.run, STAGE, storage, peer) for peer in peers]
    assert all(
        storage.asked <= height < storage.asked + (end - storage.asked) // 2 for height in heights
    )
    assert len(set(heights)) > 1
    here = {kept.checkpoint.phi_root}
    kept.to_height(end - 2)
    assert due(kept, peers[0], here)
    kept.to_height(end - 1)
    assert due(kept, peers[0], here) == [], "the next block takes none"


@pytest.mark.rule("N23")
def test_a_holder_that_lost_its_file_fetches_it_again() -> None:
    kept = Kept()
    peer = kept.hold()[0]
    assert due(kept, peer, set()) == [FetchHeld(STAGE, kept.checkpoint)]


@pytest.mark.rule("N24")
def test_what_is_more_than_a_node_may_hold_is_refused_and_what_it_keeps_anyway_is_not_counted() -> (
    None
):
    starts = SPEC.starts[:1] * 3
    model = replace(SPEC.model, num_layers=3)
    spec = replace(SPEC, num_stages=3, model=model, starts=starts)
    kept = Kept(spec, joiners=8, sizes=(20_000,) * 3)
    kept.draw()
    run, state = kept.run, kept.state
    for peer in {seat.peer for roster in run.seats for seat in roster}:
        mine = {seat.stage for roster in run.seats for seat in roster if seat.peer == peer}
        own = mine | {(stage + 1) % 3 for stage in mine}
        for duty in plan_holding(state, run, peer, lambda _: False, 19_999):
            assert isinstance(duty, FetchHeld if duty.stage in own else RefuseHeld)
        for duty in plan_holding(state, run, peer, lambda _: False, 20_000):
            assert isinstance(duty, FetchHeld)
    posted = {c.phi_root for stage in run.checkpoints for c in stage}
    far = next(
        (peer, duty)
        for peer in {seat.peer for roster in run.seats for seat in roster}
        for duty in plan_holding(state, run, peer, lambda _: False, 0)
        if isinstance(duty, RefuseHeld)
    )
    here = posted - {far[1].checkpoint.phi_root}
    assert RefuseHeld(far[1].stage, far[1].checkpoint) in plan_holding(
        state, run, far[0], lambda _: False, 0
    )
    full = plan_holding(state, run, far[0], here.__contains__, 20_000)
    assert not any(isinstance(duty, RefuseHeld) for duty in full), "its own stages take no room"


@pytest.mark.rule("N23")
def test_a_settled_run_gives_nobody_a_duty() -> None:
    kept = Kept()
    peer = kept.draw()[0]
    over = replace(kept.run, phase=RunPhase.SETTLED)
    assert plan_holding(kept.state, over, peer, lambda _: False, SPACE) == []
