"""Serve the stages held here to generation requests of peers (``swarm generate --swarm``).

Shell: owns the protocol and a worker of its own; ``sessions`` decides which requests are served.

The weights are a canonical checkpoint or those the run starts from, never the weights in training: these
change, and differ between the replicas of a stage, so that neither a cache nor another replica could continue a
request.
"""

from collections.abc import Callable
from typing import Protocol

import trio
from torch import Tensor

from swarm.errors import Unreachable
from swarm.executor import ExecutorPort
from swarm.ledger.state.records import Run
from swarm.primitives.codec import decode, encode
from swarm.training.inference.sampling import advance
from swarm.training.inference.sessions import (
    REQUEST_BYTES_MAX,
    RefusalReason,
    Session,
    Sessions,
    StageRefusal,
    StageReply,
    StageRequest,
    inputs_of,
    payload_of,
)
from swarm.training.model.stages import Stage, stage_of
from swarm.training.pipeline import StageLinks
from swarm.types import Digest, PeerId, StageIndex

PROTOCOL = "/swarm/generate/1"
CONCURRENCY_MAX = 16
"""Requests that one node handles at once; one worker computes them in turn."""
PER_PEER_MAX = 4


class Weights(Protocol):
    """Part of the artifact cache that this module needs."""

    async def served(self, run: Run, stage: StageIndex, root: Digest) -> Tensor | None:
        """Return the canonical weights that ``root`` names; None if they are not here."""
        ...

    async def base(self, run: Run, stage: StageIndex, *, is_here: bool = False) -> Tensor | None:
        """Return the weights below the adapter of a run, None without one; raise ``Unreachable``."""
        ...


class InferenceServer:
    """Server of this node's stages, for generation requests of peers and our own."""

    def __init__(
        self,
        host: StageLinks,
        artifacts: Weights,
        compute: ExecutorPort,
        current: Callable[[], Run | None],
    ) -> None:
        """Prepare the server; ``current`` returns the run that this node takes part in."""
        self._host, self._artifacts, self._compute = host, artifacts, compute
        self._current = current
        self._sessions = Sessions()
        self._stages: dict[tuple[Digest, int], Stage] = {}

    def serve(self) -> None:
        """Start answering requests."""
        self._host.serve(
            PROTOCOL,
            self.answer,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=CONCURRENCY_MAX,
            per_peer=PER_PEER_MAX,
        )

    async def answer(self, peer: PeerId, raw: bytes) -> bytes:
        """Continue a generation request; raises ``PeerFault`` for a message that no honest peer sends."""
        request = decode(StageRequest, raw, limit=REQUEST_BYTES_MAX)
        run = self._current()
        if run is None or run.index != request.run or not _is_stage(run, request.stage):
            return encode(StageRefusal(RefusalReason.UNKNOWN))
        try:
            stage = await self._stage(run, request.stage)
        except Unreachable:
            return encode(StageRefusal(RefusalReason.UNKNOWN))
        inputs = inputs_of(stage.plan, request)
        session = await self._session(peer, run, stage, request)
        if isinstance(session, RefusalReason):
            return encode(StageRefusal(session))
        try:
            out = await self._compute.run(advance, stage, session.params_P, session.cache, inputs)
        finally:
            self._sessions.release(session, trio.current_time())
        return encode(StageReply(payload_of(out)))

    async def _session(
        self, peer: PeerId, run: Run, stage: Stage, request: StageRequest
    ) -> Session | RefusalReason:
        found = self._sessions.find(peer, request, trio.current_time())
        if found is not None:
            return found
        params_P = await self._artifacts.served(run, request.stage, request.root)
        if params_P is None:
            return RefusalReason.UNKNOWN
        return self._sessions.begin(peer, request, stage.plan, params_P, trio.current_time())

    async def _stage(self, run: Run, stage: StageIndex) -> Stage:
        """Return a stage, with the weights below its adapter; raise ``Unreachable`` if these are not here."""
        key = (run.spec_digest, stage)
        if key not in self._stages:
            base_W = await self._artifacts.base(run, stage, is_here=True)
            of_this_run = [held for held in self._stages.items() if held[0][0] == run.spec_digest]
            self._stages = dict(of_this_run)
            self._stages[key] = stage_of(run.spec, stage, base_W)
        return self._stages[key]


def _is_stage(run: Run, stage: int) -> bool:
    return 0 <= stage < run.spec.num_stages
