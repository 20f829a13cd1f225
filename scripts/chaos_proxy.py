"""A long, narrow line on one machine: a TCP proxy with delay, rate, jitter and stalls, each way on its own.

Runs without privileges, on real sockets. A connection to the proxy reaches the target behind it; all
connections of one proxy share its line, as the peers of one household share theirs. As a program it prints one
JSON object with its port, then one more with the bytes it carried for each line it reads on stdin, and ends
with stdin.
"""

import argparse
import json
import random
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio_typing import TaskStatus

READ_BYTES = 16 << 10
QUEUE_S = 0.1
"""What waits in front of a line beyond this much time stays in the sender's socket, as at a modem."""
PIECES_MAX = 4096
"""Pieces in flight on one connection: 64 MiB, far above delay times rate of any line worth pretending."""


@dataclass(slots=True)
class Weather:
    """One direction of a line."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    """0: as fast as the machine."""
    jitter_s: float = 0.0
    """Mean of an exponential delay on top; order is kept."""
    stall_share: float = 0.0
    """Chance that a piece waits ``stall_s``, and all behind it: what a lost packet looks like to TCP."""
    stall_s: float = 0.25
    seed: int = 0
    carried: int = 0
    """Bytes that have passed."""
    _free_at: float = field(default=0.0, init=False)
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def admit(self, num_bytes: int, now: float) -> tuple[float, float]:
        """When these bytes have left the narrow place, and when they arrive."""
        self._free_at = max(self._free_at, now)
        if self.bytes_per_s > 0:
            self._free_at += num_bytes / self.bytes_per_s
        if self._rng.random() < self.stall_share:
            self._free_at += self.stall_s
        late_s = self._rng.expovariate(1 / self.jitter_s) if self.jitter_s > 0 else 0.0
        self.carried += num_bytes
        return self._free_at, self._free_at + self.delay_s + late_s


async def serve_proxy(
    host: str,
    port: int,
    there: Weather,
    back: Weather,
    below: int = 0,
    task_status: "TaskStatus[int]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry connections to ``host:port`` until cancelled; starts with the proxy's own port on loopback.

    With ``below`` that port is the highest free one under it.
    """
    async with trio.open_nursery() as nursery:
        listener = await _listener(below)
        task_status.started(int(listener.socket.getsockname()[1]))
        carry = partial(_carry, host, port, there, back)
        await trio.serve_listeners(carry, [listener], handler_nursery=nursery)


async def _listener(below: int) -> trio.SocketListener:
    for port in range(below - 1, 0, -1):
        try:
            return (await trio.open_tcp_listeners(port, host="127.0.0.1"))[0]
        except OSError:
            continue
    return (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]


async def _carry(
    host: str, port: int, there: Weather, back: Weather, near: trio.SocketStream
) -> None:
    async with near:
        try:
            far = await trio.open_tcp_stream(host, port)
        except OSError:
            return
        async with far:
            for stream in (near, far):
                # What the kernel would buffer by itself is seconds of a narrow line.
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
            with suppress(*BROKEN):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pump, near, far, there, nursery.cancel_scope)
                    nursery.start_soon(_pump, far, near, back, nursery.cancel_scope)


BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


async def _pump(
    source: trio.SocketStream, sink: trio.SocketStream, line: Weather, both: trio.CancelScope
) -> None:
    """One direction of one connection; if either end breaks, both directions end."""
    send, receive = trio.open_memory_channel[tuple[float, bytes]](PIECES_MAX)

    async def deliver() -> None:
        async for at, data in receive:
            await trio.sleep_until(at)
            try:
                await (sink.send_all(data) if data else sink.send_eof())
            except BROKEN:
                both.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliver)
        last = 0.0
        async with send:
            while True:
                try:
                    data = await source.receive_some(READ_BYTES)
                except BROKEN:
                    both.cancel()
                    return
                left_at, arrives_at = line.admit(len(data), trio.current_time())
                last = max(last, arrives_at)
                await send.send((last, data))
                if not data:
                    return
                await trio.sleep_until(left_at - QUEUE_S)


async def _main(args: argparse.Namespace) -> None:
    host, _, port = args.to.rpartition(":")
    kept = {
        "delay_s": args.delay_ms / 1000,
        "bytes_per_s": args.bytes_per_s,
        "jitter_s": args.jitter_ms / 1000,
        "stall_share": args.stall_share,
    }
    there, back = Weather(seed=1, **kept), Weather(seed=2, **kept)
    async with trio.open_nursery() as nursery:
        own = await nursery.start(serve_proxy, host, int(port), there, back, args.below)
        print(json.dumps({"port": own}), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps({"there": there.carried, "back": back.carried}), flush=True)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Parse the command line and carry until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="each way")
    parser.add_argument("--bytes-per-s", type=float, default=0.0, help="each way")
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--stall-share", type=float, default=0.0)
    parser.add_argument("--below", type=int, default=0, help="listen on a port under this one")
    trio.run(_main, parser.parse_args())


if __name__ == "__main__":
    main()
