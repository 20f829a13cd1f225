"""Serve generation requests of the local API with the model of a running swarm.

Shell: one task per request; the client polls for new tokens, so that they can be shown as they come.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Protocol

import trio
from torch import Tensor

from swarm.errors import SwarmError, Unreachable, UsageError
from swarm.executor import ExecutorPort
from swarm.ledger.state.records import Run
from swarm.ledger.views import Boundary, boundaries
from swarm.node.inference.client import PipelineClient
from swarm.node.inference.server import PROTOCOL, InferenceServer, Weights
from swarm.node.ports import HasConfig, HasHost, HasMe, HasRun
from swarm.primitives.crypto import peer_name
from swarm.primitives.randomness import stream
from swarm.training.inference.sampling import Sampling, TokenSampler
from swarm.training.inference.sessions import REPLY_BYTES_MAX
from swarm.training.model.stages import plan_stages
from swarm.types import PeerId
from swarm.web.app import Action

GENERATIONS_MAX = 4
"""Requests at once: a person has a few terminals."""
UNREAD_MAX = 256
"""Tokens that wait for the client; then the generation waits too."""
READER_S = 30.0
"""Seconds without a poll after which a request is abandoned."""
LONG_POLL_S = 5.0
"""Seconds that one poll waits for a token."""
CALL_S = 20.0
"""Seconds to wait for one stage: a first request may read a checkpoint from its disk."""
TOKENS_MAX = 100_000
PROMPT_TOKENS_MAX = 8_000
"""Prompt tokens that fit the body of one request."""
SEED_MAX = (1 << 64) - 1


class RootArtifacts(Weights, Protocol):
    """Weights by their hashes: ``ArtifactCache``."""


class GeneratingNode(HasMe, HasRun, HasHost, Protocol):
    """Parts of a node that generate with the model of its run."""

    @property
    def artifacts(self) -> RootArtifacts:
        """Weights by their hashes."""
        ...


class SharingNode(GeneratingNode, HasConfig, Protocol):
    """Parts of a node that may generate for others too."""


@dataclass(slots=True)
class _Generation:
    scope: trio.CancelScope
    send: trio.MemorySendChannel[int]
    receive: trio.MemoryReceiveChannel[int]
    round: int = -1
    """Round of the checkpoint in use; -1 until the first token."""
    error: SwarmError | None = None
    holders: list[str] = field(default_factory=list[str])
    """Names of the peers that hold its session, by stage."""


@dataclass(frozen=True, slots=True)
class _GenerateRequest:
    prompt: list[int]
    count: int
    seed: int
    sampling: Sampling


class GenerationSessions:
    """Generation requests in progress on this node."""

    def __init__(
        self, context: GeneratingNode, inference: InferenceServer, nursery: trio.Nursery
    ) -> None:
        self._context, self._inference, self._nursery = context, inference, nursery
        self._generations: dict[str, _Generation] = {}

    @property
    def actions(self) -> dict[str, Action]:
        """Actions of the local API: begin a request, read on, end it."""
        return {"generate": self.begin, "generate-next": self.read, "generate-end": self.end}

    async def begin(self, wanted: Mapping[str, object]) -> Mapping[str, object]:
        """Begin a generation request; raises ``UsageError`` for an invalid one, or for one too many."""
        run = self._context.run
        if run is None:
            raise UsageError("this node has no run yet", hint="swarm status")
        if len(self._generations) >= GENERATIONS_MAX:
            raise UsageError(
                f"{GENERATIONS_MAX} generations are in progress already", hint="wait for one"
            )
        request = _read_request(wanted)
        rng = stream(request.seed.to_bytes(8, "big"), "cli.generate")
        sampler = TokenSampler(run.spec.model, request.prompt, rng, request.sampling)
        send, receive = trio.open_memory_channel[int](UNREAD_MAX)
        name = secrets.token_hex(8)
        generation = self._generations[name] = _Generation(
            trio.move_on_after(READER_S), send, receive
        )
        self._nursery.start_soon(
            partial(self._write, name, generation, run, sampler, request.count)
        )
        return {"id": name}

    async def read(self, wanted: Mapping[str, object]) -> Mapping[str, object]:
        """Return the tokens since the last poll, as soon as there is one; raises what ended the request."""
        generation = self._generation(wanted)
        generation.scope.deadline = trio.current_time() + READER_S
        tokens, is_over = list[int](), False
        try:
            with trio.move_on_after(LONG_POLL_S):
                tokens.append(await generation.receive.receive())
            while tokens:
                tokens.append(generation.receive.receive_nowait())
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            is_over = True
        if is_over and not tokens and generation.error is not None:
            self._drop(wanted)
            raise generation.error
        if is_over and generation.error is None:
            self._drop(wanted)
        is_over = is_over and generation.error is None
        return {
            "tokens": tokens, "is_over": is_over, "round": generation.round, "peers": generation.holders,
        }  # fmt: skip

    async def end(self, wanted: Mapping[str, object]) -> Mapping[str, object]:
        """Abandon a request."""
        self._generation(wanted)
        self._drop(wanted)
        return {}

    # --- generating ---

    async def _write(
        self, name: str, generation: _Generation, run: Run, sampler: TokenSampler, count: int
    ) -> None:
        with generation.scope:
            with generation.send:
                try:
                    pipeline, logits_V = await self._first(run, sampler, generation)
                    for number in range(count):
                        if number:
                            logits_V = await pipeline.logits(sampler.fresh, sampler.position)
                        generation.holders = [peer_name(peer) for peer in pipeline.holders if peer]
                        await generation.send.send(sampler.take(logits_V))
                except SwarmError as error:
                    generation.error = error
            await trio.sleep_forever()  # until it is read to its end, or abandoned
        self._generations.pop(name, None)

    async def _first(
        self, run: Run, sampler: TokenSampler, generation: _Generation
    ) -> tuple[PipelineClient, Tensor]:
        """Return a client and its first logits, with the newest weights that every stage can use.

        Peers may not have fetched the last checkpoints yet. Raises ``Unreachable`` if no weights can be used.
        """
        context, plans = self._context, plan_stages(run.spec.model, run.spec.num_stages)
        refused = Unreachable("no stage has weights to go on with")
        for boundary in await self._boundaries(run):
            pipeline = PipelineClient(
                run.index,
                plans,
                boundary,
                peers=self._peers,
                call=self._call,
                blame=context.host.blame,
            )
            try:
                logits_V = await pipeline.logits(sampler.fresh, sampler.position)
            except Unreachable as error:
                refused = error
                continue
            generation.round = boundary.round
            return pipeline, logits_V
        raise refused

    async def _boundaries(self, run: Run) -> list[Boundary]:
        """Return the weights to generate with, newest first; last those that the run starts from."""
        first = tuple(start.weights for start in run.spec.starts)
        return [*boundaries(run), Boundary(0, first)]

    def _peers(self, stage: int) -> list[PeerId]:
        """Return the peers of a stage, present and recent: ourselves, then connected ones, in random order."""
        context, run = self._context, self._context.run
        if run is None:
            return []
        rosters = [run.seats, *(info.seats for info in run.rounds)]
        named = {seat.peer for roster in rosters for seat in roster[stage]} | {run.owner}
        connected = {*context.host.connected(), context.me}
        mixed = sorted(named)
        Random(secrets.randbits(64)).shuffle(mixed)
        return sorted(mixed, key=lambda peer: (peer != context.me, peer not in connected))

    async def _call(self, peer: PeerId, request: bytes) -> bytes:
        if peer == self._context.me:
            return await self._inference.answer(peer, request)
        return await self._context.host.call(
            peer, PROTOCOL, request, timeout_s=CALL_S, reply_limit=REPLY_BYTES_MAX
        )

    # --- lookup ---

    def _generation(self, wanted: Mapping[str, object]) -> _Generation:
        generation = self._generations.get(str(wanted.get("id")))
        if generation is None:
            raise UsageError("no such generation is in progress", hint="swarm generate --swarm")
        return generation

    def _drop(self, wanted: Mapping[str, object]) -> None:
        generation = self._generations.pop(str(wanted.get("id")), None)
        if generation is not None:
            generation.scope.cancel()


def sessions_of(
    context: SharingNode, compute: ExecutorPort, nursery: trio.Nursery
) -> GenerationSessions:
    """Serve the model of the run: to the local user, and to peers if the node file allows it."""
    inference = InferenceServer(context.host, context.artifacts, compute, lambda: context.run)
    if context.config.generate:
        inference.serve()
    return GenerationSessions(context, inference, nursery)


def _read_request(wanted: Mapping[str, object]) -> _GenerateRequest:
    """Parse a generation request; raises ``UsageError`` if it is invalid."""
    listed = wanted.get("tokens")
    items: list[object] = listed if isinstance(listed, list) else []
    prompt = [item for item in items if isinstance(item, int) and not isinstance(item, bool)]
    if len(prompt) != len(items) or not 1 <= len(prompt) <= PROMPT_TOKENS_MAX:
        raise UsageError(f"a prompt is a list of 1 to {PROMPT_TOKENS_MAX} tokens")
    numbers = {
        name: _number(wanted.get(name, default), name, most)
        for name, default, most in (
            ("count", 100, TOKENS_MAX),
            ("seed", 0, SEED_MAX),
            ("top_k", 40, 1 << 30),
        )
    }
    temperature, top_p = (wanted.get(n, d) for n, d in (("temperature", 0.8), ("top_p", 1.0)))
    if not isinstance(temperature, int | float) or not isinstance(top_p, int | float):
        raise UsageError("temperature and top_p are numbers")
    sampling = Sampling(float(temperature), numbers["top_k"], float(top_p))
    return _GenerateRequest(prompt, numbers["count"], numbers["seed"], sampling)


def _number(value: object, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise UsageError(f"{name} is a whole number from 0 to {most}")
    return value
