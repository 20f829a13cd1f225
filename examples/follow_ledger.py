"""Follow the ledger of a running node, then verify it from the disk, as anybody can afterwards.

Run it with: python examples/follow_ledger.py
"""

import trio
from tiny_swarm import tiny_swarm

import swarm

BLOCKS = 12


async def follow(node: swarm.Node) -> None:
    """Print every block with a transaction in it, then verify the chain from its genesis."""
    last = node.ledger.height + BLOCKS
    # First those that are final already, then each as it becomes so.
    async for block in node.blocks(first=1):
        if block.block.transactions:
            print("\n".join(block.lines))
        if block.height >= last:
            break
    # The ledger in a home can be read whether its node runs or not. Verifying trusts the genesis alone.
    with swarm.open_ledger(node.home) as ledger:
        report = await trio.to_thread.run_sync(ledger.verify)
        chain = report.chain
        print(f"{chain.head.state.height} blocks of {ledger.network[:12]} are valid and final")
        print(f"{chain.num_transactions} transactions, {chain.supply} units of money, none made up")
        for run in ledger.runs():
            print(f"run {run.spec.name}: {run.phase}, {run.num_segments} segments committed")


async def main() -> None:
    """Run the example."""
    async with tiny_swarm() as (_, joiner):
        await follow(joiner)


if __name__ == "__main__":
    trio.run(main)
