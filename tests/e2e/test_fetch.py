"""A fetch whose link is cut and whose process is killed goes on where it was, over real sockets."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from swarm.gossip.blobs.download import PER_PEER_MAX
from swarm.gossip.trade.messages import BLOB_CHUNKS_MAX
from swarm.host.service import open_host
from swarm.primitives.crypto import SecretKey
from tests.e2e.localnet import environment

pytestmark = pytest.mark.e2e

FETCHER = str(Path(__file__).with_name("fetcher.py"))
MIB = 1 << 20
TEXT = bytes(range(251)) * (48 * MIB // 251)
CUT_AFTER = 24 * MIB
ON_THE_WAY = PER_PEER_MAX * BLOB_CHUNKS_MAX * MIB
"""Bytes that are asked of one quick peer at most at any time."""
WAIT_S = 90.0


class Wire:
    """A TCP relay that counts what the sender sends, and goes dead after ``limit`` bytes of it."""

    def __init__(self, port: int, limit: int) -> None:
        self.carried = 0
        self.is_cut = trio.Event()
        self._port = port
        self._limit = limit

    async def carry(self, asking: trio.SocketStream) -> None:
        giving = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with asking, giving, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, asking, giving, False)
            nursery.start_soon(self._copy, giving, asking, True)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, counts: bool) -> None:
        try:
            async for data in source:
                self.carried += len(data) if counts else 0
                if self.carried >= self._limit:
                    self.is_cut.set()
                    await trio.sleep_forever()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


async def test_a_cut_link_and_a_kill_cost_only_what_was_on_its_way(tmp_path: Path) -> None:
    # With torch: loaded here, and not in the worker that only collects this file.
    from swarm.gossip.blobs.service import Blobs

    secret = SecretKey.from_seed(b"\x06" * 32)
    with trio.fail_after(WAIT_S):
        async with open_host(secret, listen=["127.0.0.1:0"], chain16=bytes(16)) as sender:
            blobs = Blobs(tmp_path / "sender", sender, quota_bytes=1 << 30)
            root = await blobs.add(TEXT)
            port = int(sender.addresses()[0].rpartition("/tcp/")[2].partition("/")[0])

            async def fetch(wire: Wire, *, is_killed: bool) -> int:
                async with trio.open_nursery() as nursery:
                    serve = partial(trio.serve_tcp, wire.carry, 0, host="127.0.0.1")
                    (listener,) = await nursery.start(serve)
                    at = listener.socket.getsockname()[1]
                    args = [
                        str(tmp_path / "receiver"),
                        sender.peer.hex(),
                        f"/ip4/127.0.0.1/tcp/{at}",
                    ]
                    process = await trio.lowlevel.open_process(
                        [sys.executable, FETCHER, *args, root.hex(), str(len(TEXT))],
                        env=environment(),
                        stdout=subprocess.DEVNULL,
                    )
                    try:
                        if is_killed:
                            await wire.is_cut.wait()
                            process.kill()
                        code = await process.wait()
                    finally:
                        process.kill()
                    nursery.cancel_scope.cancel()
                return code

            first = Wire(port, CUT_AFTER)
            assert await fetch(first, is_killed=True) == -signal.SIGKILL
            whole, part = (tmp_path / "receiver" / f"{root.hex()}{end}" for end in ("", ".part"))
            assert await trio.Path(part).exists()
            assert not await trio.Path(whole).exists()

            second = Wire(port, 1 << 40)
            assert await fetch(second, is_killed=False) == 0
            assert await trio.Path(whole).read_bytes() == TEXT
            assert second.carried < len(TEXT) - CUT_AFTER + ON_THE_WAY + MIB < len(TEXT)
