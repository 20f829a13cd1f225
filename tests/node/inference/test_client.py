"""A text through stages elsewhere has the logits it would have here, also when peers die, restart, or lie."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from trio.testing import MockClock

from swarm.config.spec import NANO, AdapterSpec
from swarm.errors import Unreachable
from swarm.ledger.state.records import Run
from swarm.ledger.views import Boundary
from swarm.node.inference.client import PipelineClient
from swarm.node.inference.server import PROTOCOL, InferenceServer
from swarm.primitives.codec import decode, encode, replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.randomness import stream
from swarm.testing.executor import InlineExecutor
from swarm.training.inference.evaluate import whole_model
from swarm.training.inference.sampling import Sampling, TokenSampler, generate
from swarm.training.inference.sessions import RefusalReason, StageRefusal, StageReply, StageRequest
from swarm.training.model.profiles import table
from swarm.training.model.stages import Stage, adapter_plan, init_flat, plan_stages, plans_of
from swarm.types import Digest, PeerId, RunIndex, StageIndex
from tests.fakes import FakeHost, FakeNetwork
from tests.training.pipeline import a_spec

Event = Callable[[int, PipelineClient], Awaitable[None]]
"""Something that happens before a token."""
EXACT = "seq-f32/1"
SPEC = a_spec(stages=3, numerics=EXACT)
PLANS = plan_stages(SPEC.model, 3)
FLATS = [init_flat(plan, 7) for plan in PLANS]
ROOTS = tuple(hash_of(flat) for flat in FLATS)
PROMPT = [3, 1, 4, 1, 5]


class FakeArtifacts:
    """The weights of all stages."""

    async def served(self, run: Run, stage: StageIndex, root: Digest) -> Tensor | None:
        return FLATS[stage] if root == ROOTS[stage] else None

    async def base(self, run: Run, stage: StageIndex, *, is_here: bool = False) -> Tensor | None:
        return None


class Harness:
    """``replicas`` peers for each of three stages, and one who writes."""

    def __init__(self, replicas: int = 2) -> None:
        self.network = FakeNetwork()
        self.writer = self.network.host(1)
        self.hosts: list[list[FakeHost]] = []
        for stage in range(3):
            hosts = [self.network.host(10 + stage * replicas + i) for i in range(replicas)]
            for host in hosts:
                self.serve(host)
            self.hosts.append(hosts)

    def serve(self, host: FakeHost) -> None:
        """As after a start: nothing is remembered."""
        run: Any = type("R", (), {"index": RunIndex(2), "spec": SPEC, "spec_digest": SPEC.digest})()
        compute = InlineExecutor(lambda _: 0.01)
        InferenceServer(host, FakeArtifacts(), compute, lambda: run).serve()

    def client(self, roots: tuple[Digest, ...] = ROOTS) -> PipelineClient:
        async def call(peer: PeerId, request: bytes) -> bytes:
            return await self.writer.call(peer, PROTOCOL, request, timeout_s=5.0)

        return PipelineClient(
            RunIndex(2),
            PLANS,
            Boundary(4, roots),
            peers=lambda stage: [host.peer for host in self.hosts[stage]],
            call=call,
            blame=self.writer.blame,
        )

    def host_of(self, peer: PeerId | None) -> FakeHost:
        return next(host for hosts in self.hosts for host in hosts if host.peer == peer)


async def written(client: PipelineClient, count: int, each: Event | None = None) -> list[int]:
    writer = TokenSampler(SPEC.model, PROMPT, stream(b"s", "test"), Sampling())
    found = list[int]()
    for number in range(count):
        if each is not None:
            await each(number, client)
        found.append(writer.take(await client.logits(writer.fresh, writer.position)))
    return found


def here(count: int) -> list[int]:
    stage = whole_model(SPEC.model, table(EXACT))
    return list(generate(stage, torch.cat(FLATS), PROMPT, count, stream(b"s", "test"), Sampling()))


@pytest.mark.rule("N17", "T32")
async def test_the_swarm_writes_what_the_checkpoint_writes_here(autojump_clock: MockClock) -> None:
    """Bit for bit with exact operators, past the end of the context too (it has 16 positions)."""
    harness = Harness()
    client = harness.client()
    assert await written(client, 40) == here(40)
    assert len(set(client.holders)) == 3
    calls = sum(harness.writer.calls.values())
    assert calls == 3 * 40  # one request for each stage and token: keys and values were kept


@pytest.mark.rule("N17")
async def test_a_replica_goes_on_when_a_peer_dies_in_the_middle(autojump_clock: MockClock) -> None:
    harness = Harness()

    async def kill(number: int, client: PipelineClient) -> None:
        if number == 6:
            harness.host_of(client.holders[1]).is_alive = False
        if number == 9:
            harness.host_of(client.holders[0]).is_alive = False

    assert await written(harness.client(), 20, kill) == here(20)


async def test_a_peer_that_restarted_gets_all_tokens_again(autojump_clock: MockClock) -> None:
    harness = Harness(replicas=1)

    async def restart(number: int, client: PipelineClient) -> None:
        if number in {4, 11}:
            harness.serve(harness.host_of(client.holders[2]))

    assert await written(harness.client(), 20, restart) == here(20)


@pytest.mark.rule("N17")
async def test_a_cheating_peer_is_blamed_and_left_out(autojump_clock: MockClock) -> None:
    harness = Harness()
    cheat = harness.hosts[1][0]

    async def lie(_: PeerId, __: bytes) -> bytes:
        return encode(StageReply(b"short"))

    cheat.serve(PROTOCOL, lie, request_limit=1 << 22)
    assert await written(harness.client(), 8) == here(8)
    assert harness.writer.blamed[0][0] == cheat.peer


async def test_a_stage_without_peers_is_an_error(autojump_clock: MockClock) -> None:
    harness = Harness()
    for host in harness.hosts[2]:
        host.is_alive = False
    with pytest.raises(Unreachable, match="no peer of stage 2"):
        await written(harness.client(), 1)
    with pytest.raises(Unreachable, match="no peer of stage 0"):
        await written(Harness().client((Digest(bytes(32)), *ROOTS[1:])), 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": 3}, RefusalReason.UNKNOWN),
        ({"stage": 3}, RefusalReason.UNKNOWN),
        ({"stage": -1}, RefusalReason.UNKNOWN),
        ({"root": Digest(b"x" * 32)}, RefusalReason.UNKNOWN),
        ({"position": 5}, RefusalReason.LOST),
    ],
)
async def test_what_is_not_here_is_refused(changes: dict[str, Any], reason: RefusalReason) -> None:
    harness = Harness(replicas=1)
    fields: dict[str, Any] = {
        "run": 2, "stage": 0, "root": ROOTS[0], "session": bytes(16), "position": 0, "rows": 1,
        "payload": bytes(4), **changes,
    }  # fmt: skip
    request = StageRequest(**fields)
    raw = await harness.writer.call(
        harness.hosts[0][0].peer, PROTOCOL, encode(request), timeout_s=5.0
    )
    assert decode(StageRefusal, raw) == StageRefusal(reason)


@pytest.mark.parametrize("raw", [b"", b"\xff" * 50, encode((1, 2, 3))])
async def test_junk_is_the_peers_fault(raw: bytes) -> None:
    harness = Harness(replicas=1)
    host = harness.hosts[0][0]
    with pytest.raises(Unreachable):
        await harness.writer.call(host.peer, PROTOCOL, raw, timeout_s=5.0)
    assert host.blamed[0][0] == harness.writer.peer


@pytest.mark.rule("N17", "T40")
async def test_an_adapter_writes_on_its_base_and_not_without_it(autojump_clock: MockClock) -> None:
    """Bit for bit; a stage whose weights below are not here is refused, and nothing is fetched for a text."""
    adapter = AdapterSpec(2, 4 * NANO, ("q", "down"), ROOTS)
    spec = replace(SPEC, adapter=adapter)
    plans = plans_of(spec)
    flats = [init_flat(plan, 3) + 0.05 for plan in plans]
    roots = tuple(map(hash_of, flats))
    missing = set[int]()

    class Artifacts:
        async def served(self, run: Run, stage: StageIndex, root: Digest) -> Tensor | None:
            return flats[stage] if root == roots[stage] else None

        async def base(
            self, run: Run, stage: StageIndex, *, is_here: bool = False
        ) -> Tensor | None:
            assert is_here
            if stage in missing:
                raise Unreachable("not here")
            return FLATS[stage]

    def ask(network: FakeNetwork, number: int) -> PipelineClient:
        writer, host = network.host(1), network.host(number)
        run: Any = type("R", (), {"index": RunIndex(2), "spec": spec, "spec_digest": spec.digest})()
        InferenceServer(host, Artifacts(), InlineExecutor(lambda _: 0.01), lambda: run).serve()

        async def call(peer: PeerId, request: bytes) -> bytes:
            return await writer.call(peer, PROTOCOL, request, timeout_s=5.0)

        return PipelineClient(
            RunIndex(2),
            plans,
            Boundary(4, roots),
            peers=lambda _: [host.peer],
            call=call,
            blame=writer.blame,
        )

    (whole,) = plan_stages(spec.model, 1)
    stage = Stage(adapter_plan(whole, adapter), table(EXACT), torch.cat(FLATS))
    args = (PROMPT, 20, stream(b"s", "test"), Sampling())
    assert await written(ask(FakeNetwork(), 2), 20) == list(
        generate(stage, torch.cat(flats), *args)
    )
    missing.add(1)
    with pytest.raises(Unreachable):
        await written(ask(FakeNetwork(), 2), 1)
