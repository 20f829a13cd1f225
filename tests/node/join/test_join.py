"""A newcomer whose ticket leads to no peer ends with that cause, in time; a peer that comes late still lets it
in.
"""

from types import SimpleNamespace as Some
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarm.config.load import genesis_of
from swarm.config.schema import RunFile
from swarm.errors import Unreachable
from swarm.events import EventKind
from swarm.host import bootstrap
from swarm.node.join import join
from swarm.node.join.join import MEET_S, SILENT_S, expect_peer, fetch_genesis, keep_connected
from swarm.primitives.codec import encode
from swarm.ticket import Ticket
from swarm.types import PeerId

PEER = PeerId(b"\1" * 32)
GENESIS = genesis_of(RunFile(), validators={PEER: 1}, accounts={}, seed=bytes(32))
LOOPBACK, PRIVATE, PUBLIC = (f"/ip4/{host}/tcp/9" for host in ("127.0.0.1", "10.0.0.1", "8.8.8.8"))


class UnreachableHost:
    """A host to which no peer is connected, until a peer comes at ``comes_s``."""

    def __init__(self, comes_s: float = float("inf")) -> None:
        self.comes_s = comes_s

    def connected(self) -> list[PeerId]:
        return [PEER] if trio.current_time() >= self.comes_s else []

    def why_parted(self, peer: PeerId) -> str:
        del peer
        return ""

    async def call(self, *_: object, **__: object) -> bytes:
        return encode(GENESIS)


def a_ticket(address: str) -> Ticket:
    return Ticket(GENESIS.chain[:16], bytes(16), PEER, (address,), 0)


@pytest.mark.parametrize(
    ("address", "cause", "hint"),
    [
        (LOOPBACK, "only on the machine that it was made on", "swarm launch --listen 0.0.0.0:4001"),
        (PRIVATE, "only in the private network", "swarm ticket new"),
        (PUBLIC, "its peer is gone or cannot be dialled", "swarm ticket new"),
    ],
)
@pytest.mark.rule("N31")
async def test_a_ticket_that_leads_to_no_peer_ends_with_its_cause(
    address: str, cause: str, hint: str, autojump_clock: trio.testing.MockClock
) -> None:
    """After the time that is named, with the reason of the last try and one command."""
    messages = list[str]()
    began = trio.current_time()
    with pytest.raises(Unreachable, match=cause) as caught:
        await fetch_genesis(
            cast("Any", UnreachableHost()),
            a_ticket(address),
            cast("Any", lambda _, text: messages.append(text)),
            {PEER: "cannot reach it (refused)"},
        )
    assert MEET_S <= trio.current_time() - began < MEET_S + 2 * join.RETRY_S
    assert "cannot reach it (refused)" in str(caught.value)
    assert caught.value.exit_code == 3
    assert hint in caught.value.hint
    assert messages, "a wait is explained"


@pytest.mark.parametrize("address", [LOOPBACK, PRIVATE, PUBLIC])
@pytest.mark.rule("N31")
async def test_a_home_that_was_here_before_is_told_that_its_ticket_leads_to_no_peer(
    address: str, autojump_clock: trio.testing.MockClock
) -> None:
    """It has the genesis, and would wait for ever; a peer that it remembers will do as well."""
    began = trio.current_time()
    with pytest.raises(Unreachable, match="no peer of this ticket answered in 60 s") as caught:
        await expect_peer(cast("Any", UnreachableHost()), a_ticket(address), {})
    assert trio.current_time() - began == MEET_S
    assert caught.value.exit_code == 3
    assert caught.value.hint
    late = UnreachableHost(trio.current_time() + MEET_S - 2)
    await expect_peer(cast("Any", late), a_ticket(address), {})


class SilentHost(UnreachableHost):
    """A host whose peers are connected and answer no question."""

    async def call(self, *_: object, **__: object) -> bytes:
        await trio.sleep(join.ASK_S)
        raise Unreachable("no answer")


@pytest.mark.rule("N31")
async def test_attack_a_ticket_of_a_peer_that_sends_nothing_ends_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began = trio.current_time()
    with pytest.raises(Unreachable, match="has sent the first block") as caught:
        await fetch_genesis(
            cast("Any", SilentHost(0.0)), a_ticket(PUBLIC), cast("Any", lambda *_: None), {}
        )
    assert SILENT_S <= trio.current_time() - began < SILENT_S + 2 * join.ASK_S
    assert caught.value.exit_code == 3
    assert caught.value.hint == "ask for a new one: swarm ticket new"


async def test_a_peer_that_comes_late_is_not_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    host = UnreachableHost(trio.current_time() + MEET_S - 2)
    found = await fetch_genesis(
        cast("Any", host), a_ticket(PUBLIC), cast("Any", lambda *_: None), {}
    )
    assert found == GENESIS


@pytest.mark.parametrize(
    ("is_new", "expected"), [(True, "for up to 60 s"), (False, "until a peer")]
)
async def test_who_was_here_before_is_told_that_it_is_tried_for_ever(
    is_new: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the reason is kept for the error at the end."""

    async def one_failure(_host: object, _targets: object, send: Any) -> None:  # noqa: ANN401
        await send.send(bootstrap.Failed(PEER, 1, "cannot reach it", 2.0))

    monkeypatch.setattr(join, "bootstrap", one_failure)
    messages, failures = list[str](), dict[PeerId, str]()

    def report(kind: EventKind, text: str, **_: object) -> None:
        assert kind is EventKind.NETWORK
        messages.append(text)
        scope.cancel()

    with trio.fail_after(5), trio.CancelScope() as scope:
        host = cast("Any", Some(connected=list[PeerId]))
        await keep_connected(host, [], cast("Any", report), is_new, failures)
    assert expected in messages[0]
    assert failures == {PEER: "cannot reach it"}
