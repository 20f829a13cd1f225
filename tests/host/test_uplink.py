"""Tests for the pace of what a node sends."""

import math

import pytest
import trio
from trio.testing import MockClock

from swarm.host import noise
from swarm.host.uplink import BURST_S, Uplink
from tests.host.test_noise import Pipe, a_session


def test_without_a_limit_nobody_waits() -> None:
    line = Uplink()
    assert [line.wait_s(1 << 30, 5.0) for _ in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.rule("H33")
def test_what_is_sent_in_a_long_time_is_the_limit_and_one_burst() -> None:
    line, now, sent = Uplink(1000.0), 100.0, 0
    while now < 200.0:
        now += line.wait_s(300, now)
        sent += 300
    assert sent <= 1000.0 * (100.0 + BURST_S) + 2 * 300
    assert sent >= 1000.0 * 100.0


def test_an_idle_line_is_not_saved_up() -> None:
    line = Uplink(1000.0)
    assert line.wait_s(1, 0.0) == 0.0
    waits = [line.wait_s(500, 1e6) for _ in range(3)]
    assert waits[0] == 0.0
    assert waits[1] == pytest.approx(0.5 - BURST_S)
    assert waits[2] == pytest.approx(1.0 - BURST_S)


@pytest.mark.rule("H33")
async def test_connections_share_the_line(autojump_clock: MockClock) -> None:
    line, sessions = Uplink(10_000.0), list[noise.NoiseSession]()
    for _ in range(2):
        near, far = Pipe(), Pipe()
        near.other = far
        session = a_session(near)
        session.uplink = line
        sessions.append(session)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(session.write, bytes(10_000))
    for session in sessions:
        await session.write(b"x")
    assert trio.current_time() - began == pytest.approx(2.0 - BURST_S, abs=0.05)


@pytest.mark.rule("H33")
async def test_who_gives_up_while_waiting_has_sent_nothing(autojump_clock: MockClock) -> None:
    near, far = Pipe(), Pipe()
    near.other = far
    session = a_session(near)
    session.uplink = Uplink(1000.0)
    await session.write(bytes(1000))
    before = len(far.incoming)
    with trio.move_on_after(0.1) as scope:
        await session.write(b"late")
    assert scope.cancelled_caught
    assert len(far.incoming) == before
    assert math.isfinite(session.uplink.wait_s(0, trio.current_time()))
