"""The proxy carries every byte in order, no sooner than its line allows, and an end here is an end there."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from scripts.chaos_proxy import Weather, serve_proxy


def test_a_line_is_as_long_as_it_is_and_no_wider() -> None:
    line = Weather(delay_s=0.05, bytes_per_s=1000.0)
    assert [line.admit(100, now) for now in (10.0, 10.0, 20.0)] == [
        pytest.approx((10.1, 10.15)),
        pytest.approx((10.2, 10.25)),  # waits for the first
        pytest.approx((20.1, 20.15)),  # an idle line saves nothing up
    ]
    assert line.carried == 300


def test_a_stall_holds_up_all_that_comes_after() -> None:
    line = Weather(stall_share=1.0, stall_s=0.25)
    assert [line.admit(1, 0.0)[1] for _ in range(3)] == [0.25, 0.5, 0.75]


def test_jitter_is_a_function_of_its_seed() -> None:
    def late(seed: int) -> list[float]:
        line = Weather(jitter_s=0.01, seed=seed)
        return [line.admit(1, 0.0)[1] for _ in range(5)]

    assert late(1) == late(1) != late(2)
    assert min(late(1)) > 0


async def _listen(
    nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]]
) -> int:
    serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    port: int = listener.socket.getsockname()[1]
    return port


async def _echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def test_bytes_come_back_whole_and_not_too_soon() -> None:
    there, back = Weather(delay_s=0.05, bytes_per_s=1e6), Weather(delay_s=0.05)
    data = bytes(range(251)) * 400
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            port = await _listen(nursery, _echo)
            own: int = await nursery.start(serve_proxy, "127.0.0.1", port, there, back)
            async with await trio.open_tcp_stream("127.0.0.1", own) as stream:
                began = trio.current_time()
                await stream.send_all(data)
                await stream.send_eof()
                returned = b"".join([piece async for piece in stream])
            took_s = trio.current_time() - began
            nursery.cancel_scope.cancel()
    assert returned == data
    assert there.carried == back.carried == len(data)
    assert took_s >= 0.1 + len(data) / 1e6


async def test_a_connection_that_breaks_behind_the_proxy_breaks_in_front() -> None:
    async def slam(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            port = await _listen(nursery, slam)
            own: int = await nursery.start(serve_proxy, "127.0.0.1", port, Weather(), Weather())
            async with await trio.open_tcp_stream("127.0.0.1", own) as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some(1) == b""
            nursery.cancel_scope.cancel()


async def test_a_port_may_be_asked_to_be_low() -> None:
    async with trio.open_nursery() as nursery:
        own: int = await nursery.start(serve_proxy, "127.0.0.1", 1, Weather(), Weather(), 40_000)
        assert own < 40_000
        nursery.cancel_scope.cancel()
