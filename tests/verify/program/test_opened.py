"""A step that is opened is the one in the account, in all that no program decides."""

import pytest

from swarm.errors import PeerFault
from swarm.primitives.codec import replace
from swarm.verify.program.computed import Step
from swarm.verify.program.opened import check_microbatch, check_step, open_microbatch, step_case
from tests.verify.program.scenes import Scene, scene, steps_in

HASH = b"\x05" * 32


def first_step(here: Scene) -> tuple[int, Step]:
    event = steps_in(here.account)[0]
    return event, Step(here.window, here.log, event, here.account)


@pytest.mark.parametrize("stage", [0, 1])
def test_an_honest_step_is_what_its_account_says_and_binds_its_programs(stage: int) -> None:
    here = scene(stage)
    event, step = first_step(here)
    said = step.opened(here.account)
    check_step(here.window, here.account, event, said)
    for part, record in enumerate(step.records):
        shown = open_microbatch(record)
        assert shown.record == record
        check_microbatch(here.window.facts, said.microbatches[part].leaf, shown)
        case = step_case(here.window, said, step.number, part, shown)
        assert all(step.roots[part][node] == case.bound[node] for node in case.bound)
    update = step_case(here.window, said, step.number, step.update, None)
    assert all(step.roots[step.update][node] == update.bound[node] for node in update.bound)


@pytest.mark.parametrize(
    "change",
    [
        {"seen": 99},
        {"tokens": (1, 1, 1)},
        {"piece": HASH},
        {"piece": b""},
        {"dropped": ((0, 0, 1),)},
        {"microbatches": ()},
        {"update": b"short"},
        {"after": (HASH,) * 10},
    ],
    ids=str,
)
def test_a_step_that_contradicts_its_account_is_refused(change: dict[str, object]) -> None:
    here = scene(1)
    event, step = first_step(here)
    said = replace(step.opened(here.account), **change)
    with pytest.raises(PeerFault):
        check_step(here.window, here.account, event, said)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": 7},
        {"step": -1},
        {"in_activation": HASH},
        {"out_gradient": b""},
        {"source": 7},
        {"sample_ids_root": HASH},
    ],
    ids=str,
)
def test_another_microbatch_than_the_one_in_the_step_is_refused(change: dict[str, object]) -> None:
    here = scene(1)
    _, step = first_step(here)
    said = replace(open_microbatch(step.records[0]), **change)
    leaf = step.opened(here.account).microbatches[0].leaf
    with pytest.raises(PeerFault):
        check_microbatch(here.window.facts, leaf, said)
