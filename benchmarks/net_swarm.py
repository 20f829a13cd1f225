"""One peer of ours in ``scripts/bench net``: a host with its part of the table and its blobs.

Child of ``benchmarks/net.py``, told what to do on stdin. Each line in and out is one JSON object; an order is
carried out before the next one is read, and its answer has the seconds that it took.
"""

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from swarm.cli.demo.processes import pss_kb
from swarm.cli.responsive import keep_responsive
from swarm.dht.directory import Announcement
from swarm.dht.lookup import NAMED_MAX, place_of
from swarm.dht.records import parse_record
from swarm.dht.service import Dht
from swarm.dht.table import Contact, Reply
from swarm.errors import SwarmError
from swarm.gossip.news.router import Verdict
from swarm.gossip.news.service import News
from swarm.host.service import Host, open_host
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest, PeerId

if TYPE_CHECKING:
    from swarm.gossip.blobs.service import Blobs

CHAIN16 = b"bench of network"
TOPIC = "bench"
TTL_S = 3600
QUOTA_BYTES = 4 << 30

Order = Mapping[str, object]


def main() -> None:
    """Serve one parent until it closes stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seat", type=int, required=True)
    parser.add_argument("--home", type=Path, help="folder of blobs; without it there are none")
    args = parser.parse_args()
    trio.run(_serve, args.seat, args.home)


async def _serve(seat: int, home: Path | None) -> None:
    secret = SecretKey.from_seed(bytes([seat + 1]) * 32)
    async with (
        open_host(secret, listen=["127.0.0.1:0"], chain16=CHAIN16) as host,
        trio.open_nursery() as nursery,
    ):
        peer = _Peer(host, Dht(host, secret), None if home is None else _blobs(host, home))
        await nursery.start(peer.dht.run)
        nursery.start_soon(keep_responsive)
        await nursery.start(peer.news.run)
        _send({"peer": host.peer.hex(), "addresses": host.addresses()})
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            order: dict[str, object] = json.loads(line)
            began = trio.current_time()
            try:
                answer = await peer.carry_out(order)
            except SwarmError as error:
                answer = {"error": str(error)}
            _send({"seconds": trio.current_time() - began, **answer})
        nursery.cancel_scope.cancel()


def _blobs(host: Host, home: Path) -> "Blobs":
    """Serve blobs; what they import, torch too, takes seconds and most of the memory of a peer."""
    from swarm.gossip.blobs.service import Blobs  # noqa: PLC0415

    return Blobs(home, host, quota_bytes=QUOTA_BYTES)


class _Peer:
    """One host, what it publishes and what it fetches."""

    def __init__(self, host: Host, dht: Dht, blobs: "Blobs | None") -> None:
        self.dht = dht
        self.news = News(host)
        self.news.join(TOPIC, self._heard_of)
        self._heard: dict[str, float | None] = {}
        """When each text of the news was heard; None for our own."""
        self._host = host
        self._blobs = blobs

    def _heard_of(self, _peer: PeerId, data: bytes) -> Verdict:
        self._heard[data.decode("ascii")] = time.time()
        return Verdict.ACCEPT

    async def carry_out(  # noqa: PLR0911  one for each order
        self, order: Order
    ) -> dict[str, object]:
        """Carry out one order; raises ``SwarmError``."""
        match order["do"]:
            case "connect":
                await self._host.connect(_peer(order["peer"]), [str(order["address"])])
                return {}
            case "publish":
                payload = str(order["payload"]).encode("ascii")
                await self.dht.publish(str(order["topic"]), payload, TTL_S)
                return {}
            case "read":
                found = await self.dht.read(str(order["topic"]), _peer(order["peer"]))
                return {"payload": None if found is None else found.payload.decode("ascii")}
            case "provide":
                await self.dht.provide(str(order["key"]).encode("ascii"))
                return {}
            case "list":
                listed = await self.dht.find_providers(str(order["key"]).encode("ascii"), 64)
                return {"peers": [peer.hex() for peer in listed]}
            case "lie":
                self._lie(order["addresses"])
                return {}
            case "say":
                self._heard[str(order["payload"])] = None
                self.news.publish(TOPIC, str(order["payload"]).encode("ascii"))
                return {}
            case "heard":
                return {"heard": self._heard}
            case "idle":
                return await self._idle(float(str(order["for_s"])))
            case "add":
                assert self._blobs is not None, "a peer with blobs"
                root = await self._blobs.add(Path(str(order["path"])))
                return {"root": root.hex()}
            case "fetch":
                return await self._fetch(order)
            case other:
                raise ValueError(f"an order to {other}")

    def _lie(self, addresses: object) -> None:
        """Answer with forged records, and with closer peers that do not exist at these addresses."""
        assert isinstance(addresses, list), "a list of addresses"
        dht: Any = self.dht

        def reply(_asker: PeerId, place: int, *, record: bytes = b"", **_: object) -> bytes:
            keys = [secrets.token_bytes(32) for _ in range(500)]
            keys.sort(key=lambda key: place_of(key) ^ place)
            closer = tuple(Contact(key, tuple(addresses)) for key in keys[:NAMED_MAX])
            forged = replace(parse_record(record), seq=1 << 62) if record else None
            return encode(Reply(b"" if forged is None else encode(forged), (), closer))

        dht._table._reply = reply

    async def _fetch(self, order: Order) -> dict[str, object]:
        root = Digest(bytes.fromhex(str(order["root"])))
        names = order["peers"]
        assert isinstance(names, list), "a list of keys in hex"
        assert self._blobs is not None, "a peer with blobs"
        sources = [_peer(name) for name in names]
        await self._blobs.remove(root)
        began, worked = trio.current_time(), time.process_time()
        path = await self._blobs.fetch(root, QUOTA_BYTES, lambda: sources)
        seconds = trio.current_time() - began
        return {
            "seconds": seconds,
            "num_bytes": path.stat().st_size,
            "cpu_s": time.process_time() - worked,
        }

    async def _idle(self, for_s: float) -> dict[str, object]:
        """Do what a node does without work: announce itself, keep the map; return what that takes."""
        worked = time.process_time()
        with trio.move_on_after(for_s):
            await self.dht.directory_loop(self._announcement, self._host.connected)
        return {
            "cpu_share": (time.process_time() - worked) / for_s,
            "pss_mb": pss_kb(os.getpid()) / 1024 or None,
            "has_blobs": self._blobs is not None,
            "connected": len(self._host.connected()),
            "on_map": len(self.dht.peer_map.entries),
        }

    def _announcement(self) -> Announcement:
        return Announcement(
            run16=CHAIN16,
            roles=1,
            seats=((0, 0),),
            tokens_per_s=0,
            loss_milli=-1,
            round=0,
            steps=0,
            height=0,
            reachability="direct",
            version="0",
            addresses=tuple(self._host.addresses()),
            state="idle",
            num_traded=0,
            last_partner=b"",
        )


def _peer(name: object) -> PeerId:
    return PeerId(bytes.fromhex(str(name)))


def _send(answer: Order) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
