"""A node sees to it that it is reached: by its router too, unless its owner says otherwise."""

from types import SimpleNamespace
from typing import Any

import pytest

from swarm.config.schema import NodeConfig
from swarm.host.upnp.mapper import keep_forwarded
from swarm.node import node


@pytest.mark.rule("H39")
@pytest.mark.parametrize(
    ("config", "is_asked"),
    [
        (NodeConfig(), True),
        (NodeConfig(upnp=False), False),
        (NodeConfig(announce=("/ip4/44.0.0.1/tcp/4001",)), False),
    ],
)
def test_the_router_is_asked_unless_the_node_file_says_otherwise(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, *, is_asked: bool
) -> None:
    begun = list[Any]()
    host = SimpleNamespace(
        reach=SimpleNamespace(keep_asking=None), relays=SimpleNamespace(keep=None)
    )
    nursery = SimpleNamespace(start_soon=lambda task, *_: begun.append(task))
    monkeypatch.setattr(node, "_named", lambda *_: [])
    setup: Any = SimpleNamespace(config=config)
    rest: dict[str, Any] = {"store": None, "host": host, "nursery": nursery, "report": print}
    node._keep_reachable(setup, **rest)
    assert (keep_forwarded in begun) is is_asked
