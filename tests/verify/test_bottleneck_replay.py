"""What crosses a cut at low rank is signed, hashed and computed again like anything else, bit for bit."""

from functools import cache, partial

import pytest
import torch

from swarm.errors import BadEncoding, PeerFault
from swarm.gossip.codecs.activations import to_wire
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED
from swarm.training.messages import (
    MicroBatch,
    MicroBatchGrad,
    activation_bytes,
    check_fit,
    check_grad,
    sign_grad,
    sign_microbatch,
    wire_digest,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.training.shard import Shard
from swarm.types import StageIndex
from tests.training.pipeline import a_spec
from tests.verify.logs import steps_of, with_microbatch
from tests.verify.windows import STEPS, TOKENS, WINDOW_STEPS, Harvest, harvest

RANK = 5
INFINITE = b"\x80\x7f"


@cache
def a_crop() -> Harvest:
    """Three stages, so that one in the middle takes from a bottleneck and sends through another."""
    spec = a_spec(stages=3, numerics="seq-f32/1", form="int4", rank=RANK)
    checks = replace(spec.checks, window_steps=WINDOW_STEPS)
    return harvest(
        replace(spec, inner_steps_max=STEPS, checks=checks), rounds=1, loss=0.1, seconds=8.0
    )


def request_and_reply() -> tuple[Harvest, MicroBatch, MicroBatchGrad]:
    """A micro-batch from stage 0 to 1 and its answer, as a stage in the middle kept them."""
    crop = a_crop()
    one = steps_of(crop.segments[0, 1, 0].windows[0])[0].microbatches[0]
    assert one.request is not None
    two = steps_of(crop.segments[0, 0, one.request.source].windows[0])
    reply = next(
        kept.reply
        for step in two
        for kept in step.microbatches
        if kept.microbatch_id == one.microbatch_id
    )
    assert reply is not None
    return crop, one.request, reply


@pytest.mark.rule("V16", "T5a")
def test_honest_windows_replay_to_their_solvers_leaves_from_their_bytes() -> None:
    crop = a_crop()
    for stage in range(3):
        for segment in (crop.segments[0, stage, index] for index in (0, 1)):
            for data, claim in zip(segment.windows, segment.claims(), strict=True):
                raw = b"".join(bytes(piece) for piece in encode_window(data))
                assert crop.answer(decode_window(crop.spec, raw)) == claim


@pytest.mark.rule("T5a")
def test_few_bytes_of_a_token_cross_a_cut() -> None:
    crop, request, reply = request_and_reply()
    tokens = request.batch * request.length
    blocks = -(-tokens * RANK // 128)
    assert request.features == RANK
    assert len(request.payload) == len(reply.payload) == 2 * blocks + tokens * RANK // 2
    assert activation_bytes(crop.spec) == len(request.payload)


@pytest.mark.rule("V16", "T5a")
def test_activations_that_were_not_computed_are_seen_by_a_replay() -> None:
    """Signed again by their sender, so that only computing shows it: the gradient answers others."""
    crop, request, _ = request_and_reply()
    segment = crop.segments[0, 1, 0]
    secret = crop.secrets[0, request.source]
    bent = bytearray(request.payload)
    bent[-1] ^= 0x10
    lie = sign_microbatch(
        secret, segment.plan.chain, segment.plan.run_digest, replace(request, payload=bytes(bent))
    )
    data = with_microbatch(segment.windows[0], 0, 0, request=lie)
    assert crop.answer(data) != segment.claims()[0]


@pytest.mark.rule("S29", "T5a")
@pytest.mark.parametrize(
    ("features", "num_values"),
    [(RANK, RANK - 1), (RANK, RANK + 1), (RANK - 1, RANK - 1), (RANK + 1, RANK + 1), (16, 16)],
)
def test_another_rank_is_refused_on_arrival(features: int, num_values: int) -> None:
    crop, request, reply = request_and_reply()
    shape = (request.batch, request.length, num_values)
    payload = to_wire(torch.ones(shape), "int4")
    with pytest.raises(BadEncoding):
        check_fit(crop.spec, replace(request, features=features, payload=payload))
    plan = crop.segments[0, 1, 0].plan
    secret, chain, digest = crop.secrets[1, reply.destination], plan.chain, plan.run_digest
    wire = wire_digest(request.payload)
    lie = sign_grad(secret, chain, digest, replace(reply, payload=payload))
    if num_values != RANK:
        with pytest.raises(BadEncoding):
            check_grad(chain, digest, crop.spec, request, wire, lie, secret.peer)


@pytest.mark.rule("S29", "T5a")
@pytest.mark.parametrize("form", ["bf16", "int8"])
def test_another_form_is_refused_on_arrival(form: str) -> None:
    crop, request, _ = request_and_reply()
    shape = (request.batch, request.length, RANK)
    with pytest.raises(BadEncoding):
        check_fit(crop.spec, replace(request, payload=to_wire(torch.ones(shape), form)))


@pytest.mark.rule("S29", "T5a")
@pytest.mark.parametrize("stage", [1, 2])
def test_what_is_not_finite_is_refused_and_nothing_is_counted(stage: int) -> None:
    crop, request, _ = request_and_reply()
    plan = crop.segments[0, 1, 0].plan
    shard = Shard.initial(crop.spec, StageIndex(stage))
    before = shard.components()
    bad = replace(request, stage=StageIndex(stage), payload=INFINITE + request.payload[2:])
    job = partial(shard.loss, seat=0) if stage == 2 else shard.forward
    with pytest.raises(PeerFault):
        job(TOKENS, plan, bad)
    assert shard.components() == before
    assert shard.is_between_steps


@pytest.mark.rule("V16")
@pytest.mark.parametrize("field", ["request", "reply"])
def test_a_log_with_another_rank_is_refused(field: str) -> None:
    crop = a_crop()
    segment = crop.segments[0, 1, 0]
    one = steps_of(segment.windows[0])[0].microbatches[0]
    message = getattr(one, field)
    shorter = replace(message, payload=message.payload[:-2])
    assert crop.answer(with_microbatch(segment.windows[0], 0, 0, **{field: shorter})) == REFUSED
