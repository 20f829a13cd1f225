"""Serve the seats of this node and carry micro-batches to the next stage: the entry point of training.

Shell: owns the protocol, the blame and the deadlines; decides nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from swarm.errors import BadEncoding, OutOfTurn, PeerFault, Unreachable
from swarm.primitives.codec import LONGEST_FRAME_BYTES, decode, encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.training.messages import (
    MicroBatch,
    MicroBatchGrad,
    MicroBatchRefused,
    Refusal,
    TooBusy,
    check_grad,
    check_microbatch,
    decode_answer,
    sign_grad,
    sign_microbatch,
)
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.seat import SeatWorker
from swarm.types import Digest, PeerId

PROTOCOL = "/swarm/micro-batch/1"
CONCURRENCY_MAX = 64
"""Micro-batches handled by one node at once: waiting ones cost their payload only."""
PER_PEER_MAX = 16
SUSPECT_S = 5.0
"""Seconds for which a replica that did not answer is asked last."""
HOP_SHARE = 0.6
"""The part of the remaining budget that one candidate may use up before the next is asked."""
HOP_MIN_S = 0.5
EARLY_STRANGERS_MAX = 8
"""Micro-batches of the next round that may wait here from peers without a seat in this one: they may have a
seat in the next. More would let outsiders occupy every slot of a node.
"""


class StageLinks(Protocol):
    """Interface of the host, as far as training uses it."""

    @property
    def peer(self) -> PeerId:
        """Id of this node."""
        ...

    async def call(
        self, peer: PeerId, protocol: str, request: bytes, *, timeout_s: float, reply_limit: int
    ) -> bytes:
        """Send a request, return the reply; raise ``Unreachable`` or ``PeerFault``."""
        ...

    def serve(
        self,
        protocol: str,
        handler: Callable[[PeerId, bytes], Awaitable[bytes]],
        *,
        request_limit: int,
        concurrency: int,
        per_peer: int,
    ) -> None:
        """Answer requests of a protocol."""
        ...

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Record a fault of a peer."""
        ...


@dataclass(slots=True)
class Meter:
    """Times and counts of calls, summed over all seats of this node."""

    call_s: float = 0.0
    calls: int = 0
    refused: int = 0
    unreachable: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    per_peer_failures: dict[PeerId, int] = field(default_factory=dict)


class Pipeline:
    """All seats of this node, and the client for the seats of other peers."""

    def __init__(self, links: StageLinks, secret: SecretKey) -> None:
        self.meter = Meter()
        self._links = links
        self._secret = secret
        self._runners: dict[tuple[int, int], SeatWorker] = {}
        self._suspects: dict[PeerId, float] = {}
        self._strangers = 0

    def serve(self) -> None:
        """Start answering micro-batches."""
        self._links.serve(
            PROTOCOL,
            self._handle,
            request_limit=LONGEST_FRAME_BYTES,
            concurrency=CONCURRENCY_MAX,
            per_peer=PER_PEER_MAX,
        )

    def add(self, runner: SeatWorker) -> None:
        """Register a seat of this node."""
        self._runners[runner.stage, runner.index] = runner

    def remove(self, runner: SeatWorker) -> None:
        """Unregister a seat of this node."""
        self._runners.pop((runner.stage, runner.index), None)

    async def forward(
        self, plan: RoundPlan, request: MicroBatch, wire: Digest, budget_s: float
    ) -> MicroBatchGrad:
        """Send a micro-batch to the next stage, to the drawn replica first, and return the gradient.

        The other replicas of the stage are tried in order if one refuses, fails or does not answer in its share
        of the budget. Replicas that were unreachable lately are tried last.

        Args:
            plan: The round that the micro-batch belongs to.
            request: The micro-batch as ``request_of`` gives it.
            wire: ``wire_digest`` of its payload; an answer must name it.
            budget_s: Seconds that all replicas together may take.

        Raises:
            Unreachable: No replica answered within the budget.
        """
        deadline = trio.current_time() + budget_s
        candidates = plan.candidates(
            origin=request.origin,
            step=request.step,
            microbatch=request.microbatch,
            stage=request.stage,
        )
        for seat in self._sorted(candidates):
            left_s = deadline - trio.current_time()
            if left_s < HOP_MIN_S:
                break
            is_last_hope = seat is candidates[-1]
            hop_s = left_s if is_last_hope else max(left_s * HOP_SHARE, HOP_MIN_S)
            hop_s = min(hop_s, plan.spec.deadlines.hop_ms / 1000)
            sent = replace(request, destination=seat.index, budget_ms=int(hop_s * 1000))
            reply = await self._try(plan, sent, wire, seat.peer, hop_s)
            if reply is not None:
                return reply
        raise Unreachable(f"no replica of stage {request.stage} took the micro-batch in time")

    def _sorted(self, candidates: tuple[RosterSeat, ...]) -> list[RosterSeat]:
        now = trio.current_time()
        return sorted(candidates, key=lambda seat: self._suspects.get(seat.peer, 0.0) > now)

    async def _try(
        self, plan: RoundPlan, unsigned: MicroBatch, wire: Digest, peer: PeerId, hop_s: float
    ) -> MicroBatchGrad | None:
        chain, run_digest = plan.chain, plan.run_digest
        request = sign_microbatch(self._secret, chain, run_digest, unsigned, wire)
        started = trio.current_time()
        try:
            raw = await self._exchange(peer, encode(request), hop_s)
            answer = decode_answer(raw)
            if isinstance(answer, MicroBatchRefused):
                self.meter.refused += 1
                return None
            check_grad(chain, run_digest, plan.spec, request, wire, answer, peer)
        except Unreachable:
            self.meter.unreachable += 1
            self._suspects[peer] = trio.current_time() + SUSPECT_S
            return None
        except PeerFault as fault:
            self._links.blame(peer, fault)
            return None
        finally:
            self.meter.call_s += trio.current_time() - started
            self.meter.calls += 1
        self.meter.bytes_sent += len(request.payload)
        self.meter.bytes_received += len(answer.payload)
        return answer

    async def _exchange(self, peer: PeerId, request: bytes, timeout_s: float) -> bytes:
        if peer == self._links.peer:
            return await self._handle(peer, request)
        return await self._links.call(
            peer, PROTOCOL, request, timeout_s=timeout_s, reply_limit=LONGEST_FRAME_BYTES
        )

    async def _handle(self, peer: PeerId, raw: bytes) -> bytes:
        request = decode(MicroBatch, raw, limit=LONGEST_FRAME_BYTES)
        runner = self._runners.get((request.stage, request.destination))
        if runner is None or runner.plan is None:
            return encode(MicroBatchRefused(Refusal.UNKNOWN))
        try:
            wire = await self._admitted(runner, runner.plan, request, peer)
            plan = runner.plan
            loss_micro, payload = await runner.answer(request, request.round)
        except TooBusy:
            return encode(MicroBatchRefused(Refusal.BUSY))
        except Unreachable:
            return encode(MicroBatchRefused(Refusal.LATE))
        reply = MicroBatchGrad.reply_to(request, runner.incarnation, wire, loss_micro, payload)
        return encode(sign_grad(self._secret, plan.chain, plan.run_digest, reply))

    async def _admitted(
        self, runner: SeatWorker, plan: RoundPlan, request: MicroBatch, peer: PeerId
    ) -> Digest:
        """Wait until the micro-batch's round has begun here, check it, and return its payload's digest.

        Raises ``PeerFault`` for a micro-batch that no seat of the stage below sends, ``TooBusy`` if it must not
        wait.
        """
        wire = self._check(plan, request, peer) if request.round == plan.round else None
        if not 0 <= request.round - plan.round <= 1:
            raise TooBusy(f"round {request.round} is not this one or the next")
        if not 0 <= request.budget_ms <= plan.spec.deadlines.hop_ms:
            raise BadEncoding(f"a time budget of {request.budget_ms} ms")
        is_stranger = all(seat.peer != peer for roster in plan.rosters for seat in roster)
        if is_stranger and self._strangers >= EARLY_STRANGERS_MAX:
            raise TooBusy("too many peers without a seat wait here")
        self._strangers += is_stranger
        try:
            await runner.reach(request.round, request.budget_ms / 1000)
        finally:
            self._strangers -= is_stranger
        assert runner.plan is not None, "a round that was reached has a plan"
        if wire is None or runner.plan is not plan:
            return self._check(runner.plan, request, peer)
        return wire

    @staticmethod
    def _check(plan: RoundPlan, request: MicroBatch, peer: PeerId) -> Digest:
        """Verify sender, origin and signature of a micro-batch; return the digest of its payload."""
        source = plan.seat(request.stage - 1, request.source)
        if request.run != plan.run or source is None or source.peer != peer:
            raise OutOfTurn("a micro-batch from a peer without a seat in the stage below")
        if plan.seat(0, request.origin) is None:
            raise BadEncoding("a micro-batch of an origin that does not exist")
        return check_microbatch(plan.chain, plan.run_digest, plan.spec, request, peer)
