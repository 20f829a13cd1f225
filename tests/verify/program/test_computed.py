"""An event that is computed by its programs is the event that was trained."""

import pytest

from swarm.primitives.merkle import merkle_root
from swarm.training.record.window import AnchorSet, StepTaken
from swarm.verify.program.account import Kind
from swarm.verify.program.computed import Copied, Merged, Step
from swarm.verify.transcript import merge_leaf, microbatch_leaf
from tests.verify.program.scenes import CODEC, TWO_TENSORS, TWO_TRADES, scene, steps_in
from tests.verify.program.test_events import events


@pytest.mark.rule("V42")
@pytest.mark.parametrize("stage", [0, 1])
def test_a_step_ends_in_the_state_of_training_and_has_its_leaves(stage: int) -> None:
    here = scene(stage)
    for event in steps_in(here.account):
        step = Step(here.window, here.log, event, here.account)
        assert merkle_root(step.after) == here.account.states[event]
        leaves = [one.leaf for one in step.opened(here.account).microbatches]
        assert leaves == [microbatch_leaf(record) for record in step.records]


@pytest.mark.rule("V42")
@pytest.mark.parametrize("codec", [CODEC, TWO_TENSORS, TWO_TRADES])
def test_a_copy_and_a_merge_end_in_the_state_of_training_and_have_their_leaves(codec: str) -> None:
    for here, event in events(codec, Kind.COPY, Kind.MERGE):
        if here.account.kinds[event] == Kind.COPY:
            after = Copied(here.window, here.log, event).said.after
        else:
            merged = Merged(here.window, here.log, event)
            after = merged.said.after
            assert merge_leaf(merged.said.record) == here.account.leaves[event]
        assert merkle_root(after) == here.account.states[event]


@pytest.mark.rule("V42")
def test_the_states_around_an_anchor_and_an_end_are_those_of_the_account() -> None:
    for here, event in events(CODEC, Kind.ANCHOR, Kind.END):
        before, after = here.log.around(event)
        assert merkle_root(before) == here.account.before(event)
        assert merkle_root(after) == here.account.states[event]


def test_a_log_is_replayed_up_to_an_event() -> None:
    here = scene(0)
    shard, first = here.log.before(0)
    assert isinstance(first, AnchorSet)
    assert merkle_root(shard.components()) == here.account.start
    last = steps_in(here.account)[-1]
    shard, step = here.log.before(last)
    assert isinstance(step, StepTaken)
    assert merkle_root(shard.components()) == here.account.before(last)
    _, none = here.log.before(len(here.account.kinds))
    assert none is None
