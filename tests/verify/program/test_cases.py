"""Everything that a program of an honest step takes and gives is what is committed around it."""

import pytest

from swarm.types import Digest
from swarm.verify.program.cases import StepRoots, draw_of, microbatch_case, update_case
from swarm.verify.program.computed import Step
from swarm.verify.program.opened import step_number
from tests.training.pipeline import TEXT
from tests.verify.program.scenes import scene, steps_in


def roots_of(step: Step, number: int) -> StepRoots:
    return StepRoots(
        step=number,
        seen=step.seen,
        before=step.before,
        after=step.after,
        piece=step.digest(step.update, "piece"),
        gradients=tuple(step.digest(part, "gradient") for part in range(step.update)),
    )


@pytest.mark.rule("V42")
@pytest.mark.parametrize("stage", [0, 1])
def test_an_honest_trace_has_every_digest_that_it_is_bound_to(stage: int) -> None:
    here = scene(stage)
    for event in steps_in(here.account):
        step = Step(here.window, here.log, event, here.account)
        roots = roots_of(step, step_number(here.window, here.account, event))
        for part, record in enumerate(step.records):
            case = microbatch_case(here.log.facts, roots, record, part, Digest(bytes(32)))
            assert all(step.roots[part][node] == case.bound[node] for node in case.bound)
            free = set(case.program.inputs.values()) - set(case.bound) - set(case.texts)
            assert not free, "every input is bound"
        case = update_case(here.log.facts, roots, Digest(bytes(32)))
        assert all(step.roots[step.update][node] == case.bound[node] for node in case.bound)
        assert set(case.program.inputs.values()) <= set(case.bound)


@pytest.mark.rule("V42")
@pytest.mark.parametrize(("stage", "name"), [(0, "ids"), (1, "labels")])
def test_tokens_are_those_of_the_text_at_the_samples_drawn(stage: int, name: str) -> None:
    here = scene(stage)
    event = steps_in(here.account)[0]
    step = Step(here.window, here.log, event, here.account)
    roots = roots_of(step, step_number(here.window, here.account, event))
    record = step.records[0]
    case = microbatch_case(here.log.facts, roots, record, 0, Digest(bytes(32)))
    node = case.program.inputs[name]
    values, positions = step.values(0)[node].tolist(), case.texts[node].positions
    assert [TEXT[position] for position in positions] == values
    ahead = 0 if name == "ids" else 1
    assert positions[0] == draw_of(here.log.facts, record)[0] + ahead
