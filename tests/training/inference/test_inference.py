"""Numbers between stages come over exactly, and a request or an answer that is none is the peer's fault."""

import pytest
import torch

from swarm.config.spec import ModelSpec
from swarm.errors import BadEncoding, OutOfTurn
from swarm.primitives.codec import encode, replace
from swarm.training.inference.sessions import (
    REQUEST_BYTES_MAX,
    RefusalReason,
    StageRefusal,
    StageReply,
    StageRequest,
    inputs_of,
    outputs_of,
    payload_of,
    rows_max,
)
from swarm.training.model.stages import plan_stages
from swarm.types import Digest, RunIndex, StageIndex
from tests.training.models import TINY

MODEL = replace(TINY, seq_len=100)
FIRST, LAST = plan_stages(MODEL, 2)
IDS = torch.tensor([3, 255, 0])
ROWS = torch.linspace(-1, 1, 3 * 16).view(3, 16)


def a_request(stage: int, inputs: torch.Tensor, position: int = 0) -> StageRequest:
    root, session = Digest(bytes(32)), bytes(16)
    return StageRequest(
        run=RunIndex(0),
        stage=StageIndex(stage),
        root=root,
        session=session,
        position=position,
        rows=len(inputs),
        payload=payload_of(inputs),
    )


def test_ids_and_activations_come_over_exactly() -> None:
    assert torch.equal(inputs_of(FIRST, a_request(0, IDS)), IDS)
    assert torch.equal(inputs_of(LAST, a_request(1, ROWS)), ROWS)
    assert torch.equal(_out(FIRST, ROWS), ROWS)
    logits = torch.linspace(0, 1, 256)
    assert torch.equal(_out(LAST, logits), logits)


def _out(plan: object, outputs: torch.Tensor) -> torch.Tensor:
    found = outputs_of(plan, 3, encode(StageReply(payload_of(outputs))))  # type: ignore[arg-type]
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.rule("S35")
@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        (0, {"session": b""}),
        (0, {"session": bytes(17)}),
        (0, {"root": b""}),
        (0, {"rows": 0}),
        (0, {"rows": -1}),
        (0, {"rows": 4}),
        (0, {"rows": 1 << 60}),
        (0, {"position": -1}),
        (0, {"position": 98}),
        (0, {"payload": payload_of(torch.tensor([1, 2, 256]))}),
        (0, {"payload": payload_of(torch.tensor([1, 2, -1]))}),
        (0, {"payload": b""}),
        (1, {"payload": b""}),
        (1, {"payload": payload_of(ROWS)[:-1]}),
        (1, {"payload": payload_of(ROWS * float("inf"))}),
        (1, {"payload": payload_of(ROWS * float("nan"))}),
    ],
)
def test_a_request_that_does_not_fit_is_the_peers_fault(
    stage: int, changes: dict[str, object]
) -> None:
    request = replace(a_request(stage, ROWS if stage else IDS), **changes)
    with pytest.raises((BadEncoding, OutOfTurn)):
        inputs_of((FIRST, LAST)[stage], request)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff", encode(StageReply(b"")), encode(StageReply(payload_of(ROWS * float("nan"))))],
)
def test_an_answer_that_is_none_is_the_peers_fault(raw: bytes) -> None:
    with pytest.raises(BadEncoding):
        outputs_of(FIRST, 3, raw)


def test_a_refusal_has_a_reason_even_if_it_is_new_to_us() -> None:
    assert outputs_of(FIRST, 3, encode(StageRefusal(1))) is RefusalReason.LOST
    assert outputs_of(FIRST, 3, encode(StageRefusal(99))) is RefusalReason.UNKNOWN


def test_the_longest_request_fits_its_limit() -> None:
    wide = ModelSpec(
        vocab_size=256,
        hidden_size=16_384,
        num_layers=1,
        num_heads=64,
        num_kv_heads=64,
        intermediate_size=24,
        seq_len=16_384,
        rope_theta=10_000,
        norm_eps_nano=10_000,
    )
    assert rows_max(MODEL) == 100
    request = a_request(1, torch.zeros(rows_max(wide), 16_384))
    assert len(encode(request)) <= REQUEST_BYTES_MAX


BEHIND = plan_stages(replace(MODEL, bottleneck_rank=4, bottleneck_stages=2), 2)[1]
CODES = torch.cat((torch.linspace(-1, 1, 12).view(3, 4), IDS.unsqueeze(1)), 1)


@pytest.mark.rule("S35", "T5a")
def test_rows_behind_a_bottleneck_come_with_the_ids_of_their_tokens() -> None:
    assert torch.equal(inputs_of(BEHIND, a_request(1, CODES)), CODES)
    for rows in (CODES[:, :4], ROWS, torch.cat((CODES, CODES), 1)):
        with pytest.raises(BadEncoding):
            inputs_of(BEHIND, a_request(1, rows.contiguous()))


@pytest.mark.rule("S35", "T5a")
@pytest.mark.parametrize("value", [-1.0, 256.0, 1.5, 1e30, float("nan")])
def test_a_row_whose_id_is_none_is_the_peers_fault(value: float) -> None:
    rows = CODES.clone()
    rows[1, 4] = value
    with pytest.raises(BadEncoding):
        inputs_of(BEHIND, a_request(1, rows))
