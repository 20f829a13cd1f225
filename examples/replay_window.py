"""Replay some optimizer steps of another peer, and compare every bit with what it has committed to.

Run it with: python examples/replay_window.py
"""

import trio
from tiny_swarm import tiny_swarm

import swarm


async def replay(node: swarm.Node) -> None:
    """Replay the first window of the newest segment of another peer, and print the result."""
    segment = await node.wait_segment()
    print(f"round {segment.round}, stage {segment.stage}: {segment.num_steps} steps were committed")
    result = await node.audit(segment, window=0)
    print("\n".join(result.lines))
    print(f"committed {(result.claim or b'').hex()}")
    print(f"replayed  {(result.found or b'').hex()}")
    assert result.verdict == "honest"
    assert result.claim == result.found


async def main() -> None:
    """Run the example."""
    # Peers show their logs to those who have a stake to lose: here that is the launcher.
    async with tiny_swarm() as (launcher, _):
        await replay(launcher)


if __name__ == "__main__":
    trio.run(main)
