"""The composition root alone knows all parts of a node; every other module names the few that it uses."""

import re
from pathlib import Path

import swarm.node

NODE = Path(swarm.node.__file__).parent
KNOW_ALL = {"context.py", "node.py", "control/controller.py", "api/state.py", "api/vitals.py"}
"""Those of ``api`` draw the map of the whole node."""


def test_only_the_composition_root_names_the_whole_context() -> None:
    knows = {
        path.relative_to(NODE).as_posix()
        for path in NODE.rglob("*.py")
        if re.search(r"import .*\bNodeContext\b|^class NodeContext", path.read_text(), re.MULTILINE)
    }
    assert knows <= KNOW_ALL
