"""Machines of one network find each other's runs, and junk that somebody tells there is no ticket."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from zeroconf import ServiceStateChange

from swarm.node.join import lan
from swarm.node.join.lan import Found, choose, search, service, tell_network, ticket_of
from swarm.ticket import Ticket, format_ticket
from swarm.types import PeerId

NOW = 1_800_000_000


def a_ticket(number: int = 1, *, run: bytes = b"r" * 16, expires: int = 0) -> Ticket:
    addresses = (
        "/ip4/192.0.2.7/tcp/4001",
        "/dns/a-rather-long-name.of-a-machine.example.org/tcp/4001",
    )
    return Ticket(b"g" * 16, run, PeerId(bytes([number]) * 32), addresses, expires)


def found(ticket: Ticket) -> Found:
    return Found(format_ticket(ticket), ticket)


@pytest.mark.rule("N26")
def test_a_service_carries_a_ticket_of_any_length() -> None:
    one = found(a_ticket())
    assert len(one.text) > lan.PART_CHARS
    told = service(one.text, one.ticket)
    assert ticket_of(told.properties, NOW) == one
    assert told.parsed_addresses() == ["192.0.2.7"]
    assert told.port == 4001


@pytest.mark.rule("N26")
@pytest.mark.parametrize(
    "properties",
    [
        {},
        {b"t0": None},
        {b"t0": b"swarm1:junk"},
        {b"t0": b"\xff" * 200, b"t1": b"x" * 200, b"t2": b"y" * 99},
        {b"t0": format_ticket(a_ticket(expires=NOW - 1)).encode()},
    ],
)
def test_junk_is_no_ticket(properties: dict[bytes, bytes | None]) -> None:
    assert ticket_of(properties, NOW) is None


@pytest.mark.rule("N26")
def test_one_run_is_joined_and_of_several_the_person_chooses() -> None:
    assert choose([]) == (None, "no machine of this network tells of a run")
    one, same, other = found(a_ticket(1)), found(a_ticket(2)), found(a_ticket(3, run=b"o" * 16))
    chosen, said = choose([one, same])
    assert chosen in (one, same)
    assert "the run of" in said
    chosen, said = choose([one, other])
    assert chosen is None
    assert f"swarm join {one.text}" in said
    assert f"swarm join {other.text}" in said


@pytest.mark.rule("N26")
def test_what_a_machine_tells_is_found_by_real_multicast() -> None:
    one = found(a_ticket(7))
    try:
        teller = lan._opened()
    except OSError as error:
        pytest.skip(f"no network to ask on: {error}")
    try:
        teller.register_service(service(one.text, one.ticket))
        began = time.monotonic()
        heard = search(1.0, 1.0)
        if not heard:
            pytest.skip("multicast does not come back on this machine")
        assert one in heard
        assert time.monotonic() - began < 10.0
    finally:
        teller.close()


@pytest.mark.rule("N26")
def test_who_has_heard_of_no_run_listens_on_for_one_that_has_just_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, slept = found(a_ticket(7)), list[float]()
    told = service(one.text, one.ticket)
    asker = SimpleNamespace(close=lambda: None, get_service_info=lambda *_, **__: told)
    browsers = list[Any]()

    def browser(_: Any, kind: str, handlers: list[Any]) -> None:  # noqa: ANN401
        browsers.append((kind, handlers[0]))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if sum(slept) == 5.0:
            kind, heard = browsers[0]
            heard(asker, kind, "a node", ServiceStateChange.Added)

    monkeypatch.setattr(lan, "_opened", lambda: asker)
    monkeypatch.setattr(lan, "ServiceBrowser", browser)
    monkeypatch.setattr(lan, "sleep", sleep)
    monkeypatch.setattr(lan, "monotonic", lambda: sum(slept))
    assert search() == [one]
    assert sum(slept) == 5.0
    slept[:] = [100.0]
    browsers.clear()
    assert search() == [], "nobody is there"
    assert sum(slept) - 100.0 <= lan.PATIENCE_S + lan.AGAIN_S


class Teller:
    """What zeroconf would be told."""

    def __init__(self) -> None:
        self.told, self.closed = list[Any](), False

    def register_service(self, info: Any, **options: bool) -> None:  # noqa: ANN401
        self.told.append((info, options))

    def close(self) -> None:
        self.closed = True


def a_node(addresses: list[str]) -> Any:  # noqa: ANN401
    return SimpleNamespace(
        config=SimpleNamespace(lan=True),
        run16=bytes(16),
        me=PeerId(bytes(32)),
        genesis=SimpleNamespace(chain=b"g" * 32),
        host=SimpleNamespace(addresses=lambda: list(addresses)),
        said=[],
    )


@pytest.mark.rule("N26")
async def test_a_node_tells_once_there_is_a_run_and_takes_it_back(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    teller, node = Teller(), a_node(["/ip4/192.168.1.5/tcp/4001"])
    monkeypatch.setattr(lan, "_opened", lambda: teller)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_network, node)
        await trio.sleep(20)
        assert not teller.told, "it has no run yet"
        node.run16 = b"r" * 16
        await trio.sleep(20)
        ((info, _),) = teller.told
        heard = ticket_of(info.properties, 0)
        assert heard is not None
        assert heard.ticket.run16 == b"r" * 16
        nursery.cancel_scope.cancel()
    assert teller.closed


@pytest.mark.rule("N26")
async def test_a_node_that_moves_tells_its_new_addresses(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    tellers, addresses = list[Teller](), ["/ip4/192.168.1.5/tcp/4001"]
    node = a_node(addresses)
    node.run16 = b"r" * 16

    def opened() -> Teller:
        tellers.append(Teller())
        return tellers[-1]

    monkeypatch.setattr(lan, "_opened", opened)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_network, node)
        await trio.sleep(20)
        addresses[:] = ["/ip4/127.0.0.1/tcp/4001"]
        await trio.sleep(20)
        assert [teller.closed for teller in tellers] == [True], "it has no network for a while"
        addresses[:] = ["/ip4/10.1.1.5/tcp/4001"]
        await trio.sleep(20)
        told = [teller.told[0][0].parsed_addresses() for teller in tellers]
        assert told == [["192.168.1.5"], ["10.1.1.5"]]
        nursery.cancel_scope.cancel()
    assert all(teller.closed for teller in tellers)


@pytest.mark.rule("N26")
async def test_who_is_on_its_own_machine_alone_tells_nobody_and_no_network_is_no_error(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    teller, alone = Teller(), a_node(["/ip4/127.0.0.1/tcp/4001"])
    monkeypatch.setattr(lan, "_opened", lambda: teller)
    alone.run16 = b"r" * 16
    with trio.move_on_after(60):
        await tell_network(alone)
    assert not teller.told

    silent = a_node(["/ip4/192.168.1.5/tcp/4001"])
    silent.run16, silent.config.lan = b"r" * 16, False
    await tell_network(silent)
    assert not teller.told

    def refuse() -> None:
        raise OSError("no such device")

    monkeypatch.setattr(lan, "_opened", refuse)
    node = a_node(["/ip4/192.168.1.5/tcp/4001"])
    node.run16, node.report = b"r" * 16, lambda _, text: node.said.append(text)
    with trio.move_on_after(60):
        await tell_network(node)
    assert node.said == ["machines of this network are not told of this run: no such device"]
