"""A node says that a clock is wrong, and who can reach it, once, and whenever that changes."""

from types import SimpleNamespace
from typing import cast

import pytest

from swarm.events import EventKind
from swarm.host.reachability import Reachable, Verdict
from swarm.node.api.vitals import Vitals
from swarm.node.context import NodeContext
from swarm.primitives.crypto import peer_name
from swarm.testing.ledger import numbered_key
from swarm.types import PeerId

ANN, BOB = (numbered_key(number).peer for number in range(2))


@pytest.mark.rule("H21")
async def test_a_wrong_clock_is_named_once_and_its_end_too() -> None:
    told, skews = list[tuple[EventKind, str]](), dict[PeerId, int]()
    node = SimpleNamespace(
        host=SimpleNamespace(skews_s=lambda: skews),
        report=lambda kind, text, **_: told.append((kind, text)),
    )
    vitals = Vitals(cast("NodeContext", node))
    for seconds in (5, 900, 960, 1_020):
        skews[ANN] = seconds
        vitals.tell_clocks()
    assert [kind for kind, _ in told] == [EventKind.WARNING]
    assert f"the clock of {peer_name(ANN)} is 15 minutes ahead" in told[0][1]
    skews[BOB] = 1_020
    vitals.tell_clocks()
    assert "the clock of this machine is 17 minutes behind" in told[1][1]
    skews.update({ANN: 0, BOB: 0})
    for _ in range(3):
        vitals.tell_clocks()
    assert told[2:] == [(EventKind.NETWORK, "the clocks of this machine and its peers agree again")]


@pytest.mark.rule("H23")
async def test_who_can_reach_a_node_is_said_whenever_it_changes() -> None:
    told, now, relays = list[str](), [Reachable.UNKNOWN], list[str]()
    host = SimpleNamespace(
        reach=SimpleNamespace(verdict=lambda: Verdict(now[0])),
        relays=SimpleNamespace(relays=lambda: list(relays)),
        reach_text=lambda: " ".join([f"reached: {now[0]}", *relays]),
    )
    node = SimpleNamespace(host=host, report=lambda _, text, **_fields: told.append(text))
    vitals = Vitals(cast("NodeContext", node))
    for kind in (
        Reachable.UNKNOWN,
        Reachable.NOBODY,
        Reachable.NOBODY,
        Reachable.UNKNOWN,
        Reachable.NOBODY,
    ):
        now[0] = kind
        vitals.tell_reach()
    assert told == ["reached: nobody"]
    now[0] = Reachable.PUBLIC
    vitals.tell_reach()
    assert told[1:] == ["reached: public"]
    relays.append("brave-tern-458")
    vitals.tell_reach()
    vitals.tell_reach()
    assert told[2:] == ["reached: public brave-tern-458"]
