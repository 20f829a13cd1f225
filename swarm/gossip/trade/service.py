"""Trade fragments with partners over real links: the entry point of the gossip package.

Shell: owns the waiting, the worker threads and the blame; decides nothing. ``gossip/trade/server.py`` answers
the requests of partners, ``gossip/trade/client.py`` fetches their fragments.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio
from torch import Tensor

from swarm.errors import PeerFault, Unreachable
from swarm.executor import ExecutorPort
from swarm.gossip.trade import pull
from swarm.gossip.trade.client import fetch
from swarm.gossip.trade.messages import (
    NO_SIGNATURE,
    REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    ExchangeReply,
    ExchangeRequest,
    FragmentKey,
    Receipt,
    decode_exchange_reply,
    sign_receipt,
)
from swarm.gossip.trade.outbox import (
    NO_STANDBY,
    PARKED_MAX,
    NoteOffer,
    Outbox,
    PublishedFragment,
    StandbyReceivers,
)
from swarm.gossip.trade.payload import FragmentPayload, ReceivedFragment, open_payload
from swarm.gossip.trade.pull import Wanted
from swarm.gossip.trade.server import TradeServer
from swarm.host.ports import AsksAndAnswers
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest, PeerId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

EXCHANGE_PROTOCOL = "/swarm/exchange/1"
RECEIPT_WAIT_S = 5.0
"""Seconds to wait while sending a receipt: its loss costs the partner a proof, not a trade."""
EXCHANGES_MAX = PARKED_MAX + 64
"""Exchange requests served at once: all that may be parked, which cost nothing, and room to serve chunks."""
EXCHANGES_PER_PEER_MAX = 40
"""Exchange requests of one peer served at once: ``outbox.PARKED_PER_PEER_MAX`` parked, and room to serve
chunks."""

JOBS_MAX = 256
"""Background jobs that wait to be started, which takes one turn of the loop: two for each fragment of several
seats."""

Job = Callable[[], Awaitable[None]]


class TradeLinks(AsksAndAnswers, Protocol):
    """Part of ``swarm.host.Host`` that this package uses."""

    @property
    def peer(self) -> PeerId:
        """Public key of this node."""
        ...


class Trades:
    """Trades of one node: sends our fragments to their partners and pulls theirs."""

    def __init__(
        self,
        host: TradeLinks,
        secret: SecretKey,
        chain: Digest,
        compute: ExecutorPort,
        *,
        outbox: Outbox | None = None,
        incarnation: int = 0,
    ) -> None:
        self._host = host
        self._secret = secret
        self._chain = chain
        self._compute = compute
        self._server = TradeServer(secret, chain, compute, outbox, incarnation)
        self._jobs, self._queued_jobs = trio.open_memory_channel[Job](JOBS_MAX)
        host.serve(
            EXCHANGE_PROTOCOL,
            self._server.answer,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=EXCHANGES_MAX,
            per_peer=EXCHANGES_PER_PEER_MAX,
        )

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Run background jobs until cancelled: pack published fragments, send receipts."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for job in self._queued_jobs:
                nursery.start_soon(job)

    def publish(
        self,
        key: FragmentKey,
        snapshot: FragmentPayload,
        *,
        partner: PeerId | None,
        fallbacks: StandbyReceivers = NO_STANDBY,
        outdated: Iterable[FragmentKey] = (),
        note: NoteOffer | None = None,
    ) -> None:
        """Publish our fragment and wake the requests that are parked for it.

        Args:
            key: key of the fragment; ``key.seat`` is our seat.
            snapshot: values of the fragment; its tensors must not be written to afterwards.
            partner: peer that the beacon drew; None if it drew none.
            fallbacks: rule for the peers that may have it besides.
            outdated: keys of earlier exchanges whose fragments are dropped for it.
            note: called with each offer before it is signed; where it returns False nothing is offered.

        Raises:
            UsageError: the fragment was published before, is malformed, or is too old.
        """
        self._server.outbox.publish(key, snapshot, partner, fallbacks, outdated, note)
        self._server.wake_parked()
        self._do_soon(lambda: self._server.prepare(key))

    def published(self, key: FragmentKey) -> PublishedFragment | None:
        """Return a fragment of ours with its delivery state; None once it is two rounds old."""
        return self._server.outbox.published(key)

    def receivers(self, key: FragmentKey) -> Mapping[PeerId, int]:
        """Return the fallback partners that were admitted to a fragment of ours, with their seats."""
        fragment = self.published(key)
        return {} if fragment is None else fragment.receivers

    async def acknowledged(self, key: FragmentKey, *, deadline: float) -> PublishedFragment | None:
        """Return a fragment of ours once its partner's receipt is here; None if none came by ``deadline``."""
        return await self._server.acknowledged(key, deadline)

    async def pull(
        self,
        wanted: Wanted,
        anchor: Tensor,
        *,
        deadline: float,
        offer_by: float = math.inf,
    ) -> ReceivedFragment | None:
        """Fetch and decode the partner's fragment; return None if there is no trade.

        An invalid answer is blamed on the partner, silence is not.

        Args:
            wanted: fragment to fetch.
            anchor: flat float32 of ``wanted.numel`` values.
            deadline: time on trio's clock that bounds the transfer; decoding what arrived in time
                takes as long as the workers need.
            offer_by: time by which an offer must have come, so that another partner may be asked.
        """
        partner = wanted.partner
        try:
            delivered = await fetch(
                partial(self._call, partner),
                wanted,
                chain=self._chain,
                deadline=deadline,
                offer_by=min(deadline, offer_by),
                first_counts=pull.FIRST_COUNTS,
            )
            if delivered is None:
                return None
            payload, theta_hat = await self._compute.run(
                open_payload, delivered.offer, delivered.wire, anchor
            )
        except PeerFault as fault:
            self._host.blame(partner, fault)
            return None
        unsigned = Receipt(wanted.key, wanted.to_seat, delivered.offer.payload_hash, NO_SIGNATURE)
        receipt = sign_receipt(self._secret, self._chain, unsigned)
        self._do_soon(lambda: self._acknowledge(partner, receipt, deadline))
        return ReceivedFragment(delivered.offer, payload, theta_hat)

    def _do_soon(self, job: Job) -> None:
        with suppress(trio.WouldBlock):  # Full: packing waits for a request, a receipt is lost.
            self._jobs.send_nowait(job)

    async def _call(
        self, partner: PeerId, message: ExchangeRequest, timeout_s: float
    ) -> ExchangeReply:
        raw = await self._host.call(
            partner,
            EXCHANGE_PROTOCOL,
            encode(message),
            timeout_s=timeout_s,
            reply_limit=REPLY_BYTES_MAX,
        )
        return decode_exchange_reply(raw)

    async def _acknowledge(self, partner: PeerId, receipt: Receipt, deadline: float) -> None:
        left_s = deadline - trio.current_time()
        if left_s <= 0:
            return
        try:
            await self._call(partner, receipt, min(RECEIPT_WAIT_S, left_s))
        except Unreachable:
            pass
        except PeerFault as fault:
            self._host.blame(partner, fault)
