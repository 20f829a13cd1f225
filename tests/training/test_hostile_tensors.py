"""What neighbours and partners send is refused and changes nothing, or is computed with and stays finite."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from swarm.config.spec import NANO
from swarm.errors import BadConfig, PeerFault
from swarm.gossip.codecs.activations import to_wire
from swarm.gossip.trade.payload import ReceivedFragment
from swarm.primitives.codec import encode
from swarm.primitives.codec import replace as changed
from swarm.training.averaging.outer_step import MERGED_MAX, Merge
from swarm.training.averaging.robust import Movements, clip_or_reject
from swarm.training.inference.sampling import KeyValueCache, advance
from swarm.training.inference.sessions import StageReply, inputs_of, outputs_of
from swarm.training.messages import NO_LOSS, MicroBatch, MicroBatchGrad
from swarm.training.model.stages import init_flat, plan_stages, stage_of
from swarm.training.record.checkpoint import decode_phi, phi_bytes
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, PeerId, StageIndex
from tests.ledger.edges import OFFER
from tests.training.inference.test_inference import MODEL
from tests.training.inference.test_inference import a_request as a_stage_request
from tests.training.pipeline import TEXT, a_spec
from tests.training.test_shard import PLAN, SCALARS, SPEC, a_request

TOKENS = np.frombuffer(TEXT, dtype=np.uint8)
FLOAT_MAX = float(torch.finfo(torch.float32).max)
BF16_MAX = float(torch.finfo(torch.bfloat16).max)
SHAPE = (SPEC.microbatch_size, SPEC.model.seq_len, SPEC.model.hidden_size)
NOT_NUMBERS = {"nan": b"\xc0\x7f", "inf": b"\x80\x7f", "-inf": b"\x80\xff"}
NUMBERS = [BF16_MAX, -BF16_MAX, 1e30, 1e19, 1e-38, 1e-40, 0.0]


def payload_of(value: float) -> bytes:
    """Activations or gradients that alternate between a value and its half."""
    x = torch.full(SHAPE, value)
    x[..., ::2] /= 2
    return to_wire(x)


def bent(payload: bytes) -> dict[str, bytes]:
    """What no honest peer sends."""
    lies = {name: bits + payload[2:] for name, bits in NOT_NUMBERS.items()}
    wide = np.frombuffer(payload, "<u2").astype("<u4").tobytes()
    return {**lies, "short": payload[:-2], "odd": payload + b"\0", "none": b"", "float32": wide}


def is_finite(shard: Shard) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in shard.state().tensors)


Job = Callable[[Shard, bytes], object]


def loss(shard: Shard, payload: bytes) -> object:
    return shard.loss(TOKENS, PLAN, a_request(0, payload), 0)


def forward(shard: Shard, payload: bytes) -> object:
    return shard.forward(TOKENS, PLAN, a_request(0, payload))


def backward(shard: Shard, payload: bytes) -> object:
    request: MicroBatch = a_request(0)
    _, passed = shard.forward(TOKENS, PLAN, request)
    answer = MicroBatchGrad.reply_to(request, 1, passed.record.out_activation, NO_LOSS, payload)
    return shard.backward(passed, answer)


JOBS: list[tuple[Job, int]] = [(loss, 1), (forward, 1), (backward, 1)]


def a_shard(job: Job) -> Shard:
    """The last stage of two for a loss, the middle one of three for what passes through."""
    spec = SPEC if job is loss else a_spec(stages=3)
    return Shard.initial(spec, StageIndex(1))


@pytest.mark.rule("S29")
@pytest.mark.parametrize("job", [job for job, _ in JOBS], ids=lambda job: job.__name__)
def test_what_is_no_tensor_of_this_run_is_refused_and_changes_nothing(job: Job) -> None:
    shard = a_shard(job)
    before = shard.components()
    for payload in bent(a_request(0).payload).values():
        with pytest.raises(PeerFault):
            job(shard, payload)
        assert shard.components() == before
        assert shard.is_between_steps


@pytest.mark.rule("S30")
@pytest.mark.parametrize("job", [job for job, _ in JOBS], ids=lambda job: job.__name__)
@pytest.mark.parametrize("value", NUMBERS)
def test_huge_and_tiny_numbers_leave_a_finite_state(job: Job, value: float) -> None:
    """Sums overflow inside; then the micro-batch is dropped, whole."""
    shard = a_shard(job)
    before = shard.components()
    for _ in range(3):
        try:
            job(shard, payload_of(value))
        except PeerFault:
            assert shard.is_between_steps
            assert shard.components() == before
    shard.step(PLAN, 0)
    assert is_finite(shard)
    job(shard, a_request(2).payload)  # an honest one still counts


def a_merge(shard: Shard, theta_hat: Tensor) -> Merge:
    snapshot, partner = shard.snapshot(0), PeerId(bytes(32))
    return Merge(
        snapshot=snapshot,
        theta_hat_P=theta_hat,
        weight_nano=NANO // 2,
        scalars=SCALARS,
        partner=partner,
        partner_seat=1,
        my_payload=NO_DIGEST,
    )


@pytest.mark.rule("T21")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_fragment_that_is_not_finite_changes_nothing(value: float) -> None:
    shard = a_shard(loss)
    merge = a_merge(shard, shard.snapshot(0).theta_P.clone())
    assert merge.theta_hat_P is not None
    before = shard.components()
    for bad in (merge.theta_hat_P[:-1], torch.full_like(merge.theta_hat_P, value)):
        with pytest.raises(PeerFault):
            shard.merge(replace(merge, theta_hat_P=bad))
        assert shard.components() == before


@pytest.mark.rule("S30", "T21")
@pytest.mark.parametrize("value", [FLOAT_MAX, -FLOAT_MAX, 1e12, 1e-45])
@pytest.mark.parametrize("is_final_averaging", [False, True])
def test_a_huge_fragment_is_a_step_alone_and_a_tiny_one_a_merge(
    value: float, *, is_final_averaging: bool
) -> None:
    shard, twin = a_shard(loss), a_shard(loss)
    theta_hat = torch.full_like(shard.snapshot(0).theta_P, value)
    merge = replace(a_merge(shard, theta_hat), is_final_averaging=is_final_averaging)
    record = shard.merge(merge)
    assert is_finite(shard)
    assert float(shard.params_P.abs().max()) <= MERGED_MAX
    if value > 1 or value < -1:
        assert record.weight_nano == 0
        twin.merge(
            replace(
                a_merge(twin, theta_hat), theta_hat_P=None, is_final_averaging=is_final_averaging
            )
        )
        assert torch.equal(shard.phi_P, twin.phi_P)


@pytest.mark.parametrize("limit_nano", [0, NANO * 3 // 2, 1_000 * NANO])
def test_absurd_distances_break_no_scale(limit_nano: int) -> None:
    """A partner at the edge of float32, again and again: the weight of the next honest one is a weight."""
    shard, movements = a_shard(loss), Movements()
    outer = changed(SPEC.outer, distance_max_nano=limit_nano)
    theta = shard.snapshot(0).theta_P

    def taken(theta_hat: Tensor) -> int:
        merge = a_merge(shard, theta_hat)
        moved = replace(merge.snapshot, tokens=8, phi_P=theta - 0.01)
        received = ReceivedFragment(changed(OFFER, tokens=8), b"", theta_hat)
        one = replace(merge, snapshot=moved, received=received)
        return clip_or_reject(one, movements, None, None, outer).weight_nano

    for value in (FLOAT_MAX, -FLOAT_MAX) * 6:
        assert 0 <= taken(torch.full_like(theta, value)) <= NANO // 2
    assert taken(theta + 0.01) == NANO // 2


@pytest.mark.parametrize("value", [FLOAT_MAX, -FLOAT_MAX, 1e-45])
def test_a_text_written_with_absurd_numbers_ends_in_a_refusal_or_in_numbers(value: float) -> None:
    spec = a_spec(stages=2)
    stage = stage_of(spec, 1)
    rows = torch.full((3, spec.model.hidden_size), value)
    params_P, cache = init_flat(stage.plan, spec.seed), KeyValueCache(stage.plan)
    out = advance(stage, params_P, cache, rows)
    assert out.shape == (spec.model.vocab_size,)
    assert bool(torch.isfinite(out).all())


def test_inference_reads_float32_and_nothing_else() -> None:
    first, last = plan_stages(MODEL, 2)
    rows = torch.linspace(-1, 1, 3 * 16).view(3, 16)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        raw = bytes(rows.to(dtype).view(torch.uint8).numpy().tobytes())
        with pytest.raises(PeerFault):
            inputs_of(last, changed(a_stage_request(1, rows), payload=raw))
        with pytest.raises(PeerFault):
            outputs_of(first, 3, encode(StageReply(raw)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_checkpoint_that_is_not_finite_or_of_another_dtype_is_refused(value: float) -> None:
    weights = torch.linspace(-1, 1, 64)
    assert torch.equal(decode_phi(phi_bytes(weights), 64), weights)
    bad = weights.clone()
    bad[17] = value
    for raw in (
        phi_bytes(bad),
        weights.double().numpy().tobytes(),
        weights.half().numpy().tobytes(),
        b"",
    ):
        with pytest.raises(PeerFault):
            decode_phi(raw, 64)


def test_a_folder_of_another_dtype_is_refused(tmp_path: Path) -> None:
    from swarm.training.hf.weights import read_header

    head = b'{"w": {"dtype": "%s", "shape": [2], "data_offsets": [0, %d]}}'
    for dtype, size in ((b"F64", 16), (b"I32", 8), (b"F8_E4M3", 2), (b"BOOL", 2), (b"U8", 2)):
        with pytest.raises(BadConfig, match="weights are F32, F16, BF16"):
            read_header(head % (dtype, size), 10_000, str(tmp_path))
