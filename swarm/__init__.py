"""Train one model together with strangers' machines, and prove it was done honestly.

A node in a program of one's own, under trio::

    import swarm

    async with swarm.open_node(home="~/.swarm", start=swarm.Join("swarm1:...")) as node:
        run = await node.wait_run()
        async for event in node.events():
            print(run.spec.name, event.text)

A ledger without a node::

    with swarm.open_ledger("~/.swarm") as ledger:
        print(ledger.height, ledger.verify())

Everything that fails on purpose raises a ``SwarmError`` (the tree is in ``swarm.errors``) with a sentence and
a ``hint``. Names are imported at their first use: ``import swarm`` loads neither torch nor libp2p nor trio.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.config.resources import load_node, load_run
    from swarm.config.schema import NodeConfig, RunFile
    from swarm.config.spec import RunSpec
    from swarm.errors import SwarmError
    from swarm.events import Event
    from swarm.ledger.reader import Ledger, open_ledger
    from swarm.ledger.state.records import Run
    from swarm.node.open import Node, PeerMap, open_node
    from swarm.node.start import Join, Launch, Resume

__version__ = "0.1.0"

__all__ = [
    "Event",
    "Join",
    "Launch",
    "Ledger",
    "Node",
    "NodeConfig",
    "PeerMap",
    "Resume",
    "Run",
    "RunFile",
    "RunSpec",
    "SwarmError",
    "load_node",
    "load_run",
    "open_ledger",
    "open_node",
]

_HOMES = {
    "swarm.config.resources": ("load_node", "load_run"),
    "swarm.config.schema": ("NodeConfig", "RunFile"),
    "swarm.config.spec": ("RunSpec",),
    "swarm.errors": ("SwarmError",),
    "swarm.events": ("Event",),
    "swarm.ledger.reader": ("Ledger", "open_ledger"),
    "swarm.ledger.state.records": ("Run",),
    "swarm.node.open": ("Node", "PeerMap", "open_node"),
    "swarm.node.start": ("Join", "Launch", "Resume"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'swarm' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
