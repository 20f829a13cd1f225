"""swarm: train one model together with strangers, and verify each other's work.

A node in a program of one's own, under trio::

    import swarm

    async with swarm.open_node(home="~/.swarm", start=swarm.Join("swarm1:...")) as node:
        run = await node.wait_run()
        async for event in node.events():
            print(run.spec.name, event.text)

A ledger without a node::

    with swarm.open_ledger("~/.swarm") as ledger:
        print(ledger.height, ledger.verify())

Every failure that is raised on purpose is a ``SwarmError`` (the tree is in ``swarm.errors``) with a sentence
and a ``hint``. Names are imported at their first use: ``import swarm`` loads neither torch nor libp2p nor trio.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.config.schema import NodeConfig, RunFile
    from swarm.errors import SwarmError
    from swarm.ledger.reader import Ledger, open_ledger
    from swarm.node.open import Node, open_node
    from swarm.node.start import Join, Launch, Resume

__version__ = "0.2.0"

__all__ = [
    "Join",
    "Launch",
    "Ledger",
    "Node",
    "NodeConfig",
    "Resume",
    "RunFile",
    "SwarmError",
    "__version__",
    "open_ledger",
    "open_node",
]

_MODULES = {
    "swarm.config.schema": ("NodeConfig", "RunFile"),
    "swarm.errors": ("SwarmError",),
    "swarm.ledger.reader": ("Ledger", "open_ledger"),
    "swarm.node.open": ("Node", "open_node"),
    "swarm.node.start": ("Join", "Launch", "Resume"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'swarm' has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
