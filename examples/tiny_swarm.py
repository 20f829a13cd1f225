"""Two peers in one process, for the other examples: one launches a tiny run, one joins it."""

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import swarm

RUN_FILE = Path(__file__).with_name("tiny.toml")


def loopback(stake: int = 0) -> swarm.NodeConfig:
    """Return the settings of a node that only this machine can reach, on ports that are free."""
    return swarm.NodeConfig(listen=("127.0.0.1:0",), api_port=0, stake=stake)


@asynccontextmanager
async def tiny_swarm() -> AsyncGenerator[tuple[swarm.Node, swarm.Node]]:
    """Open the two nodes, in homes that go away with them.

    The launcher founds a network: it is the only validator, and the only one with money. With a stake it may
    replay the work of others.
    """
    with tempfile.TemporaryDirectory() as folder:
        launch = swarm.Launch(RUN_FILE)
        config = loopback(stake=1_000_000)
        async with swarm.open_node(config, home=f"{folder}/a", start=launch) as launcher:
            run = await launcher.wait_run()
            print(f"{launcher.name} launched run {run.spec.name}; map {launcher.url}")
            join = swarm.Join(launcher.ticket())
            async with swarm.open_node(loopback(), home=f"{folder}/b", start=join) as joiner:
                await joiner.wait_run()
                print(f"{joiner.name} joined it with a ticket")
                yield launcher, joiner
