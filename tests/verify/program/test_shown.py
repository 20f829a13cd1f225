"""A challenger shows other inputs in the log than its solver has opened, and nothing else convicts so."""

import dataclasses
from collections.abc import Callable

import pytest

from swarm.errors import OtherBits, PeerFault
from swarm.primitives.codec import replace
from swarm.primitives.edges import sent_root
from swarm.training.messages import sign_grad
from swarm.training.record.window import StepTaken
from swarm.types import Digest
from swarm.verify.inputs import InputTree
from swarm.verify.program.account import Kind, result_of
from swarm.verify.program.computed import Log
from swarm.verify.program.dispute import Dispute, Phase, PickPart, moved
from swarm.verify.program.opened import OpenMicrobatch
from swarm.verify.program.players import Challenger, Solver
from swarm.verify.program.shown import ShowInputs, inputs_opened, merge_opened
from tests.verify.program.scenes import ANYWHERE, CODEC, Scene, manifest_for, scene, trained
from tests.verify.program.test_dispute import play
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


MARKER = b"\x0c" * 32


def answered_otherwise(here: Scene) -> Log:
    """The log of a solver that sent something else up for a micro-batch than its weights give."""
    events, secrets = list(here.log.data.events), trained(CODEC).secrets
    at = next(n for n, event in enumerate(events) if isinstance(event, StepTaken))
    taken = events[at]
    assert isinstance(taken, StepTaken)
    first, *others = taken.microbatches
    assert first.reply is not None
    plan, bare = here.log.plan, replace(first.reply, activations=Digest(ANYWHERE))
    above = secrets[1, first.reply.destination]
    reply = sign_grad(above, plan.chain, plan.run_digest, bare)
    events[at] = replace(taken, microbatches=(replace(first, reply=reply), *others))
    data = dataclasses.replace(here.log.data, events=tuple(events))
    return dataclasses.replace(here.log, data=data)


def listed_otherwise(here: Scene) -> Log:
    """The same log, and a list that has other bytes of a micro-batch of its first step."""
    segment = trained(CODEC).segments[1, 0, 0]
    step = next(event for event in here.log.data.events if isinstance(event, StepTaken))
    mine = step.microbatches[0].microbatch_id
    sent = tuple(
        replace(one, up=ANYWHERE) if one.place[1:] == mine and not one.kind else one
        for one in segment.log.sent
    )
    assert sent != segment.log.sent
    return dataclasses.replace(here.log, sent=sent)


@pytest.mark.rule("V66", "V12a", "S16")
@pytest.mark.parametrize("forge", [answered_otherwise, listed_otherwise])
def test_attack_a_solver_that_computes_rightly_and_sends_something_else(
    forge: Callable[[Scene], Log],
) -> None:
    """Its leaves are honest, and what it sent is not: what it signed of that convicts it."""
    here = scene(0)
    log = forge(here)
    seating = dataclasses.replace(here.window.seating, sent_root=sent_root(log.sent))
    window = dataclasses.replace(here.window, seating=seating)
    with pytest.raises(OtherBits):
        log.account_with(b"")
    account = log.account_with(MARKER)
    assert result_of(account).claim != here.window.claim
    assert account.states[-1] == MARKER
    served = Challenger(window, log, account, manifest_for(here.log, here.secret, log.data))
    played = play(window, Solver(here.window, here.log), served)
    assert played.dispute.phase == Phase.GUILTY
    assert isinstance(played.moves[-1], ShowInputs)
    # Whoever was served the honest log, and says the same, has no move.
    false = Challenger(here.window, here.log, account, here.manifest)
    lost = play(here.window, Solver(here.window, here.log), false)
    assert lost.dispute.phase != Phase.GUILTY
    assert not lost.dispute.is_solvers_turn


@pytest.mark.rule("V66")
def test_attack_the_marker_of_one_verifier_is_not_that_of_another() -> None:
    """A solver that could write it would be agreed with."""
    log = answered_otherwise(scene(0))
    claims = {result_of(log.account_with(bytes([n]) * 32)).claim for n in range(3)}
    assert len(claims) == 3
