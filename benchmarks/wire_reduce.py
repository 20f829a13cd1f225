"""An all-reduce among a few peers over our own trades, for ``scripts/bench wire``: what DiLoCo needs.

No node does this; it is the baseline of NoLoCo's pairs over the same sockets, ciphers, hashes and signatures.
Each peer sums one share of the vector: it pulls that share from all others (reduce-scatter), and all others
pull the mean from it (all-gather). Every share is a fragment in float32, published for every peer.

Legend: N values of the vector, S of one share.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import trio
from torch import Tensor

from swarm.executor import ExecutorPort
from swarm.gossip.trade.messages import Codec, FragmentKey
from swarm.gossip.trade.outbox import StandbyReceivers
from swarm.gossip.trade.payload import FragmentPayload
from swarm.gossip.trade.pull import Wanted
from swarm.gossip.trade.service import Trades
from swarm.testing.baselines import all_reduced, data_parallel_gradient, shares
from swarm.types import NO_DIGEST, PeerId, RoundIndex, RunIndex, StageIndex

Mean = Callable[[Sequence[Tensor]], Tensor]
MEANS: dict[str, Mean] = {"diloco": all_reduced, "sync": data_parallel_gradient}
"""Content of an all-reduce: deltas of an outer step, or gradients of one step."""


class AllReduce:
    """One seat among all peers; they call ``mean`` together, with the same round."""

    def __init__(
        self, trades: Trades, compute: ExecutorPort, seat: int, peers: Sequence[PeerId]
    ) -> None:
        self._trades = trades
        self._compute = compute
        self._seat = seat
        self._peers = peers
        self._others = [other for other in range(len(peers)) if other != seat]
        self._all_others = StandbyReceivers(lambda _seat, peer: peer in peers, len(peers))

    async def mean(
        self, mine_N: Tensor, round_index: RoundIndex, how: Mean, deadline: float
    ) -> Tensor | None:
        """Return the mean of all vectors; None if one did not arrive by ``deadline``."""
        spans, seat = shares(mine_N.numel(), len(self._peers)), self._seat
        shares_S, mean_N = {seat: mine_N[spans[seat]]}, torch.empty_like(mine_N)
        for other in self._others:
            key = self._key(round_index, other, seat)
            snapshot = _snapshot(mine_N[spans[other]])
            self._trades.publish(key, snapshot, partner=self._peers[other])

        async def scatter(other: int, anchor_S: Tensor) -> None:
            share_S = await self._pull(round_index, seat, other, anchor_S, deadline)
            if share_S is not None:
                shares_S[other] = share_S

        async def gather(other: int, anchor_S: Tensor) -> None:
            requested = len(self._peers) + other
            share_S = await self._pull(round_index, requested, other, anchor_S, deadline)
            if share_S is not None:
                mean_N[spans[other]] = share_S
                arrived.append(other)

        arrived = list[int]()
        async with trio.open_nursery() as gathering:
            for other in self._others:  # Parked there until the mean is published.
                gathering.start_soon(gather, other, mine_N[spans[other]])
            async with trio.open_nursery() as scattering:
                for other in self._others:
                    scattering.start_soon(scatter, other, mine_N[spans[seat]])
            if len(shares_S) < len(self._peers):
                gathering.cancel_scope.cancel()
                return None
            every_S = [shares_S[other] for other in sorted(shares_S)]
            share_S = await self._compute.run(partial(how, every_S))
            key = self._key(round_index, len(self._peers) + seat, seat)
            snapshot = _snapshot(share_S)
            self._trades.publish(key, snapshot, partner=None, fallbacks=self._all_others)
            mean_N[spans[seat]] = share_S
        return mean_N if len(arrived) == len(self._others) else None

    async def _pull(
        self, round_index: RoundIndex, share: int, other: int, anchor_S: Tensor, deadline: float
    ) -> Tensor | None:
        key = self._key(round_index, share, other)
        numel, peer = anchor_S.numel(), self._peers[other]
        wanted = Wanted(
            key=key,
            partner=peer,
            to_seat=self._seat,
            anchor_root=NO_DIGEST,
            numel=numel,
            codec=Codec.F32,
        )
        traded = await self._trades.pull(wanted, anchor_S, deadline=deadline)
        return None if traded is None else traded.values

    @staticmethod
    def _key(round_index: RoundIndex, share: int, seat: int) -> FragmentKey:
        """Shares are numbered by who sums them; their means come behind all of them."""
        return FragmentKey(RunIndex(1), StageIndex(0), share, round_index, seat)


def _snapshot(share_S: Tensor) -> FragmentPayload:
    return FragmentPayload(
        theta=share_S, anchor=share_S, anchor_root=NO_DIGEST, step=1, tokens=1, codec=Codec.F32
    )
