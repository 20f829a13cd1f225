"""A kept micro-batch is computed again by the stage it belongs to, or it is its keeper's fault."""

import pytest

from swarm.errors import PeerFault
from swarm.primitives.codec import replace
from swarm.training.messages import wire_digest
from swarm.training.record.restore import replay_microbatch
from swarm.training.record.window import ComputedMicrobatch, StepTaken
from swarm.training.shard import Shard
from swarm.types import StageIndex
from tests.training.logs import SPEC, recorded
from tests.training.pipeline import Swarm
from tests.training.replay import TOKENS

PLAN = Swarm(SPEC, replicas=2).plan


def kept(stage: int) -> ComputedMicrobatch:
    taken = next(e for e in recorded(stage)[0].events if isinstance(e, StepTaken))
    return taken.microbatches[0]


def replay(stage: int, computed: ComputedMicrobatch) -> Shard:
    shard = Shard.initial(SPEC, StageIndex(stage))
    replay_microbatch(shard, TOKENS, PLAN, 0, computed)
    return shard


def refused(stage: int, computed: ComputedMicrobatch) -> None:
    shard = Shard.initial(SPEC, StageIndex(stage))
    with pytest.raises(PeerFault):
        replay_microbatch(shard, TOKENS, PLAN, 0, computed)
    assert shard.is_between_steps


@pytest.mark.rule("T27")
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_microbatch_is_counted_once_and_alike(stage: int) -> None:
    records = [replay(stage, kept(stage)).step(PLAN, 0) for _ in range(2)]
    assert records[0] == records[1]
    assert records[0] is not None
    assert [record.microbatch_id for record in records[0].microbatches] == [
        kept(stage).microbatch_id
    ]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_messages_of_another_stage_are_refused(stage: int) -> None:
    one = kept(stage)
    for other in {0, 1, 2} - {stage}:
        refused(stage, kept(other))
    for name in ("request", "reply"):
        if getattr(one, name) is not None:
            refused(stage, replace(one, **{name: None}))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_messages_of_another_microbatch_are_refused(stage: int) -> None:
    one = kept(stage)
    refused(stage, replace(one, step=one.step + 1))
    for name in ("request", "reply"):
        message = getattr(one, name)
        if message is not None:
            refused(stage, replace(one, **{name: replace(message, microbatch=9)}))
            refused(stage, replace(one, **{name: replace(message, stage=3 - message.stage)}))


def test_an_origin_counts_only_its_own() -> None:
    refused(0, replace(kept(0), origin=1))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_payloads_that_make_no_sense_are_refused_and_nothing_is_counted(stage: int) -> None:
    one = kept(stage)
    for name in ("request", "reply"):
        message = getattr(one, name)
        if message is None:
            continue
        not_finite = b"\x80\x7f" * (len(message.payload) // 2)
        for payload in (not_finite, message.payload[:-2], b""):
            refused(stage, replace(one, **{name: replace(message, payload=payload)}))


@pytest.mark.rule("V12a")
@pytest.mark.parametrize("stage", [0, 1])
def test_a_gradient_for_other_activations_than_the_replay_gives_is_refused(stage: int) -> None:
    one = kept(stage)
    assert one.reply is not None
    other = wire_digest(bytes(len(one.reply.payload)))
    refused(stage, replace(one, reply=replace(one.reply, activations=other)))


def test_activations_of_another_shape_are_refused() -> None:
    one = kept(2)
    assert one.request is not None
    half = one.request.payload[: len(one.request.payload) // 2]
    refused(2, replace(one, request=replace(one.request, batch=2, payload=half)))
