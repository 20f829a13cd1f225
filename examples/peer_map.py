"""Read the map of peers: who is there, how it is doing, how far away it is.

Run it with: python examples/peer_map.py
"""

import trio
from tiny_swarm import tiny_swarm

import swarm


async def show(node: swarm.Node) -> None:
    """Print the map as soon as another peer has been measured: as a table, and field by field."""
    # A map is a snapshot, and a new block is a good moment to look again.
    peer_map, blocks = node.peer_map(), node.blocks()
    while not any(peer.is_measured for peer in peer_map.others):
        await anext(blocks)
        peer_map = node.peer_map()
    print(peer_map)
    for peer in peer_map.others:
        print(f"{peer.name} is {peer.id}")
        print(f"  answers in {peer.rtt_ms} ms, {peer.up_bytes + peer.down_bytes} bytes so far")
        # What follows is the word of the peer itself; the rest was measured by this node.
        if peer.announcement is not None:
            said = peer.announcement
            print(f"  says: {said.steps} steps, block {said.height}, at {said.addresses[0]}")


async def main() -> None:
    """Run the example."""
    async with tiny_swarm() as (launcher, _):
        await show(launcher)


if __name__ == "__main__":
    trio.run(main)
