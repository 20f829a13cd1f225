"""A micro-batch is believed only in its place, in its shape, and from who signed it."""

import pytest
import torch

from swarm.config.spec import (
    CheckSpec,
    DataSpec,
    DeadlineSpec,
    ModelSpec,
    OptimizerSpec,
    OuterSpec,
    RunSpec,
    WireSpec,
)
from swarm.errors import BadEncoding, BadSignature, OutOfTurn, PeerFault
from swarm.primitives.codec import LONGEST_FRAME_BYTES, decode, encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.training.messages import (
    COUNT_MAX,
    LOSS_MICRO_MAX,
    NO_LOSS,
    MicroBatch,
    MicroBatchGrad,
    MicroBatchRefused,
    Refusal,
    activation_bytes,
    check_grad,
    check_microbatch,
    check_numbers,
    decode_answer,
    loss_micro_of,
    sign_grad,
    sign_microbatch,
    wire_digest,
    wire_of,
)
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex

CHAIN = Digest(b"\x0c" * 32)
BELOW = SecretKey.from_seed(b"\x01" * 32)
ABOVE = SecretKey.from_seed(b"\x02" * 32)
SPEC = RunSpec(
    name="tiny",
    model=ModelSpec(
        vocab_size=257,
        hidden_size=4,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        intermediate_size=8,
        seq_len=3,
        rope_theta=10_000,
        norm_eps_nano=10_000,
    ),
    num_stages=3,
    replicas_max=4,
    microbatch_size=2,
    microbatches_per_step=8,
    inner_steps_max=10,
    round_blocks=10,
    rounds=5,
    checkpoint_rounds=2,
    optimizer=OptimizerSpec(
        beta1_nano=9,
        beta2_nano=9,
        eps_nano=10,
        weight_decay_nano=0,
        clip_norm_nano=1,
        learning_rates_nano=(1,),
        learning_rate_stride=1,
    ),
    outer=OuterSpec(
        alpha_nano=0,
        beta_nano=0,
        gamma_nano=0,
        alpha_ramp_rounds=0,
        age_weights_nano=(),
        fragments=4,
        pull_only_rounds=1,
        num_retries=1,
        codec="int8",
    ),
    wire=WireSpec("bf16"),
    data=DataSpec("bytes", NO_DIGEST, 1, NO_DIGEST, 1),
    deadlines=DeadlineSpec(1, 1, 1),
    checks=CheckSpec(0, 10, 120),
    numerics="native",
    seed=0,
)
RUN = SPEC.digest


def unsigned() -> MicroBatch:
    return MicroBatch(
        run=RunIndex(1),
        round=RoundIndex(4),
        step=9,
        microbatch=7,
        origin=3,
        stage=StageIndex(2),
        source=5,
        destination=6,
        incarnation=1,
        version=12,
        budget_ms=900,
        batch=2,
        length=3,
        features=4,
        payload=bytes(48),
        signature=b"",
    )


REQUEST = sign_microbatch(BELOW, CHAIN, RUN, unsigned())
WIRE = wire_digest(REQUEST.payload)
ANSWER = sign_grad(
    ABOVE, CHAIN, RUN, MicroBatchGrad.reply_to(REQUEST, 5, WIRE, 2_100_000, b"\x01" * 48)
)


def check(message: MicroBatch, *, run: Digest = RUN, chain: Digest = CHAIN) -> Digest:
    return check_microbatch(chain, run, SPEC, message, BELOW.peer)


def check_answer(answer: MicroBatchGrad, sender: SecretKey = ABOVE) -> None:
    check_grad(CHAIN, RUN, SPEC, REQUEST, WIRE, answer, sender.peer)


def test_an_honest_micro_batch_and_its_gradient_are_believed() -> None:
    assert check(REQUEST) == WIRE
    check_answer(ANSWER)
    assert decode(MicroBatch, encode(REQUEST)) == REQUEST
    assert decode_answer(encode(ANSWER)) == ANSWER


def test_a_refusal_names_its_reason() -> None:
    for reason in Refusal:
        assert decode_answer(encode(MicroBatchRefused(reason))) == MicroBatchRefused(reason)
    with pytest.raises(BadEncoding):
        decode_answer(encode((2, 99)))


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": 0},
        {"stage": 3},
        {"step": 10},
        {"step": -1},
        {"round": 5},
        {"microbatch": 8},
        {"origin": -1},
        {"source": 1 << 60},
        {"incarnation": -1},
        {"budget_ms": -1},
        {"budget_ms": 1 << 40},
        {"batch": 3, "payload": bytes(72)},
        {"batch": 0, "payload": b""},
        {"batch": 1, "payload": bytes(24)},
        {"length": 2, "payload": bytes(32)},
        {"length": 4, "payload": bytes(64)},
        {"features": 5, "payload": bytes(60)},
        # As many bytes as the run's, in another shape.
        {"batch": 3, "length": 2},
        {"batch": 3},
        {"length": 2},
        {"features": 5},
        {"features": 2, "length": 6},
        {"payload": bytes(47)},
        {"payload": bytes(50)},
        {"payload": b""},
    ],
    ids=lambda changes: ",".join(f"{k}={v!r:.9}" for k, v in changes.items()),
)
def test_what_does_not_fit_the_run_is_refused_even_when_signed(changes: dict[str, object]) -> None:
    with pytest.raises(BadEncoding):
        check(sign_microbatch(BELOW, CHAIN, RUN, replace(unsigned(), **changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"run": 2},
        {"round": 3},
        {"step": 8},
        {"microbatch": 6},
        {"origin": 2},
        {"stage": 1},
        {"source": 4},
        {"destination": 4},
        {"incarnation": 2},
        {"version": 13},
        {"budget_ms": 901},
        {"payload": b"\x01" + bytes(47)},
        {"signature": bytes(64)},
        {"signature": b""},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_field_of_a_micro_batch_can_be_changed(changes: dict[str, object]) -> None:
    with pytest.raises(BadSignature):
        check(replace(REQUEST, **changes))


@pytest.mark.rule("S7")
def test_a_micro_batch_of_another_run_or_chain_or_sender_is_refused() -> None:
    for message, run, chain in (
        (REQUEST, NO_DIGEST, CHAIN),
        (REQUEST, RUN, NO_DIGEST),
        (sign_microbatch(ABOVE, CHAIN, RUN, unsigned()), RUN, CHAIN),
    ):
        with pytest.raises(BadSignature):
            check(message, run=run, chain=chain)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"step": 8}, OutOfTurn),
        ({"version": 13}, OutOfTurn),
        ({"origin": 0}, OutOfTurn),
        ({"destination": 0}, OutOfTurn),
        ({"activations": wire_digest(bytes(47))}, OutOfTurn),
        ({"activations": b""}, OutOfTurn),
        ({"payload": bytes(46)}, BadEncoding),
        ({"tokens": 5}, BadEncoding),
        ({"loss_micro": -2}, BadEncoding),
        ({"loss_micro": LOSS_MICRO_MAX + 1}, BadEncoding),
    ],
    ids=str,
)
def test_a_gradient_for_something_else_is_refused(
    changes: dict[str, object], fault: type[PeerFault]
) -> None:
    lie = sign_grad(ABOVE, CHAIN, RUN, replace(ANSWER, **changes))
    with pytest.raises(fault):
        check_answer(lie)


@pytest.mark.parametrize(
    "changes", [{"loss_micro": NO_LOSS}, {"payload": bytes(48)}, {"signature": bytes(64)}]
)
def test_no_field_of_a_gradient_can_be_changed(changes: dict[str, object]) -> None:
    with pytest.raises(BadSignature):
        check_answer(replace(ANSWER, **changes))


def test_a_request_and_its_answer_are_signed_under_different_purposes() -> None:
    with pytest.raises(BadSignature):
        check_answer(replace(ANSWER, signature=REQUEST.signature), BELOW)


@pytest.mark.rule("T3a")
def test_a_gradient_counts_for_the_very_activations_that_its_signature_names() -> None:
    """Neither end can say later that they were others."""
    other = replace(REQUEST, payload=b"\x01" + bytes(47))
    wire = wire_digest(other.payload)
    with pytest.raises(OutOfTurn):
        check_grad(CHAIN, RUN, SPEC, other, wire, ANSWER, ABOVE.peer)
    with pytest.raises(BadSignature):
        check_grad(CHAIN, RUN, SPEC, other, wire, replace(ANSWER, activations=wire), ABOVE.peer)


@pytest.mark.rule("T3a")
def test_a_digest_that_is_known_is_not_taken_again() -> None:
    assert sign_microbatch(BELOW, CHAIN, RUN, unsigned(), WIRE) == REQUEST


@pytest.mark.rule("T3")
def test_the_wire_digest_names_the_bytes() -> None:
    assert wire_digest(b"a") != wire_digest(b"b")


def test_the_largest_micro_batch_of_any_run_fits_the_longest_frame() -> None:
    """And nothing longer is read, though it were one: what is read was admitted under this limit."""
    names = ("round", "step", "microbatch", "origin", "incarnation", "version")
    far = dict.fromkeys(names, COUNT_MAX)
    largest = replace(REQUEST, **far, payload=bytes(1024 * 4096 * 2))
    assert len(encode(largest)) < LONGEST_FRAME_BYTES
    answer = replace(ANSWER, **far, payload=largest.payload)
    assert decode_answer(encode(answer)) == answer
    with pytest.raises(BadEncoding, match=f"at most {LONGEST_FRAME_BYTES}"):
        decode_answer(encode(replace(answer, payload=bytes(LONGEST_FRAME_BYTES))))


def test_results_that_are_not_finite_are_not_sent() -> None:
    assert wire_of(SPEC, torch.ones(2)) == b"\x80\x3f" * 2
    with pytest.raises(PeerFault):
        wire_of(SPEC, torch.tensor([1.0, float("nan")]))


def test_a_loss_is_counted_in_millionths_and_no_model_is_that_wrong() -> None:
    assert loss_micro_of(2.5) == 2_500_000
    assert loss_micro_of(-1e-6) == 0
    for loss in (float("nan"), float("inf"), LOSS_MICRO_MAX / 1e6 + 1):
        with pytest.raises(PeerFault):
            loss_micro_of(loss)


def test_every_payload_of_a_run_has_one_length() -> None:
    assert activation_bytes(SPEC) == len(REQUEST.payload) == len(ANSWER.payload)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": -1},
        {"tokens": COUNT_MAX + 1},
        {"loss_micro": NO_LOSS - 1},
        {"loss_micro": LOSS_MICRO_MAX + 1},
        {"step": -1},
        {"version": COUNT_MAX + 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_numbers_of_a_gradient_in_a_log_are_bounded_too(changes: dict[str, object]) -> None:
    """Where no request stands beside it."""
    check_numbers(ANSWER)
    with pytest.raises(BadEncoding):
        check_numbers(replace(ANSWER, **changes))
