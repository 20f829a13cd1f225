"""A process that fetches one blob over a real socket and keeps it: to be killed in the middle."""

import sys
from pathlib import Path

import trio

from swarm.gossip.blobs.service import Blobs
from swarm.host.service import open_host
from swarm.primitives.crypto import SecretKey
from swarm.types import Digest, PeerId

QUOTA_BYTES = 1 << 30


async def main(folder: str, peer_hex: str, address: str, root_hex: str, size: str) -> None:
    """Fetch ``root_hex`` of ``size`` bytes from the peer at ``address`` into ``folder``."""
    peer = PeerId(bytes.fromhex(peer_hex))
    secret = SecretKey.from_seed(b"\x07" * 32)
    async with open_host(secret, listen=["127.0.0.1:0"], chain16=bytes(16)) as host:
        await host.connect(peer, [address])
        blobs = Blobs(Path(folder), host, quota_bytes=QUOTA_BYTES)
        await blobs.fetch(Digest(bytes.fromhex(root_hex)), int(size), lambda: [peer])


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
