"""A challenger shows other inputs in the log than its solver has opened, and nothing else convicts so."""

import dataclasses

import pytest

from swarm.errors import PeerFault
from swarm.primitives.codec import replace
from swarm.types import Digest
from swarm.verify.inputs import InputTree
from swarm.verify.program.account import Kind
from swarm.verify.program.dispute import Dispute, Phase, PickPart, moved
from swarm.verify.program.opened import OpenMicrobatch
from swarm.verify.program.players import Solver
from swarm.verify.program.shown import ShowInputs, inputs_opened, merge_opened
from tests.verify.program.scenes import ANYWHERE, Scene, manifest_for, scene
from tests.verify.program.test_events import contradicted

STAGES = (0, 1)


def at_a_microbatch(here: Scene) -> tuple[Dispute, int]:
    """A dispute in which the second micro-batch of a step is open, and the number of the step's event."""
    event = here.account.kinds.index(Kind.STEP)
    solver, dispute = Solver(here.window, here.log), contradicted(here, event)
    dispute = moved(here.window, dispute, solver.move(dispute), is_solver=True)
    dispute = moved(here.window, dispute, PickPart(1), is_solver=False)
    dispute = moved(here.window, dispute, solver.move(dispute), is_solver=True)
    assert isinstance(dispute.microbatch, OpenMicrobatch)
    return dispute, event


def shown_of(here: Scene, event: int, part: int) -> ShowInputs:
    """A micro-batch of a step, as the log of the scene has it."""
    tree = InputTree(here.log.data)
    return ShowInputs(
        manifest=here.manifest,
        event=tree.events[event],
        path=tree.path(event),
        microbatch=tree.microbatch(event, part),
        microbatch_path=tree.microbatch_path(event, part),
    )


@pytest.mark.rule("V64")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "changes",
    [
        {"in_activation": ANYWHERE},
        {"in_gradient": ANYWHERE},
        {"source": 7},
        {"destination": 7},
        {"microbatch": 9},
    ],
    ids=str,
)
def test_attack_a_micro_batch_with_another_input_than_was_served(
    stage: int, changes: dict[str, object]
) -> None:
    here = scene(stage)
    dispute, event = at_a_microbatch(here)
    same = shown_of(here, event, 1)
    assert dispute.microbatch is not None
    assert inputs_opened(dispute.microbatch) == same.microbatch
    with pytest.raises(PeerFault, match="inputs of the log"):
        moved(here.window, dispute, same, is_solver=False)
    lied = replace(dispute, microbatch=replace(dispute.microbatch, **changes))
    assert moved(here.window, lied, same, is_solver=False).phase == Phase.GUILTY
    for bent in (
        shown_of(here, event, 0),
        replace(same, microbatch_path=()),
        replace(same, path=()),
        replace(same, microbatch=None),
        replace(same, microbatch=replace(same.microbatch, **changes)),
        replace(same, manifest=replace(same.manifest, inputs=Digest(ANYWHERE))),
        ShowInputs(same.manifest),
    ):
        with pytest.raises(PeerFault):
            moved(here.window, lied, bent, is_solver=False)
    with pytest.raises(PeerFault):
        moved(here.window, lied, same, is_solver=True)


@pytest.mark.rule("V64")
def test_attack_a_step_that_drops_or_counts_something_else() -> None:
    here = scene(1)
    dispute, event = at_a_microbatch(here)
    opened, shown = dispute.opened, shown_of(here, event, 1)
    assert opened is not None
    for changes in (
        {"dropped": ((0, 0, 0),)},
        {"microbatches": opened.microbatches[:-1]},  # type: ignore[union-attr]
    ):
        lied = replace(dispute, opened=replace(opened, **changes))
        assert moved(here.window, lied, shown, is_solver=False).phase == Phase.GUILTY


@pytest.mark.rule("V64")
def test_attack_the_manifest_of_another_window_or_of_another_peer_shows_nothing() -> None:
    here, other = scene(0), scene(0, 1)
    dispute, event = at_a_microbatch(here)
    lied = replace(dispute, start=ANYWHERE)
    for manifest in (other.manifest, manifest_for(here.log, scene(1).secret)):
        with pytest.raises(PeerFault):
            moved(here.window, lied, ShowInputs(manifest), is_solver=False)
    assert (
        moved(here.window, lied, ShowInputs(here.manifest), is_solver=False).phase == Phase.GUILTY
    )
    nobody = dataclasses.replace(here.window.seating, seats=())
    window = dataclasses.replace(here.window, seating=nobody)
    with pytest.raises(PeerFault):
        moved(window, lied, ShowInputs(here.manifest), is_solver=False)
    assert event >= 0


@pytest.mark.rule("V64")
def test_what_a_merge_takes_is_what_its_log_says() -> None:
    seen = 0
    for number in range(3):
        here = scene(0, number)
        tree = InputTree(here.log.data)
        for event, kind in enumerate(here.account.kinds):
            if kind == Kind.MERGE:
                said = Solver(here.window, here.log).traded(event).said
                assert merge_opened(said) == tree.events[event]  # type: ignore[arg-type]
                seen += 1
    assert seen
