"""One peer of ours in ``scripts/bench wire``: a real host and its trades, told what to do on stdin.

Child of ``benchmarks/wire.py``. Each line in and out is one JSON object. A round is timed from the moment the
go-ahead is read until the partner's fragment has been mixed into ours.

Legend: N values of a fragment.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import trio
from torch import Tensor

from benchmarks.wire_reduce import MEANS, AllReduce
from swarm.executor import Executor
from swarm.gossip.trade.messages import Codec, FragmentKey
from swarm.gossip.trade.payload import FragmentPayload
from swarm.gossip.trade.pull import Wanted
from swarm.gossip.trade.service import Trades
from swarm.host.service import Host, open_host
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex

CHAIN, ANCHOR_ROOT = Digest(b"\x0c" * 32), Digest(b"\x0a" * 32)
DELTA_STD = 0.01
"""Distance of a replica from its anchor; only its shape matters to the codecs: each block has a scale."""
TRADE_S = 120.0


def main() -> None:
    """Serve one parent until it closes stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seat", type=int, required=True)
    parser.add_argument("--numel", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    trio.run(_serve, args.seat, args.numel)


async def _serve(seat: int, numel: int) -> None:
    secret = SecretKey.from_seed(bytes([seat + 1]) * 32)
    compute = Executor(niceness=0, prepare=partial(torch.set_num_threads, 1))
    peer = _Peer(seat, numel)
    try:
        async with (
            open_host(secret, listen=["127.0.0.1:0"], chain16=bytes(16)) as host,
            trio.open_nursery() as nursery,
        ):
            trades = Trades(host, secret, CHAIN, compute)
            await nursery.start(trades.run)
            _send({"peer": host.peer.hex(), "addresses": host.addresses()})
            while (order := await _receive()) is not None:
                match order["do"]:
                    case "connect":
                        partner = PeerId(bytes.fromhex(str(order["peer"])))
                        await host.connect(partner, [str(order["address"])])
                        _send({"connected": True})
                    case "trade":
                        await peer.trade(host, trades, order)
                    case "reduce":
                        await peer.reduce(host, trades, compute, order)
                    case other:
                        raise ValueError(f"an order to {other}")
            nursery.cancel_scope.cancel()
    finally:
        compute.close()


class _Peer:
    """State of one seat: its anchor and its parameters."""

    def __init__(self, seat: int, numel: int) -> None:
        self._seat = seat
        common = torch.Generator().manual_seed(0)
        self._anchor_N = torch.randn(numel, generator=common)
        self._own = torch.Generator().manual_seed(seat + 1)
        self.theta_N: Tensor = self._anchor_N.clone()

    async def trade(self, host: Host, trades: Trades, order: Mapping[str, object]) -> None:
        """Trade once with one partner; return what it cost and how well it arrived."""
        if order["fresh"]:
            self._train()
        round_index = RoundIndex(int(str(order["round"])))
        partner = PeerId(bytes.fromhex(str(order["peer"])))
        more = self._coded(str(order["codec"]))
        snapshot = FragmentPayload(self.theta_N, self._anchor_N, ANCHOR_ROOT, 1, 1, **more)
        mine, theirs = _key(round_index, self._seat), _key(round_index, int(str(order["seat"])))
        common = {"codec": more["codec"]} if more else {}
        wanted = Wanted(theirs, partner, self._seat, ANCHOR_ROOT, self.theta_N.numel(), **common)
        _send({"ready": True})
        await _receive()
        began, worked, moved = time.perf_counter(), time.process_time(), host.traffic(partner)
        trades.publish(mine, snapshot, partner=partner)
        deadline = trio.current_time() + TRADE_S
        traded = await trades.pull(wanted, self._anchor_N, deadline=deadline)
        if traded is not None:
            self.theta_N = torch.lerp(traded.values, self.theta_N, 0.5, out=traded.values)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - worked
        sent, received = host.traffic(partner)
        _send(
            {
                "seconds": seconds if traded is not None else None,
                "cpu_s": cpu_s,
                "sent": sent - moved[0],
                "received": received - moved[1],
                "faults": len(host.faults()),
            }
        )

    async def reduce(
        self, host: Host, trades: Trades, compute: Executor, order: Mapping[str, object]
    ) -> None:
        """Average once with all peers by all-reduce; return what it cost."""
        self._train()
        names: Any = order["peers"]
        peers = [PeerId(bytes.fromhex(name)) for name in names]
        all_reduce = AllReduce(trades, compute, self._seat, peers)
        delta_N, how = self.theta_N.sub_(self._anchor_N), MEANS[str(order["kind"])]
        round_index = RoundIndex(int(str(order["round"])))
        _send({"ready": True})
        await _receive()
        began, before = time.perf_counter(), [host.traffic(peer) for peer in peers]
        deadline = trio.current_time() + TRADE_S
        mean_N = await all_reduce.mean(delta_N, round_index, how, deadline)
        seconds = time.perf_counter() - began
        after = [host.traffic(peer) for peer in peers]
        sent = sum(now[0] - then[0] for now, then in zip(after, before, strict=True))
        self.theta_N = delta_N.add_(self._anchor_N)
        # The vectors of the peers are independent noise: so wide is their mean.
        width = DELTA_STD / len(peers) ** 0.5
        is_done = mean_N is not None and abs(float(mean_N.std()) - width) < width / 10
        _send({"seconds": seconds if is_done else None, "sent": sent})

    def _coded(self, codec: str) -> dict[str, Any]:
        """Return the fields of a snapshot beside its values where the round is not traded in int8."""
        if codec == Codec.INT8.name:
            return {}
        return {"codec": Codec[codec], "residual": torch.zeros_like(self.theta_N)}

    def _train(self) -> None:
        noise_N = torch.empty_like(self._anchor_N).normal_(0.0, DELTA_STD, generator=self._own)
        self.theta_N = noise_N.add_(self._anchor_N)


def _key(round_index: RoundIndex, seat: int) -> FragmentKey:
    return FragmentKey(RunIndex(1), StageIndex(0), 0, round_index, seat)


async def _receive() -> dict[str, object] | None:
    """Return the next order; None when the parent is done."""
    line = await trio.to_thread.run_sync(sys.stdin.readline)
    order: dict[str, object] | None = json.loads(line) if line else None
    return order


def _send(answer: Mapping[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
