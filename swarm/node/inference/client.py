"""Pass one generation request through the stages of a run, each held by some peer (``swarm generate --swarm``).

Shell: calls peers, one stage after the other; if one fails during a request, a replica of its stage is sent the
whole sequence again.

The client keeps the inputs of every stage so far, at most seq_len x hidden_size numbers for each: a replica
needs nothing else. Behind a bottleneck an input has the ids of the tokens beside the activations.
Legend: T rows, V vocabulary.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence

import torch
import trio
from torch import Tensor

from swarm.errors import PeerFault, Unreachable
from swarm.ledger.views import Boundary
from swarm.primitives.codec import encode
from swarm.training.inference.sessions import (
    SESSION_BYTES,
    RefusalReason,
    StageRequest,
    outputs_of,
    payload_of,
    rows_max,
)
from swarm.training.model.bottleneck import with_ids
from swarm.training.model.stages import StagePlan
from swarm.types import PeerId, RunIndex, StageIndex

PASSES = 3
"""Times that all peers of a stage are asked before a request is given up."""
PAUSE_S = 1.0
"""Seconds between two passes: meanwhile a busy peer gets a free session, a restarted one is back."""

Call = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Function that sends a request to a peer; raises ``Unreachable`` or ``PeerFault``."""


class PipelineClient:
    """Client of the stages for one generation request."""

    def __init__(
        self,
        run: RunIndex,
        plans: Sequence[StagePlan],
        boundary: Boundary,
        *,
        peers: Callable[[int], Sequence[PeerId]],
        call: Call,
        blame: Callable[[PeerId, PeerFault], None],
    ) -> None:
        """Prepare a request.

        Args:
            run: index of the run.
            plans: plans of all stages, in order.
            boundary: weights to generate with.
            peers: returns the peers that may hold a stage, the one to ask first first.
            call: sends a request to a peer.
            blame: counts a fault against a peer.
        """
        self._run, self._plans, self._boundary = run, plans, boundary
        self._peers, self._call, self._blame = peers, call, blame
        self._session = secrets.token_bytes(SESSION_BYTES)
        self._sent: list[Tensor] = [torch.empty(0)] * len(plans)
        """Inputs of each stage so far."""
        self._holders: list[PeerId | None] = [None] * len(plans)

    @property
    def holders(self) -> tuple[PeerId | None, ...]:
        """Peer that holds the session in each stage; None if there is none."""
        return tuple(self._holders)

    async def logits(self, fresh: Sequence[int], position: int) -> Tensor:
        """Return the logits V after ``fresh``, whose first token stands at ``position``.

        Raises ``Unreachable`` if no peer of a stage answers.
        """
        ids_T = torch.tensor(fresh, dtype=torch.int64)
        rows = await self._through(self._plans[0], ids_T, position)
        for plan in self._plans[1:]:
            rows = await self._through(plan, with_ids(plan.model, rows, ids_T), position)
        return rows

    async def _through(self, plan: StagePlan, rows: Tensor, position: int) -> Tensor:
        """Pass new rows through one stage: at the session's holder, or at a replica sent all rows again."""
        stage = plan.stage
        sent = torch.cat((self._sent[stage][:position], rows)) if position else rows
        self._sent[stage] = sent
        for number in range(PASSES):
            if number:
                await trio.sleep(PAUSE_S)
            for peer in self._candidates(stage):
                first = position if peer == self._holders[stage] else 0
                found = await self._send(peer, plan, sent, first)
                if found is RefusalReason.LOST and first:
                    found = await self._send(peer, plan, sent, 0)
                if isinstance(found, Tensor):
                    self._holders[stage] = peer
                    return found if plan.is_last else found[-len(rows) :]
                if peer == self._holders[stage]:
                    self._holders[stage] = None
        raise Unreachable(
            f"no peer of stage {stage} continues the generation",
            hint="swarm peers, and again in a while",
        )

    def _candidates(self, stage: int) -> list[PeerId]:
        holder, peers = self._holders[stage], list(self._peers(stage))
        return peers if holder is None else [holder, *(p for p in peers if p != holder)]

    async def _send(
        self, peer: PeerId, plan: StagePlan, sent: Tensor, first: int
    ) -> Tensor | RefusalReason | None:
        """Send a peer the rows from ``first`` on, in pieces; return its outputs, a refusal, or None."""
        step, outputs = rows_max(plan.model), list[Tensor]()
        for at in range(first, len(sent), step):
            rows = sent[at : at + step]
            request = StageRequest(
                run=self._run,
                stage=StageIndex(plan.stage),
                root=self._boundary.roots[plan.stage],
                session=self._session,
                position=at,
                rows=len(rows),
                payload=payload_of(rows),
            )
            try:
                found = outputs_of(plan, len(rows), await self._call(peer, encode(request)))
            except Unreachable:
                return None
            except PeerFault as fault:
                self._blame(peer, fault)
                return None
            if isinstance(found, RefusalReason):
                return found
            outputs = [found] if plan.is_last else [*outputs, found]
        return outputs[0] if plan.is_last else torch.cat(outputs)
