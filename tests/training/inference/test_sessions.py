"""Texts of others are bounded in number, bytes, time and rate, and no peer reaches another's."""

import pytest
import torch

from swarm.config.spec import ModelSpec
from swarm.primitives.codec import replace
from swarm.training.inference import sessions as module
from swarm.training.inference.sampling import advance, cache_bytes
from swarm.training.inference.sessions import (
    BEGIN_ROWS,
    IDLE_S,
    LIFE_S,
    PEERS_REMEMBERED_MAX,
    PER_PEER_MAX,
    ROWS_BURST,
    SESSIONS_MAX,
    RefusalReason,
    Session,
    Sessions,
    StageRequest,
)
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import Stage, init_flat, plan_stages
from swarm.types import Digest, PeerId, RunIndex, StageIndex

MODEL = ModelSpec(
    vocab_size=256,
    hidden_size=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=24,
    seq_len=600,
    rope_theta=10_000,
    norm_eps_nano=10_000,
)
PLAN, _ = plan_stages(MODEL, 2)
FLAT = init_flat(PLAN, 1)
ROOT = Digest(b"r" * 32)


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def ask(position: int = 0, rows: int = 1, *, name: int = 0) -> StageRequest:
    session = name.to_bytes(16, "big")
    return StageRequest(
        run=RunIndex(0),
        stage=StageIndex(0),
        root=ROOT,
        session=session,
        position=position,
        rows=rows,
        payload=b"",
    )


def serve(
    held: Sessions, who: PeerId, request: StageRequest, now: float
) -> Session | RefusalReason:
    """What a shell does with a request."""
    found = held.find(who, request, now)
    if found is None:
        found = held.begin(who, request, PLAN, FLAT, now)
    if isinstance(found, Session):
        advance(
            Stage(PLAN, NATIVE), FLAT, found.cache, torch.zeros(request.rows, dtype=torch.int64)
        )
        held.release(found, now)
    return found


def test_a_text_goes_on_and_what_is_not_held_is_lost() -> None:
    held = Sessions()
    first = serve(held, peer(1), ask(0, 5), 0.0)
    assert serve(held, peer(1), ask(5, 2), 1.0) is first
    assert serve(held, peer(1), ask(9), 2.0) is RefusalReason.LOST
    assert serve(held, peer(1), ask(6), 2.0) is first
    assert isinstance(first, Session)
    assert first.cache.length == 7
    assert serve(held, peer(1), replace(ask(7), root=Digest(bytes(32))), 2.0) is RefusalReason.LOST


def test_the_text_of_another_peer_is_out_of_reach() -> None:
    held = Sessions()
    serve(held, peer(1), ask(0, 5), 0.0)
    assert serve(held, peer(2), ask(5), 0.0) is RefusalReason.LOST


def test_a_text_has_one_request_at_a_time() -> None:
    held = Sessions()
    assert held.find(peer(1), ask(0, 5), 0.0) is None
    session = held.begin(peer(1), ask(0, 5), PLAN, FLAT, 0.0)
    assert isinstance(session, Session)
    assert held.find(peer(1), ask(0, 5), 0.0) is RefusalReason.BUSY
    held.release(session, 0.0)
    assert held.find(peer(1), ask(0, 5), 0.0) is session


def test_idle_and_old_texts_are_forgotten() -> None:
    held = Sessions()
    serve(held, peer(1), ask(0, 5), 0.0)
    assert serve(held, peer(1), ask(5), IDLE_S + 1) is RefusalReason.LOST
    serve(held, peer(1), ask(0, 5), 100.0)
    now, at = 100.0, 5
    while now < 100.0 + LIFE_S:
        assert isinstance(serve(held, peer(1), ask(at), now), Session)
        now, at = now + IDLE_S / 2, at + 1
    assert serve(held, peer(1), ask(at), now + 1) is RefusalReason.LOST
    assert len(held) == 0


@pytest.mark.rule("S35")
def test_a_peer_keeps_its_newest_texts_and_all_peers_together_no_more_than_the_limit() -> None:
    held = Sessions()
    for name in range(PER_PEER_MAX + 1):
        assert isinstance(serve(held, peer(1), ask(name=name), float(name)), Session)
    assert len(held) == PER_PEER_MAX
    assert serve(held, peer(1), ask(1, name=0), 9.0) is RefusalReason.LOST
    for number in range(2, 2 + SESSIONS_MAX):
        serve(held, peer(number), ask(), 9.0)
    assert len(held) == SESSIONS_MAX
    assert serve(held, peer(99), ask(), 9.0) is RefusalReason.BUSY


@pytest.mark.rule("S35")
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES_MAX", cache_bytes(PLAN, 600))
    held = Sessions()
    assert isinstance(serve(held, peer(1), ask(0, 400), 0.0), Session)
    assert serve(held, peer(2), ask(0, 1), 0.0) is RefusalReason.BUSY
    assert isinstance(serve(held, peer(1), ask(400, 100), 0.0), Session)


@pytest.mark.rule("S35")
def test_positions_are_rationed_by_peer() -> None:
    held, asked = Sessions(), 0
    while isinstance(serve(held, peer(1), ask(0, 512), 0.0), Session):
        asked += 1
    assert asked == int(ROWS_BURST // (512 + BEGIN_ROWS))
    assert isinstance(serve(held, peer(2), ask(0, 512), 0.0), Session)
    assert isinstance(serve(held, peer(1), ask(0, 512), 10.0), Session)


def test_peers_that_come_and_go_leave_nothing() -> None:
    held = Sessions()
    for number in range(PEERS_REMEMBERED_MAX + 50):
        held.find(peer(number), ask(3), 0.0)
    assert len(held._rates) == PEERS_REMEMBERED_MAX
